"""Finding the time axis: what T and N are, and where they stand in a tensor.

Pure functions of shapes. Evidence counts in this order: the step mode of the module
that took or gave a tensor, the counts of elements against N and T, the declared T.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor


class TimeAxisError(ValueError):
    """The time axis of a tensor cannot be told for certain."""


class Layout(Enum):
    """Where time and sample axes stand in a tensor."""

    TIME_FIRST = "[T, N, ...]"
    BATCH_FIRST = "[N, T, ...]"
    TIME_LAST = "[N, ..., T]"
    FOLDED = "[T*N, ...]"
    STATIC = "[N, ...]"


class Kind(Enum):
    """What a module's type says about the axes of its tensors."""

    MULTI_STEP = "a module of the host in step mode m"
    TIME_LAST = "a container of the host with time as the last axis"
    SINGLE_STEP = "a neuron of the host in step mode s"
    CHANNELS = "a layer that takes [batch, channels, ...]"
    FEATURES = "a layer that takes [..., features]"
    ELEMENTWISE = "a layer that keeps its input's axes"
    OTHER = "a layer that can do anything"


class Seen(NamedTuple):
    """A tensor that passed by: its shape, and a number that tells it from others."""

    shape: tuple[int, ...]
    tag: int


@dataclass
class Call:
    """One call of a module in a pass.

    Attributes:
        name: Of the module.
        kind: Of the module.
        inputs: The tensors that it took.
        outputs: The tensors that it gave.
        within: Number of the multi-step call that it happened in, None for none.
    """

    name: str
    kind: Kind
    inputs: list[Seen]
    outputs: list[Seen] = field(default_factory=list)
    within: int | None = None


@dataclass(frozen=True)
class Reading:
    """How the tensors of one pass are read.

    Attributes:
        T: Steps that the pass held.
        N: Samples.
        is_step: Whether the pass was one step of a network called step by step.
        multi_step: Whether modules in step mode m took part.
        batch_first: Whether the network's input and output are `[N, T, ...]`.
        known: Layouts of certain tensors, by tag.
        earlier: Layouts that layers had in passes with another batch, by name and rank.
    """

    T: int
    N: int
    is_step: bool = False
    multi_step: bool = False
    batch_first: bool = False
    known: dict[int, Layout] = field(default_factory=dict)
    earlier: dict[tuple[str, int], Layout | None] = field(default_factory=dict)

    def layout(self, name: str, seen: Seen, kind: Kind) -> Layout:
        """Say where the axes of a tensor stand.

        Args:
            name: Of the layer, for messages.
            seen: A tensor that the layer took or gave.
            kind: Of the layer.

        Returns:
            The only layout that fits.

        Raises:
            TimeAxisError: If none or several fit.
        """
        shape = seen.shape
        if kind is Kind.TIME_LAST and (shape[:1], shape[-1:]) == ((self.N,), (self.T,)):
            return Layout.TIME_LAST
        if kind is Kind.MULTI_STEP:
            options = self._in_multi_step(shape)
        else:
            options = self._by_counts(shape, kind)
        for evidence in (
            self.known.get(seen.tag),
            self.earlier.get((name, len(shape))),
        ):
            if len(options) > 1 and evidence in options:
                options = {evidence}
        if len(options) == 1:
            return options.pop()
        if not options:
            raise TimeAxisError(
                f"Expected {name!r} to give {self._choices()}, got "
                f"{list(shape)}. Declare `T` if it is another, or leave the layer out "
                "by `layers`."
            )
        names = " or ".join(sorted(option.value for option in options))
        raise TimeAxisError(
            f"Expected one way to read {list(shape)} of {name!r} with T = {self.T} and "
            f"N = {self.N}, got several: {names}. A batch of another size "
            "decides, one that is no other axis; or leave the layer out by `layers`."
        )

    def _in_multi_step(self, shape: tuple[int, ...]) -> set[Layout]:
        if shape[:2] == (self.T, self.N):
            return {Layout.TIME_FIRST}
        options = set()
        if shape[:1] == (self.T * self.N,):
            options.add(Layout.FOLDED)
        if shape[1:2] == (self.N,):
            # A layer with a number of steps of its own.
            options.add(Layout.TIME_FIRST)
        if shape[:1] == (self.N,) and (not options or shape[1:2] == (self.N,)):
            # A module that takes the mean over time, of as many features as samples.
            options.add(Layout.STATIC)
        return options

    def _by_counts(self, shape: tuple[int, ...], kind: Kind) -> set[Layout]:
        T, N = self.T, self.N
        options = set()
        two_axes = (
            kind is not Kind.CHANNELS and len(shape) > (kind is Kind.FEATURES) + 1
        )
        if two_axes and shape[:2] == (T, N):
            options.add(Layout.TIME_FIRST)
        if two_axes and self.batch_first and shape[:2] == (N, T):
            options.add(Layout.BATCH_FIRST)
        if shape[:1] == (N,):
            options.add(Layout.STATIC)
        if T > 1 and shape[:1] == (T * N,):
            options.add(Layout.FOLDED)
        if N == 1 and Layout.TIME_FIRST in options:
            # Every reading has the same axes up to one of length 1.
            return {Layout.TIME_FIRST if T > 1 or self.multi_step else Layout.STATIC}
        if T == 1 and Layout.BATCH_FIRST in options and Layout.STATIC in options:
            return {Layout.BATCH_FIRST}
        if options == {Layout.FOLDED} and self.batch_first and not self.multi_step:
            # Nothing tells whether the samples or the steps run fastest.
            return set()
        return options

    def _choices(self) -> str:
        T, N = self.T, self.N
        choices = [f"[T={T}, N={N}, ...]", f"[N={N}, ...]"]
        if not self.batch_first or self.multi_step:
            choices.insert(1, f"[T*N={T * N}, ...]")
        return ", ".join(choices)


