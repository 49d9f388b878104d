"""How sparse the surrogate derivatives of a network are, by layer and time step."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.distributed as dist
from spikingjelly.activation_based import base
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext.surrogate.masked import MaskedSurrogate


@dataclass
class LayerDensity:
    """Sums over all (sample, step, neuron) that a layer's surrogate has seen.

    Attributes:
        elements: Number of them.
        nonzero: How many had ds/dx != 0.
        spikes: Sum of the outputs.
        kept: Sum of |ds/dx|, that is |scale * m * g|.
        whole: Sum of |g|, g the derivative of the base without a mask.
    """

    elements: int = 0
    nonzero: int = 0
    spikes: float = 0.0
    kept: float = 0.0
    whole: float = 0.0

    @property
    def density(self) -> float:
        """Share of non-zero surrogate derivatives, in [0, 1]; NaN before any pass."""
        return _share(self.nonzero, self.elements)

    @property
    def firing_rate(self) -> float:
        """Spikes per neuron and step; NaN before any pass."""
        return _share(self.spikes, self.elements)

    @property
    def magnitude(self) -> float:
        """sum|m g| / sum|g|: tells masks apart where the base never vanishes.

        A scale counts: rescaled masks come near 1. NaN where the base vanished.
        """
        return _share(self.kept, self.whole)

    def __add__(self, other: "LayerDensity") -> "LayerDensity":
        return LayerDensity(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(self))
        )


@dataclass
class WeightDensity:
    """Counts over the entries of a parameter's gradients.

    Attributes:
        elements: Number of them.
        nonzero: How many were not zero.
    """

    elements: int = 0
    nonzero: int = 0

    @property
    def density(self) -> float:
        """Share of non-zero gradients, in [0, 1]; NaN before any."""
        return _share(self.nonzero, self.elements)

    def __add__(self, other: "WeightDensity") -> "WeightDensity":
        return WeightDensity(
            self.elements + other.elements, self.nonzero + other.nonzero
        )


class GradientDensity:
    """What `gradient_density` measures: sums that grow pass by pass.

    Reading them waits for the device; measuring does not. Sums of several batches,
    processes or machines merge into those of a single run.
    """

    def __init__(self, names: list[str] | None = None) -> None:
        self._names = list(names or [])
        self.reset()

    def reset(self) -> None:
        """Forget all that was measured; the layers stay."""
        self._steps: dict[str, list[_Sums]] = {name: [] for name in self._names}
        self._weights: dict[str, _Sums] = {}

    @property
    def steps(self) -> dict[str, list[LayerDensity]]:
        """Sums for each layer and time step, by the name of its neuron."""
        return {
            name: [_layer(sums.values()) for sums in steps]
            for name, steps in self._steps.items()
        }

    @property
    def layers(self) -> dict[str, LayerDensity]:
        """Sums for each layer, by the name of its neuron in the network."""
        return {name: sum(steps, LayerDensity()) for name, steps in self.steps.items()}

    @property
    def total(self) -> LayerDensity:
        """The sums over all layers: each neuron counts alike."""
        return sum(self.layers.values(), LayerDensity())

    @property
    def weights(self) -> dict[str, WeightDensity]:
        """Counts for each parameter that `update_weights` saw, by its name."""
        return {
            name: WeightDensity(*(int(value) for value in sums.values()))
            for name, sums in self._weights.items()
        }

    @property
    def weight_total(self) -> WeightDensity:
        """The counts over all parameters."""
        return sum(self.weights.values(), WeightDensity())

    def update(
        self, name: str, step: int, spikes: Tensor, derivative: Tensor, whole: Tensor
    ) -> None:
        """Add what a layer's surrogate did at one time step.

        Args:
            name: Of the layer; a new one is entered.
            step: Time step, from 0.
            spikes: Output of the surrogate, of any shape.
            derivative: ds/dx, of the same shape.
            whole: The derivative without the mask, of the same shape.
        """
        steps = self._steps.setdefault(name, [])
        while len(steps) <= step:
            steps.append(_Sums())
        steps[step].add(
            spikes.numel(),
            torch.count_nonzero(derivative),
            spikes.detach().sum(dtype=torch.float64),
            derivative.detach().abs().sum(dtype=torch.float64),
            whole.detach().abs().sum(dtype=torch.float64),
        )

    def update_weights(self, net: nn.Module) -> None:
        """Count the non-zero gradients of the parameters; call it after `backward`.

        Weight gradients are sums over samples, places and steps: they are rarely
        zero where surrogate derivatives often are.

        Args:
            net: The network; parameters without a gradient are left out.

        Raises:
            ValueError: If no parameter has a gradient.
        """
        found = [(n, p.grad) for n, p in net.named_parameters() if p.grad is not None]
        if not found:
            raise ValueError(
                "Expected `net` to have gradients, got none: call `update_weights` "
                "after `backward` and before `zero_grad`."
            )
        for name, grad in found:
            sums = self._weights.setdefault(name, _Sums())
            sums.add(grad.numel(), torch.count_nonzero(grad))

    def merge(self, other: "GradientDensity") -> None:
        """Add the sums of another measurement, of any layers.

        Args:
            other: Is not changed.
        """
        self._add(other.state_dict())

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Add up the sums of all processes, in all of them.

        Without `torch.distributed` there is nothing to do. Every process must call
        it; they need not have seen the same layers.

        Args:
            group: The processes; None means all.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return
        states: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(states, self.state_dict(), group=group)
        self.reset()
        for state in states:
            self._add(state)

    def state_dict(self) -> dict[str, Any]:
        """Collect the sums.

        Returns:
            Dicts, lists and numbers.
        """
        return {
            "steps": {
                name: [sums.values() for sums in steps]
                for name, steps in self._steps.items()
            },
            "weights": {name: sums.values() for name, sums in self._weights.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the sums.

        Args:
            state: What `state_dict()` returned.
        """
        self.reset()
        self._add(state)

    def _add(self, state: dict[str, Any]) -> None:
        for name, values in state["steps"].items():
            steps = self._steps.setdefault(name, [])
            while len(steps) < len(values):
                steps.append(_Sums())
            for sums, step_values in zip(steps, values, strict=False):
                sums.add_values(step_values)
        for name, values in state["weights"].items():
            self._weights.setdefault(name, _Sums()).add_values(values)


