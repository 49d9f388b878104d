"""Temporal Fisher information: how the output of every prefix depends on the weights.

Exact by sample, or by unbiased estimators; and a score for every single weight.
"""

from sj_ext.fisher.centroid import information_centroid
from sj_ext.fisher.diagonal import fisher_diagonal
from sj_ext.fisher.result import FisherResult
from sj_ext.fisher.temporal import TemporalFisher

__all__ = ["FisherResult", "TemporalFisher", "fisher_diagonal", "information_centroid"]

for _public in (FisherResult, TemporalFisher, fisher_diagonal, information_centroid):
    _public.__module__ = __name__
