"""Masked surrogates, temporal readouts and analyses for SpikingJelly networks.

Each part is a component of its own that works in a network built with the host's
layers: see `sj_ext.surrogate`, `sj_ext.neuron`, `sj_ext.readout`,
`sj_ext.taps`, `sj_ext.cka`, `sj_ext.fisher`, `sj_ext.pruning` and
`sj_ext.attack`.
"""

from importlib.metadata import version

# First, as it says what is wrong where the release is none that it knows.
from sj_ext import host

# isort: split
from sj_ext import attack, cka, fisher, neuron, pruning, readout, surrogate, taps
from sj_ext.citations import cite
from sj_ext.registry import available, create, register

__version__ = version("sj_ext")

__all__ = [
    "__version__",
    "attack",
    "available",
    "cite",
    "cka",
    "create",
    "fisher",
    "host",
    "neuron",
    "pruning",
    "readout",
    "register",
    "surrogate",
    "taps",
]
