"""The workers that `benchmarks.compare` sets side by side: all of them do the same work."""
