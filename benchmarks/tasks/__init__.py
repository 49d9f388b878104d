"""What `python -m benchmarks` can do: one task a file."""
