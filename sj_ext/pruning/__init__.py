"""Iterative pruning guided by Fisher information, at as few time steps as will do."""

from sj_ext.pruning.choice import choose
from sj_ext.pruning.early_time import (
    ConstantTimeRule,
    EarlyTimeRule,
    KLTimeRule,
    TimeChoice,
    TimeRule,
)
from sj_ext.pruning.ledger import Cost, CostLedger, SparseOperations
from sj_ext.pruning.limits import Limits
from sj_ext.pruning.report import LayerReport, PruningReport, RoundReport
from sj_ext.pruning.scheduler import FisherPruningScheduler
from sj_ext.pruning.scores import (
    FisherMagnitudeScore,
    FisherScore,
    MagnitudeScore,
    RandomScore,
)
from sj_ext.pruning.sparsity import (
    CubicSparsity,
    GeometricSparsity,
    ListedSparsity,
    SparsitySchedule,
)
from sj_ext.pruning.synops import (
    LayerOperations,
    Operations,
    SynapticOperations,
    synop_rules,
)

__all__ = [
    "ConstantTimeRule",
    "Cost",
    "CostLedger",
    "CubicSparsity",
    "EarlyTimeRule",
    "FisherMagnitudeScore",
    "FisherPruningScheduler",
    "FisherScore",
    "GeometricSparsity",
    "KLTimeRule",
    "LayerOperations",
    "LayerReport",
    "Limits",
    "ListedSparsity",
    "MagnitudeScore",
    "Operations",
    "PruningReport",
    "RandomScore",
    "RoundReport",
    "SparseOperations",
    "SparsitySchedule",
    "SynapticOperations",
    "TimeChoice",
    "TimeRule",
    "choose",
    "synop_rules",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
