"""Masked neurons against the host's unmasked ones and the released procedure."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import spiking_resnet
from torch import Tensor, nn

from benchmarks.models import VGG
from benchmarks.speed.released_msg import ReleasedMaskedLIF
from benchmarks.speed.timing import Timing, interleaved
from sj_ext.neuron import MaskedLIFNode
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate

_THRESHOLD, _P = 0.5, 0.5
_VGGSNN = (64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A")

HOST = "host, unmasked"
TORCH = "masked, step by step"
OURS = "masked, ours"
RELEASED = "released procedure"
FLOOR = "no neurons (floor)"


@dataclass(frozen=True)
class Setting:
    """What is timed.

    Attributes:
        T: Time steps.
        batch: Samples.
        channels: Channels of the single layer.
        size: Height and width.
        channels_last: Memory layout.
    """

    T: int = 10
    batch: int = 16
    channels: int = 64
    size: int = 48
    channels_last: bool = False


def _neurons(p: float = _P) -> dict[str, Callable[[], nn.Module]]:
    def triangle() -> nn.Module:
        return surrogate.PiecewiseQuadratic(alpha=2.0)

    def masked(backend: str) -> nn.Module:
        return MaskedLIFNode(
            v_threshold=_THRESHOLD,
            surrogate_function=MaskedSurrogate(triangle(), BernoulliMask(p)),
            step_mode="m",
            backend=backend,
        )

    return {
        HOST: lambda: neuron.LIFNode(
            v_threshold=_THRESHOLD, surrogate_function=triangle(), step_mode="m"
        ),
        TORCH: lambda: masked("torch"),
        OURS: lambda: masked("auto"),
        RELEASED: lambda: ReleasedMaskedLIF(p, _THRESHOLD),
    }


def check_equality(device: torch.device) -> None:
    """Refuse to time candidates that do not compute the same thing.

    Spikes must be equal; gradients are compared without dropping (p = 0), since each
    candidate draws its own masks.

    Args:
        device: Where they run.

    Raises:
        AssertionError: If two candidates differ.
    """
    x = torch.randn(6, 3, 4, 5, 5, device=device)
    cotangent = torch.randn_like(x)
    found = {}
    for name, make in _neurons(p=0.0).items():
        node, leaf = make().to(device), x.clone().requires_grad_()
        spikes = node(leaf)
        found[name] = (spikes, *torch.autograd.grad(spikes, leaf, cotangent))
    for name, values in found.items():
        for ours, reference in zip(values, found[HOST], strict=True):
            torch.testing.assert_close(
                ours, reference, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )


def time_layer(
    setting: Setting, device: torch.device, repetitions: int
) -> dict[str, Timing]:
    """Time one layer forward and backward.

    Args:
        setting: Its shape.
        device: Where it runs.
        repetitions: Timed runs of each candidate.

    Returns:
        Timing by candidate.
    """
    x = _input(setting, setting.channels, device).requires_grad_()
    cotangent = torch.randn_like(x)
    nodes = {name: make().to(device) for name, make in _neurons().items()}

    def run(node: nn.Module) -> None:
        torch.autograd.grad(node(x), x, cotangent)
        functional.reset_net(node)

    candidates = {name: (lambda n=node: run(n)) for name, node in nodes.items()}
    return interleaved(candidates, repetitions, device)


def time_training_step(
    network: str, setting: Setting, device: torch.device, repetitions: int
) -> dict[str, Timing]:
    """Time a whole training step: forward, loss, backward, AdamW.

    The same network without any neuron shows what is left to gain.

    Args:
        network: `"VGGSNN"` or `"ResNet-18"`.
        setting: Shape of the input, of two channels.
        device: Where it runs.
        repetitions: Timed runs of each candidate.

    Returns:
        Timing by candidate.
    """
    x = _input(setting, 2, device)
    target = torch.randint(10, (setting.batch,), device=device)
    candidates = {}
    for name, make in {**_neurons(), FLOOR: nn.Identity}.items():
        torch.manual_seed(0)
        net = _network(network, setting, make).to(device)
        if setting.channels_last:
            net = net.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
        candidates[name] = _training_step(net, optimizer, x, target)
    return interleaved(candidates, repetitions, device)


def growth(
    device: torch.device, repetitions: int
) -> list[tuple[str, int, dict[str, Timing]]]:
    """Time the layer while one of T, batch and width grows.

    Args:
        device: Where it runs.
        repetitions: Timed runs of each candidate.

    Returns:
        What grows, its value, and the timing by candidate.
    """
    small = Setting(batch=4, channels=32)
    found = []
    for what, values in (
        ("T", (5, 10, 20)),
        ("batch", (2, 4, 8)),
        ("channels", (16, 32, 64)),
    ):
        for value in values:
            timing = time_layer(replace(small, **{what: value}), device, repetitions)
            found.append((what, value, timing))
    return found


def _input(setting: Setting, channels: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (setting.T * setting.batch, channels, setting.size, setting.size)
    x = torch.randn(shape, generator=generator).to(device)
    if setting.channels_last:
        x = x.to(memory_format=torch.channels_last)
    return x.unflatten(0, (setting.T, setting.batch))


def _network(
    network: str, setting: Setting, make: Callable[[], nn.Module]
) -> nn.Module:
    if network == "VGGSNN":
        return VGG(2, 10, (setting.size, setting.size), make, _VGGSNN)
    prototype = make()
    net = spiking_resnet.spiking_resnet18(
        num_classes=10, spiking_neuron=lambda **_: copy.deepcopy(prototype)
    )
    stem = net.conv1
    net.conv1 = type(stem)(2, 64, 7, stride=2, padding=3, bias=False)
    functional.set_step_mode(net, "m")
    return net


def _training_step(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, target: Tensor
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x).mean(0), target).backward()
        optimizer.step()
        functional.reset_net(net)

    return step