class _Sums:
    """A count known beforehand and sums in float64, exact for counts up to 2**53.

    They stay on the device that they were computed on, so that adding never waits.
    """

    def __init__(self) -> None:
        self._elements = 0
        self._on_device: Tensor | None = None

    def add(self, elements: int, *sums: Tensor) -> None:
        row = torch.stack([value.double() for value in sums])
        self._elements += elements
        if self._on_device is None:
            self._on_device = row
        else:
            self._on_device = self._on_device + row.to(self._on_device.device)

    def add_values(self, values: list[float]) -> None:
        if len(values) > 1:
            self.add(int(values[0]), *torch.tensor(values[1:], dtype=torch.float64))

    def values(self) -> list[float]:
        found = [] if self._on_device is None else self._on_device.tolist()
        return [self._elements, *found]


def _layer(values: list[float]) -> LayerDensity:
    if len(values) == 1:
        return LayerDensity()
    elements, nonzero, *sums = values
    return LayerDensity(int(elements), int(nonzero), *sums)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@contextmanager
def gradient_density(net: nn.Module) -> Iterator[GradientDensity]:
    """Measure the share of non-zero surrogate derivatives during the block.

    Run forward passes inside, a training step for instance: the derivative of each
    surrogate is evaluated a second time beside it, with the same random numbers, so
    that the measured mask is the one that the backward pass uses. Spikes are those of
    a pass that nobody measures; so are masks and random state where the neurons run
    step by step anyway. Neurons that run on a fused kernel outside the block run step
    by step inside it, where random masks are other draws of the same rule and take
    more random numbers. With activation checkpointing, call `backward` inside the
    block, or the recomputed pass differs from the one that was measured.

    A multi-step neuron begins at step 0 with each forward pass, a single-step one
    after each reset. A neuron that asks its surrogate several times a step has that
    many rows a step.

    Args:
        net: A network with neurons of the host.

    Yields:
        The measurement, filled pass by pass; for the share of non-zero weight
        gradients call its `update_weights(net)` after `backward`.

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
            clock = _Clock()
            node.surrogate_function = _Measured(original, name, measured, clock)
            restored.callback(setattr, node, "surrogate_function", original)
            restored.callback(clock.watch(node))
        yield measured


class _Clock:
    """Tells which time step a call of a neuron's surrogate belongs to."""

    def __init__(self) -> None:
        self.step = 0
        self.sequence: torch.Size | None = None

    def watch(self, node: nn.Module) -> Any:
        """Follow the passes and resets of `node`; the returned function ends it."""
        hook = node.register_forward_pre_hook(self._begin)
        reset = getattr(node, "reset", None)
        if reset is None:
            return hook.remove

        def reset_and_rewind() -> None:
            self.step = 0
            reset()

        # An attribute of the instance hides the method from whoever resets it.
        node.__dict__["reset"] = reset_and_rewind

        def end() -> None:
            hook.remove()
            del node.__dict__["reset"]

        return end

    def _begin(self, node: nn.Module, inputs: tuple[Any, ...]) -> None:
        if _runs_sequences(node):
            self.step = 0
            self.sequence = inputs[0].shape if inputs else None
        else:
            self.sequence = None

    def tick(self, x: Tensor) -> tuple[int, int]:
        """Give the first step that `x` belongs to and how many it holds."""
        first = self.step
        whole = self.sequence is not None and x.numel() == self.sequence.numel()
        steps = self.sequence[0] if whole and self.sequence is not None else 1
        self.step += steps
        return first, steps


