"""Speed: peers and ours in one process run, once they are seen to be equal."""
