"""Temporal Fisher information against the released procedure and others."""
