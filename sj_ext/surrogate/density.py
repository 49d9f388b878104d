"""How sparse the surrogate derivatives of a network are, by layer and time step."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sj_ext.processes import states_of_all
from sj_ext.surrogate.replay import watched


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
        states = states_of_all(self.state_dict, group)
        if states is None:
            return
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

    Run forward passes inside, a training step for instance. A measured pass is bit
    for bit the one that nobody measures, on whatever kernel: outputs, gradients, the
    mask and torch's random state. Beside it each neuron's pass is run a second time,
    step by step, without gradients and from the same random state, and the derivative
    of its surrogate is evaluated there: with the mask that the backward pass uses, and
    with h as the host's steps compute it, to which a fused kernel is equal up to its
    rounding. What activation checkpointing runs again in `backward`, inside the block
    or after it, is not counted twice. A network compiled by `torch.compile` runs
    uncompiled inside the block.

    A multi-step neuron begins at step 0 with each forward pass, a single-step one
    after each reset. A neuron that asks its surrogate several times a step has that
    many rows a step. A pass is a call of the neuron or of one of the methods that the
    host's neurons run by, functional ones among them; copies of `net` made inside the
    block, by `copy`, `pickle` or `torch.save`, are plain networks and not counted.

    The second run costs about what plain torch steps and the sums take, which is
    several times the forward pass of a fused kernel, and a copy of the states.

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
    with ExitStack() as watches:
        # A graph that was compiled before does not ask who watches.
        watches.enter_context(torch.compiler.set_stance("force_eager"))
        for name, node in nodes.items():
            watches.enter_context(watched(node, partial(measured.update, name)))
        yield measured
