"""What the layers of a network computed, by name, as `[T, N, ...]`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sj_ext.taps.layout import (
    Call,
    Layout,
    Reading,
    TimeAxisError,
    fold,
)
from sj_ext.taps.uses import (
    Group,
    stack,
)

KINDS = ("output", "input", "pre_reset", "post_reset", "output_gradient")
"""What can be recorded of a layer."""


Reduce = Callable[[str, Tensor], Any]
"""From a layer's name and its output `[T, N, ...]` to what is kept of it."""


class Reduced(NamedTuple):
    """What `Reduce` made of an output before the pass ended."""

    value: Any


@dataclass
class Captured:
    """The tensors of one call, by what they are and by their place in a structure.

    Attributes:
        tensors: Copies, for each kind but the gradients; of outputs that were reduced
            on the way, a `Reduced`.
        places: Of the outputs.
        gradients: Of the outputs, by place.
        foreseen: How outputs were read when they were reduced, by place.
    """

    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    gradients: dict[str, "Gradient"] = field(default_factory=dict)
    foreseen: dict[str, tuple[Layout, Reading]] = field(default_factory=dict)

    def check_foreseen(
        self, name: str, layouts: Sequence[Layout], reading: Reading
    ) -> None:
        """Compare how outputs were read with how they are read at the end.

        Args:
            name: Of the layer.
            layouts: Of its outputs.
            reading: Of the pass.

        Raises:
            TimeAxisError: If they were read otherwise.
        """
        for place, (layout, then) in self.foreseen.items():
            now = layouts[self.places.index(place)]
            if layout is not now or (then.T, then.N) != (reading.T, reading.N):
                raise TimeAxisError(
                    f"Expected {name!r} to be {now.value} with T = {reading.T} and "
                    f"N = {reading.N}, got it reduced as {layout.value} with "
                    f"T = {then.T} and N = {then.N}. A batch of another size, or a "
                    "declared `T`, decides before the pass ends."
                )


class Gradient:
    """The gradient of one output, once a backward pass has reached it."""

    def __init__(self, output: Tensor, detach: bool) -> None:
        self._shape, self._dtype = output.shape, output.dtype
        self._device, self._detach = output.device, detach
        self.value: Tensor | None = None

    def __call__(self, gradient: Tensor) -> None:
        """Take what arrives, in place of what an earlier backward pass brought."""
        self.value = gradient.detach().clone() if self._detach else gradient.clone()

    def or_zero(self) -> Tensor:
        """Give the gradient; a step that the loss does not depend on has zeros."""
        if self.value is not None:
            return self.value
        return torch.zeros(self._shape, dtype=self._dtype, device=self._device)


@dataclass
class Pass:
    """One pass of the network, with the places of its axes known."""

    reading: Reading
    calls: list[Call]
    captured: dict[int, Captured]
    groups: list[Group]
    layouts: dict[int, list[Layout]]
    logits: Tensor | None

    def tensors(self, kind: str) -> Iterator[tuple[str, Any]]:
        """List what was recorded of one kind, as `[T, N, ...]`, in order."""
        for one in self.groups:
            parts = [self.captured[index] for index in one.calls]
            if kind == "output_gradient":
                for suffix in parts[0].gradients:
                    values = [part.gradients[suffix].or_zero() for part in parts]
                    yield one.key + suffix, self._stack(one, kind, suffix, values)
                continue
            suffixes = [list(part.tensors.get(kind, {})) for part in parts]
            if any(other != suffixes[0] for other in suffixes):
                raise TimeAxisError(
                    f"Expected {one.key!r} to give the same structure at every step, "
                    f"got {suffixes}."
                )
            for suffix in suffixes[0]:
                values = [part.tensors[kind][suffix] for part in parts]
                yield one.key + suffix, self._stack(one, kind, suffix, values)

    def reached(self) -> set[str]:
        """Name the outputs that a gradient has reached, at one step at least."""
        return {
            one.key + suffix
            for one in self.groups
            for index in one.calls
            for suffix, gradient in self.captured[index].gradients.items()
            if gradient.value is not None
        }

    def _stack(self, one: Group, kind: str, suffix: str, values: list[Any]) -> Any:
        if isinstance(values[0], Reduced):
            return values[0]
        return stack(
            values,
            [self._layout(index, kind, suffix) for index in one.calls],
            self.reading,
        )

    def _layout(self, index: int, kind: str, suffix: str) -> Layout:
        call = self.calls[index]
        if kind == "input":
            place = list(self.captured[index].tensors["input"]).index(suffix)
            return self.reading.layout(call.name, call.inputs[place], call.kind)
        if kind in ("pre_reset", "post_reset"):
            return self.layouts[index][0]
        place = self.captured[index].places.index(suffix)
        return self.layouts[index][place]


