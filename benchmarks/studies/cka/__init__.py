"""Spiking networks beside their ANN twins, layer by layer."""
