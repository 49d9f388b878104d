"""How a profile over time is read: rules fixed before any result was seen.

Locating rules name the step at which the evidence is said to be:

    "prefix loss"     the step that lowers the loss of the prefixes most: the largest
                      L_(t-1) - L_t, with L_0 = log K, a guess without any step
    "change of I_t"   the step at which the information changes most: the largest
                      |I_t - I_(t-1)|, t from 2
    "peak of I_t"     the prefix with the largest I_t
    "centroid"        the information centroid, rounded

A step is off by its distance from the nearest planted step, 0 inside. Whoever names a
step at random is off by what `guess` says.

Claim rules say that the information is concentrated at early steps:

    "falls"           training lowered the centroid
    "below shuffled"  the centroid is lower than the same network's on the same samples
                      with the steps of each in random order

each by more than 1.96 standard errors of the difference, the two measurements taken as
independent. The first is what is published; the second asks for more than that the
network became confident.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sj_ext.fisher import FisherResult

_LIMIT = 1.96


def _loss_step(result: FisherResult, classes: int) -> int:
    guess = torch.tensor([math.log(classes)], dtype=torch.float64)
    falls = -torch.cat((guess, result.prefix_loss)).diff()
    return _step(falls, result)


def _change_step(result: FisherResult, classes: int) -> int:
    return int(result.steps[1 + int(result.total.diff().abs().argmax())])


def _peak_step(result: FisherResult, classes: int) -> int:
    return _step(result.total, result)


def _centroid_step(result: FisherResult, classes: int) -> int:
    return round(result.information_centroid)


LOCATING: Mapping[str, Callable[[FisherResult, int], int]] = {
    "prefix loss": _loss_step,
    "change of I_t": _change_step,
    "peak of I_t": _peak_step,
    "centroid": _centroid_step,
}
"""Rules of a result over all prefixes and the number of classes, K, by name."""


def located(result: FisherResult, classes: int) -> dict[str, int]:
    """Apply every locating rule.

    Args:
        result: Over the prefixes 1 to T.
        classes: Their number, K.

    Returns:
        A step, counted from 1, by the name of the rule.
    """
    return {name: rule(result, classes) for name, rule in LOCATING.items()}


def off_by(step: int, first: int, last: int) -> int:
    """Count the steps between a step and the planted ones.

    Args:
        step: Any, counted from 1.
        first: First planted step.
        last: Last planted step.

    Returns:
        0 from `first` to `last`.
    """
    return max(first - step, step - last, 0)


def guess(T: int, first: int, last: int) -> tuple[float, float]:
    """Say how well a random step does.

    Args:
        T: Number of steps.
        first: First planted step.
        last: Last planted step.

    Returns:
        The share of hits, and the mean distance.
    """
    distances = [off_by(step, first, last) for step in range(1, T + 1)]
    return distances.count(0) / T, sum(distances) / T


def claims(
    before: FisherResult, after: FisherResult, shuffled: FisherResult
) -> dict[str, bool]:
    """Apply both claim rules.

    Args:
        before: Of the network before training.
        after: Of the trained network.
        shuffled: Of the trained network on time-shuffled input.

    Returns:
        Whether concentration is claimed, by the name of the rule.
    """
    return {
        "falls": _is_lower(after, before),
        "below shuffled": _is_lower(after, shuffled),
    }


def _is_lower(one: FisherResult, other: FisherResult) -> bool:
    error = math.hypot(one.centroid_standard_error, other.centroid_standard_error)
    return other.information_centroid - one.information_centroid > _LIMIT * error


def _step(values: Tensor, result: FisherResult) -> int:
    return int(result.steps[int(values.argmax())])
