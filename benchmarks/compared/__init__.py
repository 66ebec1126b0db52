"""The workers in `benchmarks.compare`. All of them do the same work."""
