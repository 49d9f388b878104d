"""Speed: peers and ours in one process run, once they are seen to be equal.

Each benchmark is a function of (options, reporter), registered under "speed".
"""
