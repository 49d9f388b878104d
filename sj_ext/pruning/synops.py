"""Theoretical synaptic operations of a network, zero weights and zero inputs left out.

One operation is one non-zero input that meets one non-zero weight on its way to one
output. Counting them needs no loop: how many weights an input element meets depends on
its place alone, so a layer's count is a product of two small arrays.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from sj_ext.fisher.measurement import input_and_target
from sj_ext.processes import states_of_all
from sj_ext.pruning.folding import FoldedNorms
from sj_ext.taps import Record, preserved, taps

_COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = nn.modules.batchnorm._BatchNorm
Values = Literal["spikes", "integers", "reals"]


@dataclass(frozen=True)
class LayerOperations:
    """Operations of one layer, summed over all samples that were measured.

    Attributes:
        operations: Non-zero inputs times their non-zero outgoing weights, for each
            step. A layer outside of time, as a head on a mean, has one.
        values: What all inputs were: `"spikes"` (-1, 0 or 1), `"integers"` (event
            counts, sums of spikes), `"reals"` (average-pooled or coded directly).
        repeated: For spikes and integers k, |k| accumulates for each weight, for each
            step; for reals, as `operations`.
        dense: The multiplications of the dense layer, zeros and padding included.
        is_norm: Whether it is a batch norm that cannot be folded into a layer.
    """

    operations: tuple[int, ...]
    values: Values
    repeated: tuple[int, ...]
    dense: int
    is_norm: bool = False

    @property
    def accumulates(self) -> int:
        """Additions of a weight: all operations where the inputs are spikes."""
        return sum(self.operations) if self.values == "spikes" else 0

    @property
    def multiply_accumulates(self) -> int:
        """Products that are added: all operations where the inputs are no spikes."""
        return 0 if self.values == "spikes" else sum(self.operations)


@dataclass(frozen=True)
class Operations:
    """What `SynapticOperations` counted.

    Attributes:
        layers: By name, in order of execution.
        samples: How many were measured.
        uncounted: Layers with weight matrices for which there is no rule.
        folded: Batch norms that cost nothing: each scales what a counted layer gives,
            and can be folded into its weights.
    """

    layers: dict[str, LayerOperations]
    samples: int
    uncounted: tuple[str, ...]
    folded: tuple[str, ...]

    @property
    def accumulates(self) -> float:
        """Accumulates per sample."""
        return self._mean(one.accumulates for one in self.layers.values())

    @property
    def multiply_accumulates(self) -> float:
        """Multiply-accumulates per sample, unfolded batch norms included."""
        return self._mean(one.multiply_accumulates for one in self.layers.values())

    @property
    def integer_multiply_accumulates(self) -> float:
        """Those of `multiply_accumulates` whose inputs are integers, per sample."""
        return self._mean(
            one.multiply_accumulates
            for one in self.layers.values()
            if one.values == "integers"
        )

    @property
    def integer_accumulates(self) -> float:
        """What would stand in their place if k were k spikes: accumulates per sample.

        A machine without multipliers takes these and no
        `integer_multiply_accumulates`.
        """
        return self._mean(
            sum(one.repeated)
            for one in self.layers.values()
            if one.values == "integers"
        )

    @property
    def total(self) -> float:
        """Accumulates and multiply-accumulates per sample, each counted once."""
        return self.accumulates + self.multiply_accumulates

    @property
    def dense(self) -> float:
        """Multiplications of the dense network per sample, no zero left out."""
        return self._mean(one.dense for one in self.layers.values())

    @property
    def training(self) -> float:
        """Operations of a training step per sample, three times those of a pass.

        By the usual convention the gradients of inputs and of weights cost as much as
        the pass each. It is a convention: surrogate gradients are rarely zero where
        spikes are, so sparse hardware would do more.
        """
        return 3 * self.total

    def steps(self, name: str) -> list[float]:
        """Give a layer's operations per sample, step by step."""
        return [count / self.samples for count in self.layers[name].operations]

    def _mean(self, counts: Iterable[int]) -> float:
        return sum(counts) / self.samples


