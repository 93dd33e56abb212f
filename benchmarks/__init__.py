"""Measurements. Each prints ratios of one run: machines are noisy, and only what ran side by side compares."""
