"""The diagonal of the Fisher information matrix: a score for every weight."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import torch.distributed as dist
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext.fisher import prefix
from sj_ext.fisher.by_sample import SampleGradients
from sj_ext.fisher.measurement import Measurement, checked_steps, input_and_target
from sj_ext.fisher.passes import Layout
from sj_ext.processes import is_distributed, rank
from sj_ext.readout import Readout


def fisher_diagonal(
    model: nn.Module,
    loader: Iterable[Any],
    steps: int | None = None,
    labels: Literal["model", "empirical"] = "model",
    readout: Readout | None = None,
    probe: SurrogateFunctionBase | str | None = None,
    *,
    inputs: Callable[[Any], tuple[Tensor, Tensor | None]] = input_and_target,
    output: Callable[[Any], Tensor] | None = None,
    batch_first: bool = False,
    execution: Literal["auto", "whole", "steps", "single"] = "auto",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Average the squared gradient of each weight over samples.

    F_w = mean over samples of (d log f_t(y | x) / dw)^2, f_t the network's answer
    after t steps; summed over all weights it is the I_t of `TemporalFisher`. Exact,
    from per-sample gradients; run and checked like there. The processes of
    `torch.distributed` are averaged together, sample by sample.

    Args:
        model: As for `TemporalFisher`.
        loader: Batches; each process its own.
        steps: The length t of the prefix; None is all T steps.
        labels: `"model"` for the true Fisher information, `"empirical"` for that of
            the targets.
        readout: As for `TemporalFisher`.
        probe: As for `TemporalFisher`.
        inputs: As for `TemporalFisher`.
        output: As for `TemporalFisher`.
        batch_first: As for `TemporalFisher`.
        execution: As for `TemporalFisher`.
        seed: Of drawn labels; each process adds its rank.
        progress: Whether to show a progress bar.

    Returns:
        For each parameter that requires a gradient, by name, a float64 tensor of its
        shape on its device.

    Raises:
        ValueError: If `labels` is unknown, `steps` is not within 1 to T, or the
            loader or a batch of it is empty.
    """
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    if labels not in prefix.LABELS:
        raise ValueError(
            f"Expected `labels` to be one of {', '.join(prefix.LABELS)}, got "
            f"{labels!r}."
        )
    checked_steps(None if steps is None else [steps])
    measurement = Measurement(
        model, Layout(batch_first, output), readout, probe, execution
    )
    generator = torch.Generator().manual_seed(seed + rank())
    sums = {
        name: torch.zeros_like(parameter, dtype=torch.float64, requires_grad=False)
        for name, parameter in measurement.covered.parameters.items()
    }
    samples = 0
    for batch in tqdm(loader, desc="Fisher diagonal", disable=not progress):
        x, target = inputs(batch)
        target = None if target is None else measurement.on_device(target)
        found, count = _of_batch(
            measurement, measurement.on_device(x), target, steps, labels, generator
        )
        samples += count
        for name, squares in found.items():
            sums[name] += squares
    if is_distributed():
        samples = _added_up(sums, samples)
    if not samples:
        raise ValueError("Expected `loader` to hold at least one batch, got none.")
    return {name: total / samples for name, total in sums.items()}


def _of_batch(
    measurement: Measurement,
    x: Tensor,
    target: Tensor | None,
    steps: int | None,
    labels: str,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], int]:
    with measurement.ready():
        measurement.examine(x)
        assert measurement.T is not None
        t = steps or measurement.T
        checked_steps([t], measurement.T)
        share = prefix.shares(measurement.T, [t], measurement.readout)
        forward = measurement.forward(x, t, by_sample=True)
        outputs = prefix.prefix_logits(forward.joined(), share)
        chosen = prefix.choose_labels(outputs, target, labels, generator)
        residual = prefix.residuals(outputs, chosen)
        dtype = forward.logits[0].dtype
        cotangent = prefix.cotangent(residual[0], share[0], dtype)
        measurement.check_rules(forward, cotangent)
        gradients = SampleGradients(measurement.covered, forward, cotangent, keep=False)
        sums = gradients.sums_of_squares()
        for _, _, looped in measurement.loop(x, [cotangent]):
            for name, gradient in looped.items():
                squares = gradient.detach().double().square()
                sums[name] = sums[name] + squares if name in sums else squares
    return sums, outputs.shape[1]


def _added_up(sums: dict[str, Tensor], samples: int) -> int:
    count = torch.tensor(samples, device=next(iter(sums.values())).device)
    dist.all_reduce(count)
    for total in sums.values():
        dist.all_reduce(total)
    return int(count)
