"""Sparse surrogate derivatives: masks, and what to do where none is wanted."""

from sj_ext.host import surrogate_classes as _surrogate_classes
from sj_ext.registry import register as _register
from sj_ext.surrogate.bernoulli import BernoulliMask
from sj_ext.surrogate.dense_mode import dense
from sj_ext.surrogate.density import GradientDensity, LayerDensity, gradient_density
from sj_ext.surrogate.masked import MaskedSurrogate
from sj_ext.surrogate.rule import MaskRule

__all__ = [
    "BernoulliMask",
    "GradientDensity",
    "LayerDensity",
    "MaskRule",
    "MaskedSurrogate",
    "dense",
    "gradient_density",
]

# Saved configurations and pickles name a class by its public package, whichever file
# holds it today.
for _class in (BernoulliMask, MaskRule, MaskedSurrogate, GradientDensity, LayerDensity):
    _class.__module__ = __name__

for _name, _class in _surrogate_classes().items():
    _register("surrogate", _name)(_class)