class SynapticOperations:
    """Counts the synaptic operations of a network's forward passes.

    Counted are linear layers and convolutions, of the host and of torch, in any step
    mode or folded, with their weights as pruning or parametrisation leave them. The
    network runs in evaluation mode and is left as found. Biases, pooling, residual
    additions and the neurons' own equations are no synaptic operations and are not
    counted; nor are products of activations, as in attention.

    A batch norm costs nothing where its input is the output of a counted layer, into
    whose weights it can be folded; another costs one multiply-accumulate an element.
    What a layer's inputs are is decided over all that was measured, so the figures
    do not depend on how samples are batched.

    Sums are exact up to 2**53. Those of several batches, processes or machines merge
    into those of a single run.

    Args:
        net: The network.
        T: As for `taps`.
        batch_first: As for `taps`.
    """

    def __init__(
        self, net: nn.Module, *, T: int | None = None, batch_first: bool = False
    ) -> None:
        self._net = net
        self._T, self._batch_first = T, batch_first
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self._samples = 0
        self._sums: dict[str, _Sums] = {}
        self._uncounted: list[str] = []
        self._folded: list[str] = []

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Count the operations of one pass.

        Args:
            x: A batch as the network takes it, `[T, N, ...]` for networks in step
                mode m. Networks of single steps are called once, with one step.

        Raises:
            ValueError: If the network has no layer that is counted.
        """
        net = self._net
        chosen = [m for m in net.modules() if isinstance(m, (*_COUNTED, _NORMS))]
        if not any(isinstance(m, _COUNTED) for m in chosen):
            raise ValueError(
                "Expected `net` to have linear or convolutional layers, got "
                f"{type(net).__name__} with none."
            )
        modules = dict(net.named_modules())
        samples = 0
        with preserved(net):
            record, folded = self._run(x)
            # Inside, as masks of `torch.nn.utils.prune` are applied by the pass.
            for key, found in record.input.items():
                name = key.split("#")[0]
                samples = max(samples, found.shape[1])
                if name in folded:
                    self._folded += [name] * (name not in self._folded)
                    continue
                counts = _of_layer(modules.get(name, net), found)
                if key in self._sums:
                    counts = self._sums[key].added(counts)
                self._sums[key] = counts
        self._samples += samples
        self._uncounted = _without_rule(net)

    def _run(self, x: Tensor) -> tuple[Record, set[str]]:
        """Record what goes into layers, and which norms are folded."""
        net = self._net
        with ExitStack() as stack:
            record = stack.enter_context(
                taps(
                    net,
                    lambda _, module: isinstance(module, (*_COUNTED, _NORMS)),
                    record=("input",),
                    T=self._T,
                    batch_first=self._batch_first,
                    restore=False,
                )
            )
            norms = stack.enter_context(FoldedNorms(net, _COUNTED))
            net.eval()
            functional.reset_net(net)
            net(x)
        return record, norms.folded

    def measure(
        self,
        loader: Iterable[Any],
        *,
        inputs: Callable[[Any], tuple[Tensor, Tensor | None]] = input_and_target,
    ) -> Operations:
        """Count afresh over all batches of a loader.

        Args:
            loader: Batches; each process its own.
            inputs: Gives `x` and a target, which is not used, of a batch.

        Returns:
            As of `compute`, of all processes.
        """
        self.reset()
        for batch in loader:
            self.update(inputs(batch)[0])
        self.all_reduce()
        return self.compute()

    def compute(self) -> Operations:
        """Give what was counted.

        Returns:
            Counts by layer; figures per sample.

        Raises:
            ValueError: If nothing was measured yet.
        """
        if not self._samples:
            raise ValueError("Expected `update` before `compute`, got no samples.")
        return Operations(
            {name: sums.layer() for name, sums in self._sums.items()},
            self._samples,
            tuple(self._uncounted),
            tuple(self._folded),
        )

    def merge(self, other: "SynapticOperations") -> None:
        """Add what another accumulator counted.

        Args:
            other: Of the same network; is not changed.
        """
        self._add(other.state_dict())

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Add up the counts of all processes, in all of them.

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
        """Collect the counts.

        Returns:
            Dicts, lists and numbers.
        """
        return {
            "samples": self._samples,
            "uncounted": list(self._uncounted),
            "folded": list(self._folded),
            "layers": {name: sums.state() for name, sums in self._sums.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the counts.

        Args:
            state: What `state_dict()` returned.
        """
        self.reset()
        self._add(state)

    def _add(self, state: dict[str, Any]) -> None:
        self._samples += state["samples"]
        for own, new in (
            (self._uncounted, state["uncounted"]),
            (self._folded, state["folded"]),
        ):
            own.extend(name for name in new if name not in own)
        for name, values in state["layers"].items():
            sums = _Sums.from_state(values)
            if name in self._sums:
                sums = self._sums[name].added(sums)
            self._sums[name] = sums


def synop_rules() -> dict[Any, Callable[..., int]]:
    """Make the host's `SynOpCounter` leave out pruned weights.

    `SynOpCounter(extra_rules=synop_rules())`, inside the host's
    `DispatchCounterMode`, counts the same accumulates as `SynapticOperations`. It sees
    operators, not layers: so it has no name for what is no spike, and counts none of
    it.

    Returns:
        Rules `(args, kwargs, out) -> count` by operator of aten.
    """
    aten = torch.ops.aten
    return {
        aten.convolution.default: _convolution_rule,
        aten.mm.default: lambda args, kwargs, out: _product_rule(*args[:2]),
        aten.addmm.default: lambda args, kwargs, out: _product_rule(*args[1:3]),
    }


