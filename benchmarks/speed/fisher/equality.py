"""Fisher information is compared in float64, parameter by parameter and step by step.

The estimators that draw labels or signs have exact values too: of a batch of one
sample, whose sign is lost in the square, and whose label the exact one draws alike.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from benchmarks.speed.fisher.candidates import (
    BATCHED,
    LOOP,
    OPACUS,
    RELEASED,
    measure,
)
from benchmarks.speed.fisher.network import Setting, frames, network
from sj_ext.fisher import TemporalFisher

_BIASED, _EXACT = 1e-6, 1e-9
"""Largest errors allowed, relative to the largest value of the parameter."""


def check_equality(
    settings: Iterable[Setting], small: Setting, peers: Iterable[str] = ()
) -> dict[str, float]:
    """Refuse to time candidates that do not compute what they claim.

    Args:
        settings: Where `batch_mean` must give what the released procedure gives.
        small: Where the exact ones must give what a loop over samples gives.
        peers: The exact peers that run here.

    Returns:
        The largest relative error of each candidate.

    Raises:
        AssertionError: If one is larger than 1e-6, of an exact one than 1e-9.
    """
    small = replace(small, dtype=torch.float64)
    errors = {"batch_mean": 0.0, BATCHED: 0.0}
    for setting in settings:
        double = replace(setting, dtype=torch.float64)
        released = measure(double, RELEASED)()
        for name in errors:
            found = measure(double, name)()
            errors[name] = max(errors[name], _error(name, found, released, _BIASED))
    truth = measure(small, LOOP)()
    exact = {name: measure(small, name)() for name in peers if name != LOOP}
    exact |= {"per_sample": measure(small, "per_sample")()}
    for name, found in exact.items():
        errors[name] = _error(name, found, truth, _EXACT)
    one_by_one = _one_by_one(small, "random_sign", "empirical")
    errors["random_sign"] = _error("random_sign", one_by_one, truth, _EXACT)
    errors["sampled_label"] = _error(
        "sampled_label",
        _one_by_one(small, "sampled_label", "model"),
        _one_by_one(small, "per_sample", "model"),
        _EXACT,
    )
    return errors


def _one_by_one(
    setting: Setting,
    estimator: Literal["per_sample", "sampled_label", "random_sign"],
    labels: Literal["model", "empirical"],
) -> dict[str, Tensor]:
    x, target = frames(setting)
    fisher = TemporalFisher(network(setting), estimator, labels)
    for i in range(setting.batch):
        fisher.update((x[:, i : i + 1], target[i : i + 1]))
    return fisher.compute().per_parameter


def _error(
    name: str, found: Mapping[str, Tensor], truth: Mapping[str, Tensor], allowed: float
) -> float:
    covered = set(truth)
    if name == OPACUS:
        covered = {parameter for parameter in truth if ".bn." not in parameter}
    if set(found) != covered:
        raise AssertionError(f"{name}: expected {sorted(covered)}, got {sorted(found)}")
    largest = 0.0
    for parameter, values in found.items():
        expected = truth[parameter]
        if not bool((expected > 0).all()):
            raise AssertionError(f"{parameter}: expected positive values")
        error = float(((values - expected).abs() / expected.max()).max())
        if not error <= allowed:
            raise AssertionError(
                f"{name}, {parameter}: expected {expected.tolist()}, got "
                f"{values.tolist()}"
            )
        largest = max(largest, error)
    return largest