def _runs_sequences(node: nn.Module) -> bool:
    if isinstance(node, base.StepModule) and "s" not in node.supported_step_mode():
        return True
    return getattr(node, "step_mode", "s") == "m"


class _Measured(SurrogateFunctionBase):
    """Stands in for a surrogate and counts; a class of its own is never fused."""

    def __init__(
        self,
        original: SurrogateFunctionBase,
        name: str,
        measured: GradientDensity,
        clock: _Clock,
    ) -> None:
        super().__init__(spiking=original.spiking)
        self.training = original.training
        self.original = original
        self._name = name
        self._density = measured
        self._clock = clock

    def new_sequence(self) -> None:
        if isinstance(self.original, MaskedSurrogate):
            self.original.new_sequence()

    def forward(self, x: Tensor) -> Tensor:
        before = _random_state(x.device)
        spikes = self.original(x)
        after = _random_state(x.device)
        _set_random_state(x.device, before)
        derivative, whole = self._derivatives(x)
        _set_random_state(x.device, after)
        first, steps = self._clock.tick(x)
        for t, parts in enumerate(
            zip(
                *(part.reshape(steps, -1) for part in (spikes, derivative, whole)),
                strict=True,
            )
        ):
            self._density.update(self._name, first + t, *parts)
        return spikes

    def _derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        original = self.original
        if not (isinstance(original, MaskedSurrogate) and original.acts):
            whole = _derivative(original, x)
            return whole, whole
        whole = _derivative(original.base, x)
        multiplier = original.multiplier(x.detach())
        return whole * multiplier * original.mask.scale, whole


@torch.enable_grad()
def _derivative(function: SurrogateFunctionBase, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (derivative,) = torch.autograd.grad(function(x).sum(), x)
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
