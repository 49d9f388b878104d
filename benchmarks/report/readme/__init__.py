"""The README's tables, written from `benchmarks/results`."""