def fold(tensor: Tensor, layout: Layout, T: int, N: int) -> Tensor:
    """Bring a tensor to `[T, N, ...]`.

    Args:
        tensor: In the layout named.
        layout: Of the tensor.
        T: Steps.
        N: Samples.

    Returns:
        A view `[T, N, ...]`, `[1, N, ...]` of a static one.
    """
    if layout is Layout.FOLDED:
        return tensor.unflatten(0, (T, N))
    if layout is Layout.STATIC:
        return tensor.unsqueeze(0)
    if layout is Layout.BATCH_FIRST:
        return tensor.transpose(0, 1)
    if layout is Layout.TIME_LAST:
        return tensor.movedim(-1, 0)
    return tensor


def read(
    calls: Sequence[Call],
    selected: set[str],
    network: Call,
    T: int | None,
    batch_first: bool,
    earlier: dict[tuple[str, int], Layout | None] | None = None,
) -> Reading:
    """Find T and N of a pass.

    Args:
        calls: All calls of the pass, in the order in which they ended.
        selected: The layers that must be readable.
        network: The call of the network as a whole.
        T: As declared.
        batch_first: As declared.
        earlier: What `learn` has found in earlier passes.

    Returns:
        The only reading under which the evidence holds.

    Raises:
        TimeAxisError: If there is none, or several.
    """
    shape = network.inputs[0].shape if network.inputs else None
    if batch_first and shape is not None and len(shape) < 2:
        raise TimeAxisError(
            f"Expected an input [N, T, ...] with `batch_first`, got {list(shape)}."
        )
    if any(call.kind in (Kind.MULTI_STEP, Kind.TIME_LAST) for call in calls):
        T_N = _of_multi_step(calls, shape, T, batch_first)
        reading = Reading(*T_N, multi_step=True, batch_first=batch_first)
    elif any(call.kind is Kind.SINGLE_STEP for call in calls):
        reading = _of_single_step(calls, shape, T, batch_first)
    else:
        reading = _without_neurons(calls, selected, network, T, batch_first)
    known = _known(calls, network, reading)
    return replace(reading, known=known, earlier=earlier or {})


def learn(
    calls: Sequence[Call],
    selected: set[str],
    reading: Reading,
    earlier: dict[tuple[str, int], Layout | None],
) -> None:
    """Remember layouts for a batch, often the last, that has as many samples as steps.

    Args:
        calls: Of a pass.
        selected: The layers that are wanted.
        reading: Of the pass; nothing is learned where T = N.
        earlier: Filled; None for a layer that has had several layouts.
    """
    if reading.T == reading.N:
        return
    for call in calls:
        if call.name in selected:
            for seen in call.outputs:
                layout = reading.layout(call.name, seen, call.kind)
                place = call.name, len(seen.shape)
                same = earlier.setdefault(place, layout) is layout
                earlier[place] = layout if same else None


