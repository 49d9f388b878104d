"""Temporal Fisher information and its nulls through training."""
