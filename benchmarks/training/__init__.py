"""Training a spiking network: one session holds all that changes while it learns."""