def _of_multi_step(
    calls: Sequence[Call],
    shape: tuple[int, ...] | None,
    T: int | None,
    batch_first: bool,
) -> tuple[int, int]:
    pairs = list(
        dict.fromkeys(
            (call.inputs[0].shape[0], call.inputs[0].shape[1])
            if call.kind is Kind.MULTI_STEP
            else (call.inputs[0].shape[-1], call.inputs[0].shape[0])
            for call in calls
            if call.kind in (Kind.MULTI_STEP, Kind.TIME_LAST)
            and call.inputs
            and len(call.inputs[0].shape) > 1
        )
    )
    candidates = list(pairs)
    if T is not None and shape:
        candidates += [(T, N) for N in shape[:2] if (T, N) not in pairs]
    fitting = [
        (t, n)
        for t, n in candidates
        if T in (None, t)
        and (shape is None or fits_input(t, n, shape, batch_first))
        and all((p == t and q == n) or p == t * n or q == n for p, q in pairs)
    ]
    if len(fitting) > 1:
        # What a module has said by itself counts before what was concluded.
        fitting = [pair for pair in fitting if pair in pairs] or fitting
    if len(fitting) == 1:
        return fitting[0]
    said = ", ".join(f"[{p}, {q}, ...]" for p, q in pairs)
    raise TimeAxisError(
        f"Expected the modules in step mode m to agree on [T, N, ...], got {said} with "
        f"an input {list(shape or ())}, T = {T} declared and batch_first = "
        f"{batch_first}. Declare `T`, or `batch_first` for an input [N, T, ...]."
    )


def fits_input(T: int, N: int, shape: tuple[int, ...], batch_first: bool) -> bool:
    """Tell whether T and N go with the shape of the network's input."""
    if batch_first:
        return shape[:2] == (N, T)
    return shape[:2] == (T, N) or shape[:1] == (N,)


def _of_single_step(
    calls: Sequence[Call],
    shape: tuple[int, ...] | None,
    T: int | None,
    batch_first: bool,
) -> Reading:
    neurons = [call for call in calls if call.kind is Kind.SINGLE_STEP and call.inputs]
    counts = Counter(call.name for call in neurons)
    N = neurons[0].inputs[0].shape[0]
    if set(counts.values()) == {1}:
        if shape is None or shape[:1] == (N,):
            return Reading(1, N, is_step=True)
        looped = (shape[1], shape[0]) if batch_first else shape[:2]
        if tuple(looped) == (1, N):
            return Reading(1, N, batch_first=batch_first)
        raise TimeAxisError(
            "Expected neurons in step mode s to take one step [N, ...] of the input, "
            f"got [{N}, ...] from an input {list(shape)}. Set step mode m for an input "
            "[T, N, ...], or call the network once a step."
        )
    steps = T if T is not None else _looped_steps(calls, counts, shape, N, batch_first)
    uneven = [name for name, count in counts.items() if count % steps]
    if uneven:
        raise TimeAxisError(
            f"Expected neurons in step mode s to be called T = {steps} times in a pass "
            f"of the network, got {counts[uneven[0]]} calls of {uneven[0]!r}. `T` "
            "decides."
        )
    return Reading(steps, N, batch_first=batch_first)


def _looped_steps(
    calls: Sequence[Call],
    counts: Counter[str],
    shape: tuple[int, ...] | None,
    N: int,
    batch_first: bool,
) -> int:
    if shape is not None and len(shape) > 1:
        n, steps = shape[:2] if batch_first else (shape[1], shape[0])
        if n == N and all(count % steps == 0 for count in counts.values()):
            return steps
    values = set(counts.values())
    if len(values) == 1 and len(counts) > 1:
        steps = values.pop()
        order = [call.name for call in calls if call.name in counts]
        if _is_repeated(order, steps):
            return steps
    raise TimeAxisError(
        f"Expected to see T from the input or from the calls, got an input "
        f"{list(shape or ())} and neurons in step mode s called "
        f"{dict(counts)} times: declare `T`."
    )


