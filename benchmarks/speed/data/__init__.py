"""Frames of events: the host's loader against the cache."""
