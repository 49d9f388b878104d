"""Reproducible experiments with sj_ext, run from a clone: `python -m benchmarks`."""
