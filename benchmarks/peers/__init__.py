"""eric_sse beside its peers, in one run on one machine; docs/benchmarks.md tells more.

``python -m benchmarks.peers`` measures everything, ``python -m benchmarks.peers.quick`` the core of it.
"""
