"""Masked neurons against the host and the released procedure."""
