"""One trained network under every attack of a study."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import data
from benchmarks.data.batches import batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.splits import read_split
from benchmarks.runs.config import TrainConfig
from benchmarks.runs.device import device_of
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.folder import RunFolder
from benchmarks.studies.networks import trained_network, trained_readout
from benchmarks.studies.robustness.config import AttackConfig, RobustnessConfig
from sj_ext.attack import (
    Attackable,
    attackable,
    gaussian_blur,
    gaussian_noise,
    perturb,
    robust_accuracy,
)
from sj_ext.files import replace_file
from sj_ext.surrogate import MaskedSurrogate

Batches = list[tuple[Tensor, Tensor]]
"""Inputs `[N, T, C, H, W]` and targets `[N]`."""


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
    start = time.process_time()
    training = config.training(arm, seed)
    frames = data.load_configured(training.data)
    device = device_of(training.device)
    net = trained_network(training, frames).to(device)
    readout = trained_readout(training).to(device)
    model = attackable(net, readout, bounds=(0.0, float(frames.frames.max())))
    loaded = [
        (x.to(device), target.to(device))
        for x, target in test_batches(config, training, frames)
    ]
    is_reference = arm == config.reference
    found, inputs = {}, {}
    for name, settings in config.attacks.items():
        found[name], inputs[name] = _attacked(
            model, loaded, config, settings, keep=is_reference
        )
        masked = masked_gradients(model, loaded, config, settings)
        if masked is not None:
            found[name]["masked_gradients"] = masked
    if is_reference:
        with replace_file(transfer) as temporary:
            torch.save({k: v.half().cpu() for k, v in inputs.items()}, temporary)
    else:
        kept = torch.load(transfer, map_location="cpu", weights_only=True)
        target = torch.cat([target for _, target in loaded])
        for name, tensors in kept.items():
            found[name]["transfer"] = [
                accuracy(model, x.to(target.device).float(), target, config.batch_size)
                for x in tensors
            ]
    return {
        "arm": arm,
        "seed": seed,
        "test_accuracy": RunFolder(training).read_result()["test_accuracy"]["selected"],
        "samples": sum(len(target) for _, target in loaded),
        "attacks": found,
        "corruptions": _corrupted(model, loaded, config),
        "device": str(device),
        "environment": describe_environment(),
        "cpu_seconds": time.process_time() - start,
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
        Batches, samples first.
    """
    indices = read_split(training.split).indices(frames.names)["test"]
    indices = torch.as_tensor(indices)
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))
    chosen = indices[order[: config.samples]]
    return [
        (batch.frames.transpose(0, 1).contiguous(), batch.target)
        for batch in batches(frames, chosen, config.batch_size)
    ]


def _attacked(
    model: Attackable,
    loaded: Batches,
    config: RobustnessConfig,
    settings: AttackConfig,
    keep: bool,
) -> tuple[dict[str, Any], Tensor | None]:
    result = robust_accuracy(
        model,
        loaded,
        settings.built(),
        budgets=settings.budgets,
        probes=config.probes,
        restarts=settings.restarts,
        seed=config.seed,
        keep_inputs=keep,
    )
    found = result.summary()
    black_box = settings.black_box()
    if black_box is not None:
        searched = robust_accuracy(
            model,
            loaded,
            black_box,
            budgets=settings.budgets,
            restarts=1,
            seed=config.seed,
        )
        found["black_box"] = searched.accuracy.tolist()
    return found, result.inputs


def masked_gradients(
    model: Attackable,
    loaded: Batches,
    config: RobustnessConfig,
    settings: AttackConfig,
) -> list[float] | None:
    """Attack with the gradients that the network was trained with, masks and all.

    It is the mistake that robustness is overrated by: for comparison only.

    Args:
        model: The network under attack.
        loaded: What is attacked.
        config: Of the study.
        settings: Of the attack, which runs once.

    Returns:
        Accuracy left at each budget; None where the network has no masks.
    """
    if not any(isinstance(m, MaskedSurrogate) for m in model.net.modules()):
        return None
    left = []
    for budget in settings.budgets:
        right = total = 0
        for x, target in loaded:
            with _masks_active(model):
                new = perturb(
                    model,
                    x,
                    target,
                    settings.built(),
                    budget=budget,
                    seed=config.seed,
                )
            with torch.no_grad():
                right += int((model(new).argmax(1) == target).sum())
            total += len(target)
        left.append(right / total)
    return left


@contextmanager
def _masks_active(model: Attackable) -> Iterator[None]:
    with model.ready():
        for module in model.net.modules():
            if isinstance(module, MaskedSurrogate):
                module.mask_active = True
                module.train()
        yield


def accuracy(model: nn.Module, x: Tensor, target: Tensor, batch_size: int) -> float:
    """Count right answers.

    Args:
        model: `[N, ...]` to `[N, K]`.
        x: Inputs.
        target: `[N]`.
        batch_size: How many at a time.

    Returns:
        Their share.
    """
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(1) for part in x.split(batch_size)])
    return float((answers == target).double().mean())


def _corrupted(
    model: Attackable, loaded: Batches, config: RobustnessConfig
) -> dict[str, list[float]]:
    x = torch.cat([x for x, _ in loaded])
    target = torch.cat([target for _, target in loaded])
    T = x.shape[1]
    halves: dict[str, Sequence[int] | None] = {
        "all steps": None,
        "first half": range(T // 2),
        "second half": range(T // 2, T),
    }
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
