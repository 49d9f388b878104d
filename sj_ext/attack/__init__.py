"""Attacks on spiking networks, through dense surrogates, and robust accuracy.

`attackable` makes a network fit for any attack library. FGSM and PGD are foolbox's;
what changes single values or events, and what needs no gradients, is here.
"""

from sj_ext.attack.adapter import Attackable, attackable
from sj_ext.attack.base import Attack, Watched
from sj_ext.attack.corruption import gaussian_blur, gaussian_noise
from sj_ext.attack.events import EventAttack
from sj_ext.attack.gradient import FGSM, PGD
from sj_ext.attack.random_search import RandomSearch
from sj_ext.attack.result import RobustnessResult
from sj_ext.attack.search import perturb, robust_accuracy
from sj_ext.attack.sparse import SparsePGD

__all__ = [
    "FGSM",
    "PGD",
    "Attack",
    "Attackable",
    "EventAttack",
    "RandomSearch",
    "RobustnessResult",
    "SparsePGD",
    "Watched",
    "attackable",
    "gaussian_blur",
    "gaussian_noise",
    "perturb",
    "robust_accuracy",
]

for _public in (
    FGSM,
    PGD,
    Attack,
    Attackable,
    EventAttack,
    RandomSearch,
    RobustnessResult,
    SparsePGD,
    Watched,
    attackable,
    gaussian_blur,
    gaussian_noise,
    perturb,
    robust_accuracy,
):
    _public.__module__ = __name__
