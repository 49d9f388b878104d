"""Readouts: from the logits of all time steps `[T, N, K]` to one set `[N, K]`.

And losses over time, which train what is read out.
"""

from sj_ext.readout.concentration import temporal_concentration_loss
from sj_ext.readout.loss import (
    CrossEntropyLoss,
    ReadoutLoss,
    TemporalConcentrationLoss,
    TemporalEfficientTrainingLoss,
)
from sj_ext.readout.losses import (
    temporal_efficient_training_loss,
    temporally_weighted_cross_entropy,
)
from sj_ext.readout.readout import (
    LastStepReadout,
    MaxMembraneReadout,
    RateReadout,
    Readout,
)
from sj_ext.readout.temporally_weighted import TemporallyWeightedOutput

__all__ = [
    "CrossEntropyLoss",
    "LastStepReadout",
    "MaxMembraneReadout",
    "RateReadout",
    "Readout",
    "ReadoutLoss",
    "TemporalConcentrationLoss",
    "TemporalEfficientTrainingLoss",
    "TemporallyWeightedOutput",
    "temporal_concentration_loss",
    "temporal_efficient_training_loss",
    "temporally_weighted_cross_entropy",
]

for _public in (
    CrossEntropyLoss,
    LastStepReadout,
    MaxMembraneReadout,
    RateReadout,
    Readout,
    ReadoutLoss,
    TemporalConcentrationLoss,
    TemporalEfficientTrainingLoss,
    TemporallyWeightedOutput,
    temporal_concentration_loss,
    temporal_efficient_training_loss,
    temporally_weighted_cross_entropy,
):
    _public.__module__ = __name__