class Record:
    """What `taps` recorded, filled pass by pass.

    A pass of a network in step mode m, of one that runs over the steps inside, or of
    one without neurons is a sequence of its own: it takes the place of the one before.
    Passes of a network in step mode s are steps: they go on along T until its neurons
    are reset.
    """

    def __init__(
        self,
        names: list[str],
        output: Callable[[Any], Tensor] | None,
        T: int | None,
        reduce: Reduce | None = None,
    ) -> None:
        self._names = names
        self._reduce = reduce
        self._output = output
        self._declared = T
        self._passes: list[Pass] = []
        self.replaced = 0
        """How many passes later ones have taken the place of."""

    @property
    def output(self) -> dict[str, Any]:
        """Outputs `[T, N, ...]` by name, in order of execution, or what is kept."""
        found: dict[str, Any] = self._of("output")
        if self._reduce is None:
            return found
        return {
            key: one.value if isinstance(one, Reduced) else self._reduce(key, one)
            for key, one in found.items()
        }

    @property
    def input(self) -> dict[str, Tensor]:
        """Inputs `[T, N, ...]` by name; `name.0`, `name.1` if there are several."""
        return self._of("input")

    @property
    def pre_reset(self) -> dict[str, Tensor]:
        """Potentials h `[T, N, ...]` of neurons, charged and not yet reset."""
        return self._of("pre_reset")

    @property
    def post_reset(self) -> dict[str, Tensor]:
        """Potentials v `[T, N, ...]` of neurons at the end of each step."""
        return self._of("post_reset")

    @property
    def output_gradient(self) -> dict[str, Tensor]:
        """Gradients of the outputs `[T, N, ...]` from the last backward pass.

        They are those of what the layer passes on: what a neuron's reset does with its
        own spikes is no part of them. A step that the loss does not depend on has
        zeros. A layer that no gradient has reached is left out, and so is one inside a
        reentrant activation checkpoint.
        """
        return self._of("output_gradient")

    @property
    def logits(self) -> Tensor | None:
        """What the network returned, or `output` picked, as `[T or 1, N, ...]`.

        None before the first pass, and where the network returns no tensor and no
        `output` says where it is.
        """
        results = [self._logits(one) for one in self._passes]
        found = [one for one in results if one is not None]
        return torch.cat(found) if found else None

    @property
    def T(self) -> int | None:
        """Steps that are recorded; None before the first pass."""
        return sum(one.reading.T for one in self._passes) or None

    @property
    def N(self) -> int | None:
        """Samples in the batch; None before the first pass."""
        return self._passes[-1].reading.N if self._passes else None

    @property
    def not_executed(self) -> list[str]:
        """Layers that were selected but took no part."""
        seen = {
            one.calls[index].name
            for one in self._passes
            for uses in one.groups
            for index in uses.calls
        }
        return [name for name in self._names if name not in seen]

    def clear(self) -> None:
        """Forget all that was recorded."""
        self._passes.clear()

    def pick(self, result: Any) -> Tensor | None:
        """Find the logits in what the network returned.

        Args:
            result: What it returned.

        Returns:
            The logits, or None where nobody says which they are.

        Raises:
            TypeError: If `output` gives no tensor.
        """
        if self._output is None:
            return result if isinstance(result, Tensor) else None
        logits = self._output(result)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"Expected `output` to give a tensor, got {type(logits).__name__}."
            )
        return logits

    def add(self, one: Pass, goes_on: bool) -> None:
        """Take in a pass.

        Args:
            one: The pass.
            goes_on: Whether it follows the passes before along T.

        Raises:
            TimeAxisError: If more steps come than were declared.
        """
        if not (goes_on and one.reading.is_step):
            self.replaced += len(self._passes)
            self._passes.clear()
        self._passes.append(one)
        if self._declared is not None and len(self._passes) > self._declared > 1:
            raise TimeAxisError(
                f"Expected T = {self._declared} calls of a network in step mode s, got "
                f"{len(self._passes)} without a reset: call `functional.reset_net` or "
                "`record.clear()` between sequences."
            )

    def _logits(self, one: Pass) -> Tensor | None:
        logits = one.logits
        if logits is None:
            return None
        T, N, shape = one.reading.T, one.reading.N, tuple(logits.shape)
        layouts = []
        if len(shape) > 2 and one.reading.batch_first and shape[:2] == (N, T):
            layouts = [Layout.BATCH_FIRST]
        elif len(shape) > 2 and shape[:2] == (T, N):
            layouts = [Layout.TIME_FIRST]
            if T == N > 1 and len(shape) > 3:
                layouts.append(Layout.STATIC)
        elif shape[:1] == (N,):
            layouts = [Layout.STATIC]
        elif shape[:1] == (T * N,) and not one.reading.batch_first:
            layouts = [Layout.FOLDED]
        if len(layouts) != 1:
            raise TimeAxisError(
                f"Expected logits [T={T}, N={N}, ...], [N={N}, ...] or [T*N={T * N}, "
                f"...], got {list(shape)}, which is {'both' if layouts else 'none'}. "
                "`output` picks them out, `batch_first` says that N comes first."
            )
        return fold(logits, layouts[0], T, N)

    def _of(self, kind: str) -> dict[str, Any]:
        parts: dict[str, list[Any]] = {}
        for one in self._passes:
            for key, tensor in one.tensors(kind):
                parts.setdefault(key, []).append(tensor)
        if kind == "output_gradient":
            reached: set[str] = set().union(*(one.reached() for one in self._passes))
            parts = {key: found for key, found in parts.items() if key in reached}
        for key, found in parts.items():
            if len(found) != len(self._passes):
                raise TimeAxisError(
                    f"Expected {key!r} at each of {len(self._passes)} steps, got it at "
                    f"{len(found)}: its steps cannot be told."
                )
        return {
            key: found[0] if len(found) == 1 else torch.cat(found)
            for key, found in parts.items()
        }


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """List the tensors in tuples, lists and dicts.

    Args:
        value: What a module returned.
        prefix: Of the places.

    Yields:
        Places such as `.0` or `.key.1`, empty for a tensor by itself, and tensors.
    """
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, f"{prefix}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from flatten(item, f"{prefix}.{index}")
