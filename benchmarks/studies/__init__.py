"""Experiments that train several networks and compare what they have learned."""
