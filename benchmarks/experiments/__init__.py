"""Experiments of the papers as files: described, queued, run, collected in a table."""