def _convolution_rule(args: Any, kwargs: Any, out: Any) -> int:
    x, weight, _, stride, padding, dilation, transposed, extra, groups = args[:9]
    if not _is_spikes(x):
        return 0
    met = (weight != 0).double()
    if not transposed:
        # All output channels of a group in one: sums are all that is asked for.
        met = met.unflatten(0, (groups, -1)).sum(1)
    found = torch.ops.aten.convolution.default(
        (x != 0).double(),
        met,
        None,
        stride,
        padding,
        dilation,
        transposed,
        extra,
        groups,
    )
    return round(found.sum().item())


def _product_rule(x: Tensor, y: Tensor) -> int:
    if not (_is_spikes(x) or _is_spikes(y)):
        return 0
    return round(((x != 0).double().sum(0) @ (y != 0).double().sum(1)).item())


@dataclass(frozen=True)
class _Sums:
    """Counts of a layer by step, and what its inputs have been so far."""

    operations: Tensor
    repeated: Tensor
    dense: int
    spikes: bool
    integers: bool
    is_norm: bool = False

    def added(self, other: "_Sums") -> "_Sums":
        return _Sums(
            _joined(self.operations, other.operations),
            _joined(self.repeated, other.repeated),
            self.dense + other.dense,
            self.spikes and other.spikes,
            self.integers and other.integers,
            self.is_norm,
        )

    def layer(self) -> LayerOperations:
        values: Values = "reals"
        if self.integers:
            values = "spikes" if self.spikes else "integers"
        repeated = self.repeated if self.integers else self.operations
        return LayerOperations(
            _integers(self.operations),
            values,
            _integers(repeated),
            self.dense,
            self.is_norm,
        )

    def state(self) -> dict[str, Any]:
        return vars(self) | {
            "operations": self.operations.tolist(),
            "repeated": self.repeated.tolist(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "_Sums":
        counts = {
            key: torch.tensor(state[key], dtype=torch.float64)
            for key in ("operations", "repeated")
        }
        return cls(**(state | counts))


def _of_layer(module: nn.Module, x: Tensor) -> _Sums:
    """Count for `[T, N, ...]`."""
    if isinstance(module, _NORMS):
        steps = torch.full((len(x),), x[0].numel(), dtype=torch.float64)
        return _Sums(steps, steps, x.numel(), False, False, is_norm=True)
    met, dense = _met(module, x)
    axes = tuple(range(1, x.ndim - met.ndim))
    integers = bool((x == x.round()).all())

    def by_step(values: Tensor) -> Tensor:
        # Each element meets the same weights in every sample.
        summed = values.sum(axes, dtype=torch.float64)
        return (summed * met).flatten(1).sum(1).cpu()

    operations = by_step(x != 0)
    return _Sums(
        operations,
        by_step(x.abs()) if integers else operations,
        dense,
        integers and _is_spikes(x),
        integers,
    )


def _met(module: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Count the non-zero weights that an input element meets, by its place.

    Returns:
        Counts of the shape of one sample's features, and the multiplications of the
        dense layer for the whole of x `[T, N, ...]`.
    """
    weight: Tensor = module.weight  # type: ignore[assignment]
    met = (weight != 0).double()
    if isinstance(module, nn.Linear):
        return met.sum(0), x.numel() * weight.shape[0]
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    place = torch.zeros(x.shape[2:], dtype=torch.float64, device=x.device)
    place.requires_grad_()
    with torch.enable_grad():
        # The gradient of a sum of outputs counts the ways from each element to them,
        # at every stride, dilation and kind of padding.
        summed = met.unflatten(0, (module.groups, -1)).sum(1)
        out = module._conv_forward(place.unsqueeze(0), summed, None)
        (ways,) = torch.autograd.grad(out.sum(), place)
    pixels = out[0, 0].numel()
    return ways.round(), x.shape[0] * x.shape[1] * pixels * weight.numel()


def _is_spikes(x: Tensor) -> bool:
    return bool(((x == 0) | (x.abs() == 1)).all())


def _joined(one: Tensor, other: Tensor) -> Tensor:
    """Add counts by step; batches may differ in their number of steps."""
    found = torch.zeros(max(len(one), len(other)), dtype=torch.float64)
    found[: len(one)] += one
    found[: len(other)] += other
    return found


def _integers(counts: Tensor) -> tuple[int, ...]:
    return tuple(round(count) for count in counts.tolist())


def _without_rule(net: nn.Module) -> list[str]:
    """Name the modules that hold weight matrices and are not counted."""
    return [
        name or type(net).__name__
        for name, module in net.named_modules()
        if not isinstance(module, (*_COUNTED, ParametrizationList))
        and any(p.ndim > 1 for p in module.parameters(recurse=False))
    ]
