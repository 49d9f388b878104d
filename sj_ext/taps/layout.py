"""Where time and samples stand in the tensors of a pass, given T and N."""

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

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


def is_repeated(order: list[str], times: int) -> bool:
    """Tell whether a list is one that is repeated so many times."""
    return len(order) % times == 0 and order == order[: len(order) // times] * times
