"""Readouts: from the logits of all time steps `[T, N, K]` to one set `[N, K]`."""

from sj_ext.readout.readout import RateReadout, Readout
from sj_ext.readout.temporally_weighted import TemporallyWeightedOutput

__all__ = ["RateReadout", "Readout", "TemporallyWeightedOutput"]

for _class in (RateReadout, Readout, TemporallyWeightedOutput):
    _class.__module__ = __name__
