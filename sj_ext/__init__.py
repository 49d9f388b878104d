"""Masked surrogates, temporal readouts and analyses for SpikingJelly networks.

Each part is a component of its own that works in a network built with the host's
layers: see `sj_ext.surrogate`, `sj_ext.neuron` and `sj_ext.readout`.
"""

from importlib.metadata import version

from sj_ext import host, neuron, readout, surrogate
from sj_ext.registry import available, create, register

__version__ = version("sj_ext")

__all__ = [
    "__version__",
    "available",
    "create",
    "host",
    "neuron",
    "readout",
    "register",
    "surrogate",
]
