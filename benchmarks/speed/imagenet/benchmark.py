"""What a sample of an ImageNet-size training takes on one device, by its batch.

`docs/scaling.md` works out from these figures what a training takes on many devices.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model import sew_resnet
from torch import nn

from benchmarks.runs.progress import Reporter
from benchmarks.speed import results
from benchmarks.speed.masked.neurons import HOST, OURS, host_kernels, neurons, ran_on
from benchmarks.speed.options import SpeedOptions
from benchmarks.speed.peak import peak_bytes
from benchmarks.speed.timing import interleaved
from sj_ext import register

_CLASSES = 1000
_SMALLEST = 32


@dataclass
class ImageNetOptions(SpeedOptions):
    """What `speed imagenet` can be told.

    Args:
        device: cpu or cuda.
        repetitions: Timed runs of each candidate; odd, for medians.
        output: Folder of the result.
        network: Of the host's zoo.
        backend: What our masked neurons run on.
        T: Time steps.
        size: Height and width of the images.
        batches: Samples of a training step; each is timed.
        precision: 32-true, or bf16-mixed for autocasting.
        peak: Whether to measure peak memory, which takes a process for each candidate.

    Raises:
        ValueError: If a number is too small, or as for `SpeedOptions`.
    """

    repetitions: int = 3
    network: Literal["sew_resnet18", "sew_resnet34", "sew_resnet50"] = "sew_resnet18"
    backend: Literal["auto", "torch", "cpu", "triton", "cupy", "cuda"] = "auto"
    T: int = 4
    size: int = 224
    batches: list[int] = field(default_factory=lambda: [1, 2, 4])
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    peak: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.batches or min(self.batches) < 1:
            raise ValueError(
                f"Expected `batches` to be positive numbers, got {self.batches}."
            )
        for name, least in (("T", 1), ("size", _SMALLEST)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Expected `{name}` of at least {least}, got {getattr(self, name)}."
                )


@register("speed", "imagenet")
def run(options: ImageNetOptions, reporter: Reporter) -> None:
    """Time training steps of an ImageNet-size network on one device."""
    rows = []
    for batch in options.batches:
        for neuron in (HOST, OURS):
            row = _measured(options, neuron, batch)
            reporter.line(
                f"{options.network}, {neuron}, batch {batch}: "
                f"{row['seconds_per_sample']:.4g} s a sample, "
                f"{row['forward_share']:.0%} of it the forward pass"
            )
            rows.append(row)
    net = _network(options, HOST)
    content = {
        "network": options.network,
        "parameters": sum(weight.numel() for weight in net.parameters()),
        "T": options.T,
        "size": options.size,
        "precision": options.precision,
        "rows": rows,
    }
    results.write("imagenet", options, content, reporter)


def _measured(options: ImageNetOptions, neuron: str, batch: int) -> dict[str, Any]:
    passes = _passes(options, neuron, batch)
    timings = interleaved(
        {"step": passes.step, "forward": passes.forward},
        options.repetitions,
        options.place(),
        with_saved=False,
    )
    peak = None
    if options.peak:
        peak = peak_bytes(
            partial(_step, options, neuron, batch),
            partial(_step, replace(options, size=_SMALLEST), neuron, 1),
            options.place(),
        )
    return {
        "neuron": neuron,
        "batch": batch,
        "ran_on": ran_on(passes.net) or host_kernels(options.place())[0],
        "timings": {name: asdict(timing) for name, timing in timings.items()},
        "seconds_per_sample": timings["step"].seconds / batch,
        "forward_share": timings["forward"].seconds / timings["step"].seconds,
        "peak_bytes": peak,
    }


class _Passes(NamedTuple):
    net: nn.Module
    step: Callable[[], None]
    forward: Callable[[], None]


def _passes(options: ImageNetOptions, neuron: str, batch: int) -> _Passes:
    """Build a network with its input, images shown at every step."""
    device = options.place()
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, options.size, options.size, generator=generator)
    x = image.to(device).expand(options.T, *image.shape)
    target = torch.randint(_CLASSES, (batch,), generator=generator).to(device)
    torch.manual_seed(0)
    net = _network(options, neuron).to(device)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    mixed = options.precision == "bf16-mixed"

    def loss() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            return nn.functional.cross_entropy(net(x).mean(0), target)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        functional.reset_net(net)

    def forward() -> None:
        with torch.no_grad():
            loss()
        functional.reset_net(net)

    return _Passes(net, step, forward)


def _step(options: ImageNetOptions, neuron: str, batch: int) -> Callable[[], None]:
    return _passes(options, neuron, batch).step


def _network(options: ImageNetOptions, neuron: str) -> nn.Module:
    kernel = host_kernels(options.place())[0]
    prototype = neurons(options.backend, kernel)[neuron]()
    build: Callable[..., nn.Module] = getattr(sew_resnet, options.network)
    net = build(
        cnf="ADD",
        num_classes=_CLASSES,
        spiking_neuron=lambda **_: copy.deepcopy(prototype),
    )
    functional.set_step_mode(net, "m")
    return net
