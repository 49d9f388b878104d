"""The passes that are timed: a layer, or a whole training step of a network."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model import spiking_resnet
from torch import Tensor, nn

from benchmarks.models import VGG
from benchmarks.speed.masked.neurons import neurons

FLOOR = "no neurons"
NETWORKS = ("VGGSNN", "ResNet-18")
_VGGSNN = (64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A")
_GROWTH = {"T": (5, 10, 20), "batch": (2, 4, 8), "channels": (16, 32, 64)}
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """What is timed: one layer, or a training step of a network.

    Attributes:
        network: One of `NETWORKS`; None is the layer.
        T: Time steps.
        batch: Samples.
        channels: Channels of the input.
        size: Height and width.
        channels_last: Memory layout.
        backend: What ours runs on.
        host_kernel: What the host's neurons run on.
        device: Where everything runs.
    """

    network: str | None = None
    T: int = 10
    batch: int = 16
    channels: int = 64
    size: int = 48
    channels_last: bool = False
    backend: str = "auto"
    host_kernel: str = "torch"
    device: torch.device = _CPU

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input, `[T, N, C, H, W]`."""
        return (self.T, self.batch, self.channels, self.size, self.size)

    @property
    def title(self) -> str:
        """Say in words what is timed."""
        what = f"training step of {self.network}" if self.network else "layer"
        layout = ", channels last" if self.channels_last else ""
        return f"{what} {list(self.shape)}{layout}"

    @property
    def candidates(self) -> dict[str, Callable[[], nn.Module]]:
        """Factories of neurons by name; a network also runs without any."""
        found = neurons(self.backend, self.host_kernel)
        return {**found, FLOOR: nn.Identity} if self.network else found


class Pass(NamedTuple):
    """A candidate at work.

    Attributes:
        net: A node or a network.
        run: One pass, forward and backward; of a network with the optimizer's step.
    """

    net: nn.Module
    run: Callable[[], None]


def candidate(setting: Setting, name: str) -> Pass:
    """Build a candidate and its input.

    Args:
        setting: What it shall run.
        name: One of `setting.candidates`.

    Returns:
        What runs, ready to run.
    """
    make = setting.candidates[name]
    if setting.network is None:
        return _layer_pass(setting, make)
    return _training_step(setting, make)


def growing(base: Setting) -> Iterator[tuple[str, int, Setting]]:
    """List smaller layers of which one of T, batch and width grows.

    Args:
        base: Where and on what they run.

    Yields:
        What grows, its value, and the setting.
    """
    small = replace(base, T=10, batch=4, channels=32)
    for what, values in _GROWTH.items():
        for value in values:
            yield what, value, replace(small, **{what: value})


def _layer_pass(setting: Setting, make: Callable[[], nn.Module]) -> Pass:
    x = _input(setting).requires_grad_()
    cotangent = torch.randn_like(x)
    node = make().to(setting.device)

    def run() -> None:
        torch.autograd.grad(node(x), x, cotangent)
        functional.reset_net(node)

    return Pass(node, run)


def _training_step(setting: Setting, make: Callable[[], nn.Module]) -> Pass:
    x = _input(setting)
    target = torch.randint(10, (setting.batch,), device=setting.device)
    torch.manual_seed(0)
    net = _network(setting, make).to(setting.device)
    if setting.channels_last:
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x).mean(0), target).backward()
        optimizer.step()
        functional.reset_net(net)

    return Pass(net, run)


def _network(setting: Setting, make: Callable[[], nn.Module]) -> nn.Module:
    if setting.network == "VGGSNN":
        return VGG(2, 10, (setting.size, setting.size), make, _VGGSNN)
    prototype = make()
    net = spiking_resnet.spiking_resnet18(
        num_classes=10, spiking_neuron=lambda **_: copy.deepcopy(prototype)
    )
    stem = net.conv1
    net.conv1 = type(stem)(2, 64, 7, stride=2, padding=3, bias=False)
    functional.set_step_mode(net, "m")
    return net


def _input(setting: Setting) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    flat = (setting.T * setting.batch, *setting.shape[2:])
    x = torch.randn(flat, generator=generator).to(setting.device)
    if setting.channels_last:
        x = x.to(memory_format=torch.channels_last)
    return x.unflatten(0, (setting.T, setting.batch))
