"""Centred kernel alignment: how alike layers of two networks are, and how over time."""

from sj_ext.cka.analyser import CKA
from sj_ext.cka.functional import hsic, linear_cka
from sj_ext.cka.result import CKAResult, ComparedLayers, TimeDynamics
from sj_ext.cka.side import Side

__all__ = [
    "CKA",
    "CKAResult",
    "ComparedLayers",
    "Side",
    "TimeDynamics",
    "hsic",
    "linear_cka",
]

for _class in (CKA, CKAResult, ComparedLayers, Side, TimeDynamics):
    _class.__module__ = __name__
