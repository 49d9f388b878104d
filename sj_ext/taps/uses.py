"""Which calls of a layer are steps of one use, and which are separate uses."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sj_ext.taps.layout import (
    Call,
    Kind,
    Layout,
    Reading,
    TimeAxisError,
    fold,
    is_repeated,
)


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
    if not is_repeated(order, T):
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
