"""What Fisher information is measured on: the quickstart's network, random frames."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.models import neuron_factory
from benchmarks.runs.config import TrainConfig, read
from sj_ext import create
from sj_ext.surrogate import dense

_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "event_digits" / "base.yaml"
_CPU = torch.device("cpu")
_CHANNELS, _SIZE, _CLASSES = 2, (32, 32), 10
_EVENTS = 0.15
"""Events a step and pixel, about as many as event digits have in 10 steps."""


@dataclass(frozen=True)
class Setting:
    """What is timed.

    Attributes:
        T: Time steps.
        batch: Samples, N.
        dtype: Of weights and frames.
        device: Where everything runs.
    """

    T: int = 10
    batch: int = 32
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the frames, `[T, N, C, H, W]`: that of event digits."""
        return (self.T, self.batch, _CHANNELS, *_SIZE)


def frames(setting: Setting) -> tuple[Tensor, Tensor]:
    """Draw frames and labels: speed needs no real ones.

    Args:
        setting: Of which shape.

    Returns:
        Counts of events `[T, N, C, H, W]` and labels `[N]`.
    """
    generator = torch.Generator().manual_seed(1)
    rate = torch.full(setting.shape, _EVENTS)
    x = torch.poisson(rate, generator)
    target = torch.randint(_CLASSES, (setting.batch,), generator=generator)
    return x.to(setting.device, setting.dtype), target.to(setting.device)


def network(setting: Setting) -> nn.Module:
    """Build the quickstart's unmasked network, untrained.

    Its batch statistics are those of the frames, so that all layers spike.

    Args:
        setting: Where it runs, and on what.

    Returns:
        The network, in eval mode.
    """
    config = _config()
    torch.manual_seed(0)
    net: nn.Module = create(
        "model",
        config.model.name,
        in_channels=_CHANNELS,
        classes=_CLASSES,
        size=_SIZE,
        neuron=neuron_factory(config.neuron, config.surrogate),
        **config.model.kwargs,
    )
    net = net.to(setting.device, setting.dtype)
    _take_statistics(net, frames(setting)[0])
    return net.eval()


def training_step(setting: Setting) -> Callable[[], None]:
    """Build what the quickstart does with each batch.

    Args:
        setting: Of which shape.

    Returns:
        One step of the optimizer.
    """
    x, target = frames(setting)
    net = network(setting).train()
    options = _config().optimization
    optimizer = torch.optim.AdamW(
        net.parameters(), options.lr, weight_decay=options.weight_decay
    )

    def run() -> None:
        optimizer.zero_grad()
        cross_entropy(net(x).mean(0), target).backward()
        optimizer.step()
        functional.reset_net(net)

    return run


def passes(setting: Setting) -> dict[str, Callable[[], object]]:
    """Build single passes of the network as a whole, whose time gives that of a step.

    Args:
        setting: Of which shape.

    Returns:
        `"forward"`, with the graph kept, and `"both"`.
    """
    net, (x, target) = network(setting), frames(setting)
    parameters = list(net.parameters())

    def forward() -> Tensor:
        with dense(net):
            functional.reset_net(net)
            loss = cross_entropy(net(x).mean(0), target)
        functional.reset_net(net)
        return loss

    return {
        "forward": forward,
        "both": lambda: torch.autograd.grad(forward(), parameters),
    }


def batch_norms(net: nn.Module) -> list[nn.Module]:
    """List the layers of batch norm."""
    return [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@functools.cache
def _config() -> TrainConfig:
    return read(["--config", str(_CONFIG)])


def _take_statistics(net: nn.Module, x: Tensor) -> None:
    norms = batch_norms(net)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    net.train()
    with torch.no_grad():
        net(x)
    functional.reset_net(net)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
