"""Sparse surrogate derivatives: masks, and what to do where none is wanted."""

from sj_ext.host import surrogate_classes as _surrogate_classes
from sj_ext.registry import register as _register
from sj_ext.surrogate.bernoulli import BernoulliMask
from sj_ext.surrogate.calibration import CalibratedWindow, calibrate_window
from sj_ext.surrogate.constant import ConstantMask
from sj_ext.surrogate.dense_mode import dense
from sj_ext.surrogate.density import (
    GradientDensity,
    LayerDensity,
    WeightDensity,
    gradient_density,
)
from sj_ext.surrogate.masked import MaskedSurrogate
from sj_ext.surrogate.noise import NoiseMask
from sj_ext.surrogate.rule import MaskRule
from sj_ext.surrogate.schedule import MaskSchedule
from sj_ext.surrogate.top_k import TopKMask
from sj_ext.surrogate.window import WindowMask

__all__ = [
    "BernoulliMask",
    "CalibratedWindow",
    "ConstantMask",
    "GradientDensity",
    "LayerDensity",
    "MaskRule",
    "MaskSchedule",
    "MaskedSurrogate",
    "NoiseMask",
    "TopKMask",
    "WeightDensity",
    "WindowMask",
    "calibrate_window",
    "dense",
    "gradient_density",
]

# Saved configurations and pickles name a class by its public package, whichever file
# holds it today.
for _class in (
    BernoulliMask,
    CalibratedWindow,
    ConstantMask,
    GradientDensity,
    LayerDensity,
    MaskRule,
    MaskSchedule,
    MaskedSurrogate,
    NoiseMask,
    TopKMask,
    WeightDensity,
    WindowMask,
):
    _class.__module__ = __name__

for _name, _class in _surrogate_classes().items():
    _register("surrogate", _name)(_class)
