"""One trained network under every attack of a study."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import data
from benchmarks.data.frames import EventFrames
from benchmarks.data.splits import read_split
from benchmarks.runs.config import TrainConfig
from benchmarks.runs.device import device_of
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.folder import RunFolder
from benchmarks.studies.inputs import as_attacked, as_tested, bounds_of, repeats
from benchmarks.studies.networks import trained_network, trained_readout
from benchmarks.studies.robustness.config import AttackConfig, RobustnessConfig
from sj_ext.attack import (
    Attackable,
    RobustnessResult,
    attackable,
    gaussian_blur,
    gaussian_noise,
    perturb,
    robust_accuracy,
)
from sj_ext.files import replace_file
from sj_ext.fisher import TemporalFisher
from sj_ext.readout import Readout
from sj_ext.surrogate import ConstantMask, MaskedSurrogate
from sj_ext.surrogate.probe import build_probe

Batches = list[tuple[Tensor, Tensor]]
"""Inputs `[N, T, C, H, W]`, or images `[N, C, H, W]`, and targets `[N]`."""

MORE_STEPS = 3
"""How many times the steps of the attack the check takes that more of them find no
more."""


def trial(
    config: RobustnessConfig, arm: str, seed: int, transfer: Path
) -> dict[str, Any]:
    """Attack the network of one arm and seed.

    Args:
        config: Of the study; the network is trained.
        arm: One of its arms.
        seed: One of its seeds.
        transfer: File of the inputs that were found against the reference of the same
            seed: written by the trial of the reference, read by the others.

    Returns:
        As JSON has it: accuracies by attack and budget.
    """
    start, wall = time.process_time(), time.perf_counter()
    training = config.training(arm, seed)
    frames = data.load_configured(training.data)
    device = device_of(training.device)
    net = trained_network(training, frames).to(device)
    readout = trained_readout(training).to(device)
    model = attackable(
        net, readout, bounds=bounds_of(training.data, frames), T=repeats(frames)
    )
    loaded = [
        (as_attacked(model, x).to(device), target.to(device))
        for x, target in test_batches(config, training, frames)
    ]
    is_reference, size = arm == config.reference, config.batch_size
    found, inputs = {}, {}
    for name, settings in config.attacks.items():
        result = robust_accuracy(
            model,
            loaded,
            settings.built(),
            budgets=settings.budgets,
            probes=config.probes,
            restarts=settings.restarts,
            seed=config.seed,
            keep_inputs=is_reference,
        )
        found[name], inputs[name] = result.summary(), result.inputs
        found[name] |= _black_box(model, loaded, config, settings)
        found[name] |= more_steps(model, loaded, config, settings, result)
        found[name] |= masked_gradients(model, loaded, config, settings)
    if is_reference:
        with replace_file(transfer) as temporary:
            # As they were found: rounded, they would be outside the budget.
            torch.save({k: v.cpu() for k, v in inputs.items()}, temporary)
    else:
        kept = torch.load(transfer, map_location="cpu", weights_only=True)
        target = torch.cat([target for _, target in loaded])
        for name, tensors in kept.items():
            found[name]["transfer"] = _left(
                right(model, torch.cat([x for x, _ in loaded]), target, size),
                [right(model, x.to(target.device), target, size) for x in tensors],
            )
    return {
        "arm": arm,
        "seed": seed,
        "test_accuracy": RunFolder(training).read_result()["test_accuracy"]["selected"],
        "samples": sum(len(target) for _, target in loaded),
        "attacks": found,
        "corruptions": _corrupted(model, loaded, config),
        "centroid": _centroid(net, readout, model, loaded, config),
        "device": str(device),
        "environment": describe_environment(),
        "cpu_seconds": time.process_time() - start,
        "wall_seconds": time.perf_counter() - wall,
    }


def test_batches(
    config: RobustnessConfig, training: TrainConfig, frames: EventFrames
) -> Batches:
    """Load the samples that are attacked: the first of the test part, classes mixed.

    Args:
        config: Of the study.
        training: Of one of its networks.
        frames: All samples.

    Returns:
        Batches: frames `[T, N, C, H, W]`, transformed as in the training, and targets.
    """
    indices = read_split(training.split).indices(frames.names)["test"]
    indices = torch.as_tensor(indices)
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))
    chosen = indices[order[: config.samples]]
    loaded = as_tested(training.data, frames, chosen, config.batch_size)
    return [(batch.frames, batch.target) for batch in loaded]


def _black_box(
    model: Attackable,
    loaded: Batches,
    config: RobustnessConfig,
    settings: AttackConfig,
) -> dict[str, Any]:
    black_box = settings.black_box()
    if black_box is None:
        return {}
    searched = robust_accuracy(
        model,
        loaded,
        black_box,
        budgets=settings.budgets,
        restarts=1,
        seed=config.seed,
    )
    return {"black_box": searched.accuracy.tolist()}


def more_steps(
    model: Attackable,
    loaded: Batches,
    config: RobustnessConfig,
    settings: AttackConfig,
    result: RobustnessResult,
) -> dict[str, Any]:
    """Attack once more with `MORE_STEPS` times the steps, which must not find more.

    At the budget that leaves the network right on about half, through the surrogate
    that found most there.

    Args:
        model: The network under attack.
        loaded: What is attacked.
        config: Of the study.
        settings: Of the attack.
        result: Of the attack.

    Returns:
        What a trial has as `"more_steps"`: budget, surrogate and steps; accuracy
        through that surrogate alone with as many steps as before and with more; and the
        worst case without these and with them. Empty for an attack without steps.
    """
    attack = settings.built().config()
    if "steps" not in attack:
        return {}
    number = int((result.accuracy - 0.5).abs().argmin())
    # At this budget alone: more steps are not tried at smaller ones.
    alone = result.runs[number].all(2).all(1) & result.clean
    probe = int(alone.sum(1).argmin())
    attack["steps"] *= MORE_STEPS
    longer = robust_accuracy(
        model,
        loaded,
        attack,
        budgets=settings.budgets[number : number + 1],
        probes=[config.probes[probe]],
        restarts=settings.restarts,
        seed=config.seed,
    )
    worst = result.correct[number]
    found = {
        "before": alone[probe],
        "after": longer.correct[0],
        "worst_before": worst,
        "worst_after": worst & longer.correct[0],
    }
    return {
        "more_steps": {
            "budget": settings.budgets[number],
            "probe": result.probes[probe],
            "steps": attack["steps"],
            **{key: float(of.double().mean()) for key, of in found.items()},
        }
    }


def masked_gradients(
    model: Attackable,
    loaded: Batches,
    config: RobustnessConfig,
    settings: AttackConfig,
) -> dict[str, Any]:
    """Attack with the gradients that the network was trained with, masks and all.

    It is the mistake that robustness is overrated by: for comparison only, and beside
    it the same attack, from the same start, without the masks.

    Args:
        model: The network under attack.
        loaded: What is attacked.
        config: Of the study.
        settings: Of the attack, which runs once.

    Returns:
        `"masked_gradients"` and `"unmasked_gradients"`: accuracy left at each budget,
        samples counted as in the worst case: right unperturbed and at all budgets so
        far. Nothing where the network has no masks that drop derivatives.
    """
    if not _masks(model):
        return {}
    with torch.no_grad():
        clean = torch.cat([model(x).argmax(1) == target for x, target in loaded])
    found: dict[str, list[Tensor]] = {"masked_gradients": [], "unmasked_gradients": []}
    for key, correct in found.items():
        for budget in settings.budgets:
            answers = []
            for x, target in loaded:
                with _attacked_as(model, masked=key == "masked_gradients"):
                    # It seeds what the masks draw: a resumed study is the same.
                    new = perturb(
                        model,
                        x,
                        target,
                        settings.built(),
                        budget=budget,
                        seed=config.seed,
                    )
                with torch.no_grad():
                    answers.append(model(new).argmax(1) == target)
            correct.append(torch.cat(answers))
    return {key: _left(clean, correct) for key, correct in found.items()}


def _masks(model: Attackable) -> list[MaskedSurrogate]:
    """List the surrogates whose masks drop derivatives, not those that scale them."""
    return [
        module
        for module in model.net.modules()
        if isinstance(module, MaskedSurrogate)
        and not isinstance(module.mask, ConstantMask)
    ]


@contextmanager
def _attacked_as(model: Attackable, masked: bool) -> Iterator[None]:
    with model.ready():
        for module in _masks(model) if masked else ():
            module.mask_active = True
            module.train()
        yield


def _centroid(
    net: nn.Module,
    readout: Readout,
    model: Attackable,
    loaded: Batches,
    config: RobustnessConfig,
) -> float | None:
    """Measure the information centroid on what is attacked, for all by one surrogate.

    Returns:
        In time steps; None where the readout is no weighted mean of them, or there is
        no information.
    """
    try:
        readout.shares(1)
    except TypeError:
        return None
    # Through the same one for all arms, whatever they were trained with.
    probe = next((probe for probe in config.probes if probe is not None), None)
    fisher = TemporalFisher(
        net, readout=readout, seed=config.seed, probe=build_probe(probe)
    )
    batches = [(model.frames(x), target) for x, target in loaded]
    centroid = fisher.measure(batches, progress=False).information_centroid
    return centroid if math.isfinite(centroid) else None


def _left(clean: Tensor, correct: Sequence[Tensor]) -> list[float]:
    """Give the share of samples right unperturbed and at every budget so far."""
    left = []
    for at_budget in correct:
        clean = clean & at_budget
        left.append(float(clean.double().mean()))
    return left


def accuracy(model: nn.Module, x: Tensor, target: Tensor, batch_size: int) -> float:
    """Give the share of `right`, with the same arguments."""
    return float(right(model, x, target, batch_size).double().mean())


def right(model: nn.Module, x: Tensor, target: Tensor, batch_size: int) -> Tensor:
    """Say which answers are right.

    Args:
        model: `[N, ...]` to `[N, K]`.
        x: Inputs.
        target: `[N]`.
        batch_size: How many at a time.

    Returns:
        `[N]`, bool.
    """
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(1) for part in x.split(batch_size)])
    return answers == target


def _corrupted(
    model: Attackable, loaded: Batches, config: RobustnessConfig
) -> dict[str, list[float]]:
    x = torch.cat([x for x, _ in loaded])
    target = torch.cat([target for _, target in loaded])
    halves: dict[str, Sequence[int] | None] = {"all steps": None}
    # An image that stands still has no half that could be spared.
    if model.takes_frames:
        T = x.shape[1]
        halves["first half"] = range(T // 2)
        halves["second half"] = range(T // 2, T)
    found: dict[str, list[float]] = {}
    for when, steps in halves.items():
        found[f"noise, {when}"] = [
            accuracy(
                model,
                gaussian_noise(
                    x,
                    scale,
                    torch.Generator().manual_seed(config.seed),
                    bounds=model.bounds,
                    time_steps=steps,
                ),
                target,
                config.batch_size,
            )
            for scale in config.noise
        ]
        found[f"blur, {when}"] = [
            accuracy(
                model,
                gaussian_blur(x, sigma, time_steps=steps),
                target,
                config.batch_size,
            )
            for sigma in config.blur
        ]
    return found
