"""Centred kernel alignment: how alike layers of two networks are, and how over time.

Networks to results: `analyser` (`CKA`) runs each `side` on `batches`, and gives a
`result`, which `plots` draws and `storage` keeps. Features to numbers: `accumulator`
sums what `compare` finds between batches of layers, each reduced by `summary` to its
`gram` or its narrow features (`primal`), centred in `pairs` or ranked in `rsa`. `exact`
takes all samples at once, in tiles, from `stored` features that `spool` has written.
`functional` has the formulas, and `similarity` the matrices that come out.
"""

from sj_ext.cka.analyser import CKA
from sj_ext.cka.exact import exact_cka
from sj_ext.cka.functional import hsic, linear_cka
from sj_ext.cka.result import CKAResult, ComparedLayers, TimeDynamics
from sj_ext.cka.side import Side
from sj_ext.cka.similarity import Similarity

__all__ = [
    "CKA",
    "CKAResult",
    "ComparedLayers",
    "Side",
    "Similarity",
    "TimeDynamics",
    "exact_cka",
    "hsic",
    "linear_cka",
]

for _class in (CKA, CKAResult, ComparedLayers, Side, Similarity, TimeDynamics):
    _class.__module__ = __name__
