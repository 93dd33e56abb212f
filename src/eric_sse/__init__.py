"""eric_sse."""