def _is_repeated(order: list[str], times: int) -> bool:
    return len(order) % times == 0 and order == order[: len(order) // times] * times


def _without_neurons(
    calls: Sequence[Call],
    selected: set[str],
    network: Call,
    T: int | None,
    batch_first: bool,
) -> Reading:
    shape = network.inputs[0].shape if network.inputs else None
    if shape is None or not shape:
        raise TimeAxisError(
            "Expected the network to take a tensor or to hold neurons of the host, got "
            "neither: its samples cannot be told."
        )
    if T is None and not batch_first:
        return Reading(1, shape[0])
    if batch_first:
        if T not in (None, shape[1]):
            raise TimeAxisError(
                f"Expected an input [N, T={T}, ...] with `batch_first`, got "
                f"{list(shape)}."
            )
        return Reading(shape[1], shape[0], batch_first=True)
    assert T is not None
    candidates = {shape[0]}
    if shape[0] == T and len(shape) > 1:
        candidates.add(shape[1])
    readings = [Reading(T, N) for N in sorted(candidates)]
    if T > 1 and not any(_shows_anywhere(one, calls, network) for one in readings):
        raise TimeAxisError(
            f"Expected the declared T = {T} to show in the input or in a layer, got an "
            f"input {list(shape)} and {len(calls)} calls without it. Leave `T` out of "
            "a network without steps; give one that takes [T*N, ...] an input "
            "[T, N, ...] through `spikingjelly.activation_based.layer."
            "SeqToANNContainer`."
        )
    fitting = [one for one in readings if _reads(one, calls, selected)]
    if len(fitting) > 1:
        # A T that shows nowhere would not have been declared.
        fitting = [one for one in fitting if _shows_time(one, calls, selected)]
    if len(fitting) == 1:
        return fitting[0]
    raise TimeAxisError(
        f"Expected the layers to fit T = {T} and an input {list(shape)} in one way, "
        f"got {len(fitting)} ways. A batch of another size, one that is no other axis, "
        "decides, or `batch_first`, or another `T`."
    )


def _reads(reading: Reading, calls: Sequence[Call], selected: set[str]) -> bool:
    try:
        list(_layouts(reading, calls, selected))
    except TimeAxisError:
        return False
    return True


def _shows_time(reading: Reading, calls: Sequence[Call], selected: set[str]) -> bool:
    if any(one is not Layout.STATIC for one in _layouts(reading, calls, selected)):
        return True
    return reading.T > 1 and any(
        count == reading.T for count in Counter(call.name for call in calls).values()
    )


def _shows_anywhere(reading: Reading, calls: Sequence[Call], network: Call) -> bool:
    T, N = reading.T, reading.N
    if any(count % T == 0 for count in Counter(call.name for call in calls).values()):
        return True
    tensors = [
        seen.shape
        for call in (*calls, network)
        for seen in (*call.inputs, *call.outputs)
    ]
    return any(shape[:1] == (T * N,) or shape[:2] == (T, N) for shape in tensors)


def _layouts(
    reading: Reading, calls: Sequence[Call], selected: set[str]
) -> Iterable[Layout]:
    for call in calls:
        if call.name in selected:
            for seen in call.outputs:
                yield reading.layout(call.name, seen, call.kind)


def _known(calls: Sequence[Call], network: Call, reading: Reading) -> dict[int, Layout]:
    """Follow tensors from modules that know their layout to modules that keep it."""
    known: dict[int, Layout] = {}
    if reading.batch_first:
        for seen in (*network.inputs[:1], *network.outputs):
            if len(seen.shape) > 2 and seen.shape[:2] == (reading.N, reading.T):
                known[seen.tag] = Layout.BATCH_FIRST
    for call in calls:
        for seen in (*call.inputs, *call.outputs):
            if call.kind is Kind.MULTI_STEP and seen.shape[:2] == (
                reading.T,
                reading.N,
            ):
                known[seen.tag] = Layout.TIME_FIRST
            elif call.kind is Kind.CHANNELS and seen.shape[:1] == (reading.N,):
                known.setdefault(seen.tag, Layout.STATIC)
    for ordered in (calls, calls[::-1]):
        for call in ordered:
            if call.kind not in (Kind.FEATURES, Kind.ELEMENTWISE):
                continue
            if not call.inputs or len(call.outputs) != 1:
                continue
            given, made = call.inputs[0], call.outputs[0]
            if (
                len(given.shape) == len(made.shape)
                and given.shape[:2] == made.shape[:2]
            ):
                for one, other in ((given, made), (made, given)):
                    if one.tag in known:
                        known.setdefault(other.tag, known[one.tag])
    return known


class Group(NamedTuple):
    """Calls of one layer that belong together.

    Attributes:
        key: The layer's name, with `#2`, ... for its second use and so on.
        calls: Positions among the calls of the pass: one, or one for each step.
    """

    key: str
    calls: tuple[int, ...]


def group(
    calls: Sequence[Call], selected: set[str], reading: Reading
) -> tuple[list[Group], dict[int, list[Layout]]]:
    """Tell the steps of a layer from its repeated uses.

    Args:
        calls: All calls of the pass, in the order in which they ended.
        selected: The layers that are wanted.
        reading: Of the pass.

    Returns:
        The uses of the layers in order of execution, and for each call the layouts of
        its outputs.

    Raises:
        TimeAxisError: If steps cannot be told from uses, or a layout is uncertain.
    """
    layouts = {
        index: [reading.layout(call.name, seen, call.kind) for seen in call.outputs]
        for index, call in enumerate(calls)
        if call.name in selected
    }
    of_name: dict[str, list[int]] = {}
    for index in layouts:
        of_name.setdefault(calls[index].name, []).append(index)
    groups = []
    for name, indices in of_name.items():
        static = all(one is Layout.STATIC for i in indices for one in layouts[i])
        if reading.T > 1 and len(indices) > 1 and static:
            uses = _split(calls, name, indices, reading)
        else:
            uses = [(index,) for index in indices]
        for number, use in enumerate(uses, start=1):
            groups.append(Group(name if number == 1 else f"{name}#{number}", use))
    return sorted(groups, key=lambda one: one.calls[0]), layouts


def _split(
    calls: Sequence[Call], name: str, indices: list[int], reading: Reading
) -> list[tuple[int, ...]]:
    T = reading.T
    within = {calls[index].within for index in indices}
    if reading.multi_step and within != {None}:
        # A container runs over the steps: each of its calls is one use.
        uses = [
            tuple(i for i in indices if calls[i].within == one)
            for one in dict.fromkeys(calls[index].within for index in indices)
        ]
        if all(len(use) in (1, T) for use in uses):
            return uses
        raise _uncountable(name, len(indices), T)
    looped = any(call.kind is Kind.SINGLE_STEP for call in calls)
    if reading.multi_step and not looped:
        if len(indices) % T == 0:
            raise _uncountable(name, len(indices), T)
        return [(index,) for index in indices]
    if len(indices) % T:
        raise _uncountable(name, len(indices), T)
    if len(indices) == T:
        return [tuple(indices)]
    counts = Counter(call.name for call in calls)
    order = [call.name for call in calls if counts[call.name] % T == 0]
    if not _is_repeated(order, T):
        raise _uncountable(name, len(indices), T)
    uses_a_step = len(indices) // T
    return [tuple(indices[use::uses_a_step]) for use in range(uses_a_step)]


def _uncountable(name: str, count: int, T: int) -> TimeAxisError:
    return TimeAxisError(
        f"Expected the calls of {name!r} to be T = {T} steps or separate uses of it, "
        f"got {count} calls of [N, ...] that can be either. `T` decides, or leave the "
        "layer out by `layers`."
    )


def stack(tensors: Sequence[Tensor], layouts: Sequence[Layout], r: Reading) -> Tensor:
    """Bring the calls of one use together.

    Args:
        tensors: Of one call, or of one call for each step.
        layouts: Of each.
        r: The reading of the pass.

    Returns:
        `[T, N, ...]`.
    """
    folded = [
        fold(one, layout, r.T, r.N)
        for one, layout in zip(tensors, layouts, strict=True)
    ]
    return folded[0] if len(folded) == 1 else torch.cat(folded)
