"""How sparse the surrogate derivatives of a network are, layer by layer."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn


@dataclass
class LayerDensity:
    """Sums over all (sample, step, neuron) that a layer's surrogate has seen.

    Attributes:
        elements: Number of them.
        nonzero: How many had ds/dx != 0.
        spikes: Sum of the outputs.
    """

    elements: int = 0
    nonzero: int = 0
    spikes: float = 0.0

    @property
    def density(self) -> float:
        """Share of non-zero surrogate derivatives, in [0, 1]; NaN before any pass."""
        return self.nonzero / self.elements if self.elements else float("nan")

    @property
    def firing_rate(self) -> float:
        """Spikes per neuron and step; NaN before any pass."""
        return self.spikes / self.elements if self.elements else float("nan")


class GradientDensity:
    """What `gradient_density` measures; complete once its block has ended.

    Attributes:
        layers: Sums for each layer, by the name of its neuron in the network.
    """

    def __init__(self, names: list[str]) -> None:
        self.layers = {name: LayerDensity() for name in names}

    @property
    def total(self) -> LayerDensity:
        """The sums over all layers: each neuron counts alike."""
        layers = self.layers.values()
        return LayerDensity(
            elements=sum(layer.elements for layer in layers),
            nonzero=sum(layer.nonzero for layer in layers),
            spikes=sum(layer.spikes for layer in layers),
        )


@contextmanager
def gradient_density(net: nn.Module) -> Iterator[GradientDensity]:
    """Measure the share of non-zero surrogate derivatives during the block.

    Run forward passes inside, a training step for instance: the derivative of each
    surrogate is evaluated a second time beside it, with the same random numbers, so
    that the measured mask is the one that the backward pass uses. Random state and
    results are those of a pass that nobody measures. On a host that fuses surrogate
    and neuron, the neurons run step by step inside the block.

    Args:
        net: A network with neurons of the host.

    Yields:
        The measurement, filled pass by pass.

    Raises:
        ValueError: If `net` has no neuron with a surrogate function.
    """
    nodes = {
        name: module
        for name, module in net.named_modules()
        if isinstance(getattr(module, "surrogate_function", None), nn.Module)
    }
    if not nodes:
        raise ValueError(
            "Expected `net` to have neurons with a `surrogate_function`, got "
            f"{type(net).__name__} with none."
        )
    measured = GradientDensity(list(nodes))
    with ExitStack() as restored:
        for name, node in nodes.items():
            original = node.surrogate_function
            node.surrogate_function = _Measured(original, measured.layers[name])
            restored.callback(setattr, node, "surrogate_function", original)
        yield measured


class _Measured(SurrogateFunctionBase):
    """Stands in for a surrogate and counts; a class of its own is never fused."""

    def __init__(self, original: SurrogateFunctionBase, sums: LayerDensity) -> None:
        super().__init__(spiking=original.spiking)
        self.training = original.training
        self.original = original
        self._sums = sums

    def forward(self, x: Tensor) -> Tensor:
        before = _random_state(x.device)
        spikes = self.original(x)
        after = _random_state(x.device)
        _set_random_state(x.device, before)
        derivative = self._derivative(x)
        _set_random_state(x.device, after)
        self._sums.elements += x.numel()
        self._sums.nonzero += int(torch.count_nonzero(derivative))
        self._sums.spikes += float(spikes.detach().sum(dtype=torch.float64))
        return spikes

    @torch.enable_grad()
    def _derivative(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (derivative,) = torch.autograd.grad(self.original(x).sum(), x)
        return derivative


def _random_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
