"""The candidates: the released procedure, our estimators, and exact peers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from benchmarks.speed.fisher.loops import loop_over_samples, one_batched_backward
from benchmarks.speed.fisher.network import Setting, frames, network, training_step
from benchmarks.speed.fisher.released import released_fisher
from benchmarks.speed.fisher.with_opacus import opacus_measure
from benchmarks.speed.fisher.with_vmap import vmapped, with_vmap_rule
from sj_ext.fisher import TemporalFisher

TRAINING = "training step"
RELEASED = "released procedure"
BATCHED = "one batched backward"
LOOP = "loop over samples"
OPACUS = "Opacus, no batch norm"
VMAP = "vmap, own surrogate"
HOST_VMAP = "vmap, host's surrogate"

OURS = ("batch_mean", "random_sign", "sampled_label", "per_sample")
"""Our estimators; each is a candidate."""
FIRST = {f"{name}, first": name for name in ("batch_mean", "per_sample")}
"""Our estimators with their first batch, which is also examined; by candidate."""

MAIN = (RELEASED, *OURS, *FIRST, BATCHED, TRAINING)
PEERS = (OPACUS, VMAP, HOST_VMAP, LOOP)
"""Exact, as `per_sample` is."""

Measure = Callable[[], dict[str, Tensor]]


class Units(NamedTuple):
    """Time steps of a whole batch that a candidate runs through.

    Attributes:
        forward: Of forward passes.
        backward: Of backward passes.
    """

    forward: int
    backward: int


def work(setting: Setting, name: str) -> Callable[[], object]:
    """Build a candidate, its network and its frames.

    Args:
        setting: Of which shape.
        name: One of `MAIN` or `PEERS`.

    Returns:
        What measures one batch, or the training step.
    """
    return training_step(setting) if name == TRAINING else measure(setting, name)


def measure(setting: Setting, name: str) -> Measure:
    """Build a candidate that measures.

    Args:
        setting: Of which shape.
        name: One of `MAIN` or `PEERS` but the training step.

    Returns:
        What measures one batch: squared norms for each t, `[T]`, by parameter.
    """
    net = network(setting)
    x, target = frames(setting)
    if name in OURS or name in FIRST:
        return _ours(partial(ours, net, FIRST.get(name, name)), x, target, name)
    if name == OPACUS:
        return opacus_measure(net, x, target)
    procedures = {
        RELEASED: released_fisher,
        BATCHED: one_batched_backward,
        LOOP: loop_over_samples,
        VMAP: vmapped,
        HOST_VMAP: vmapped,
    }
    if name == VMAP:
        net = with_vmap_rule(net)
    return partial(procedures[name], net, x, target)


def ours(net: nn.Module, estimator: str) -> TemporalFisher:
    """Build ours, with the labels given unless they must be the model's.

    Args:
        net: The network.
        estimator: One of `OURS`.

    Returns:
        An empty measurement.
    """
    labels = "model" if estimator == "sampled_label" else "empirical"
    return TemporalFisher(net, estimator, labels)  # type: ignore[arg-type]


def execution(setting: Setting) -> str:
    """Say how ours runs the network, see `TemporalFisher`."""
    fisher = ours(network(setting), "batch_mean")
    fisher.update(frames(setting))
    return fisher.compute().execution


def units(name: str, T: int, execution: str) -> Units | None:
    """Count the work of a candidate in time steps.

    Args:
        name: The candidate.
        T: Time steps.
        execution: How ours ran the network, see `TemporalFisher`.

    Returns:
        The steps; None of a first batch, part of whose work is another.
    """
    prefixes = T * (T + 1) // 2
    if name in FIRST:
        return None
    if name in OURS:
        return Units(T, T * T if execution == "whole" else prefixes)
    return {
        TRAINING: Units(T, T),
        RELEASED: Units(T * T, T * T),
        BATCHED: Units(T, T * T),
        LOOP: Units(T, T * T),
    }.get(name, Units(prefixes, prefixes))


def refusal(setting: Setting, name: str) -> str | None:
    """Try a peer on a small batch.

    Args:
        setting: Where it runs, and on what.
        name: One of `PEERS`.

    Returns:
        Why it does not run, or None if it does.
    """
    try:
        measure(replace(setting, T=2, batch=2), name)()
    except ImportError as error:
        return f"not installed ({error})"
    # Whatever another package says of this network is its reason.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _ours(
    make: Callable[[], TemporalFisher], x: Tensor, target: Tensor, name: str
) -> Measure:
    kept = make()

    def run() -> dict[str, Tensor]:
        fisher = make() if name in FIRST else kept
        fisher.update((x, target))
        return fisher.compute().per_parameter

    return run
