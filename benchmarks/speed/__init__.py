"""Speed: peers and ours in one process run, once they are seen to be equal.

Each benchmark is a folder; its `benchmark.py` registers a function of (options,
reporter) under "speed".
"""
