"""Batches of one or two loaders: same samples, same order, no short one at the end."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

MINIMUM_SAMPLES = 4
"""The unbiased estimator divides by n (n - 3)."""

_ROLES = {
    "target": "targets",
    "targets": "targets",
    "label": "targets",
    "labels": "targets",
    "index": "index",
    "indices": "index",
    "idx": "index",
}


def network_input(batch: Any) -> Any:
    """Pick a network's input out of a batch where the user does not say how.

    Args:
        batch: A tensor, a tuple or list that begins with the input, or a dict with one
            tensor beside targets and indices.

    Returns:
        The input.

    Raises:
        ValueError: If a dict has none or several tensors that could be it.
        TypeError: If `batch` is of another type, or empty.
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        found = [
            key
            for key, value in batch.items()
            if isinstance(value, Tensor) and str(key).lower() not in _ROLES
        ]
        if len(found) != 1:
            raise ValueError(
                "Expected `batch` to be a dict with one tensor that can be the "
                f"network's input, got {found or 'none'}: say which by "
                "Side(..., inputs=lambda batch: batch[...])."
            )
        return batch[found[0]]
    if isinstance(batch, (tuple, list)) and batch:
        return batch[0]
    raise TypeError(
        "Expected `batch` to be a tensor, tuple, list or dict, got "
        f"{type(batch).__name__}: say what the input is by Side(..., inputs=...)."
    )


def sample_identity(batch: Any) -> dict[str, Tensor | list[str]]:
    """Collect what tells samples apart: "targets", and "index" where there is one.

    Args:
        batch: In a tuple the second entry is the targets, and a third of integers, one
            a sample, the index; in a dict the keys tell.

    Returns:
        A tensor, or a list of strings, for each that there is.
    """
    if isinstance(batch, Mapping):
        named = {_ROLES.get(str(key).lower(), ""): batch[key] for key in batch}
        named.pop("", None)
    elif isinstance(batch, (tuple, list)):
        named = dict(zip(("targets", "index"), batch[1:], strict=False))
    else:
        named = {}
    found = {role: _of_samples(value) for role, value in named.items()}
    index = found.get("index")
    if isinstance(index, Tensor) and (index.ndim != 1 or index.is_floating_point()):
        del found["index"]
    return {role: value for role, value in found.items() if value is not None}


def check_order(batch_x: Any, batch_y: Any, number: int) -> set[str]:
    """Compare the targets and indices of two batches.

    Args:
        batch_x: Of the first loader.
        batch_y: Of the second.
        number: Of the batch, from 0, for the message.

    Returns:
        What was compared: "targets", "index", both or nothing.

    Raises:
        ValueError: If they differ.
    """
    identity_x, identity_y = sample_identity(batch_x), sample_identity(batch_y)
    common = identity_x.keys() & identity_y.keys()
    for role in sorted(common):
        difference = _difference(identity_x[role], identity_y[role])
        if difference is None:
            continue
        raise ValueError(
            "Expected both loaders to give the same samples in the same order, got "
            f"batch {number} with different {role}: {difference}. Use one loader for "
            "both networks, or two without shuffling."
        )
    return common


def paired(loader_x: Iterable[Any], loader_y: Iterable[Any]) -> Iterator[Any]:
    """Go through two loaders at once.

    Args:
        loader_x: For the first network.
        loader_y: For the second.

    Yields:
        A pair of batches.

    Raises:
        ValueError: If one ends before the other.
    """
    end = object()
    iterator_y = iter(loader_y)
    number = 0
    for batch_x in loader_x:
        batch_y = next(iterator_y, end)
        if batch_y is end:
            raise ValueError(
                f"Expected two loaders of one length, got batch {number} of the first "
                "and none of the second."
            )
        yield batch_x, batch_y
        number += 1
    if next(iterator_y, end) is not end:
        raise ValueError(
            f"Expected two loaders of one length, got batch {number} of the second and "
            "none of the first."
        )


def without_short_end(batches: Iterable[Any]) -> Iterator[Any]:
    """Append a last batch of fewer than four samples to the one before it.

    Args:
        batches: Of any nesting of tuples, lists and dicts of tensors.

    Yields:
        The batches; one is held back, to see whether it is the last but one.
    """
    iterator = iter(batches)
    before = next(iterator, None)
    if before is None:
        return
    last = next(iterator, None)
    while last is not None:
        following = next(iterator, None)
        if following is None and _is_short(before, last):
            before, last = _concatenated(before, last), None
            break
        yield before
        before, last = last, following
    yield before


def _is_short(before: Any, last: Any) -> bool:
    """Whether the tensors of `last` are those of `before` but for fewer samples."""
    sizes = set()
    for a, b in zip(_tensors(before), _tensors(last), strict=False):
        axis = _batch_axis(a, b)
        if axis is not None:
            sizes.add(b.shape[axis])
    return len(sizes) == 1 and sizes.pop() < MINIMUM_SAMPLES


def _batch_axis(a: Tensor, b: Tensor) -> int | None:
    """Find the one axis along which the shapes differ, whatever the layout."""
    if a.ndim != b.ndim:
        return None
    apart = [
        axis for axis, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n
    ]
    return apart[0] if len(apart) == 1 else None


def _concatenated(a: Any, b: Any) -> Any:
    if isinstance(a, Tensor):
        axis = _batch_axis(a, b)
        return a if axis is None else torch.cat([a, b], dim=axis)
    if isinstance(a, Mapping):
        return {key: _concatenated(a[key], b[key]) for key in a}
    if isinstance(a, (tuple, list)):
        if not _tensors(a):
            return [*a, *b]
        parts = [_concatenated(m, n) for m, n in zip(a, b, strict=True)]
        return type(a)(*parts) if hasattr(a, "_fields") else type(a)(parts)
    return a


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (tuple, list)):
        return [tensor for part in batch for tensor in _tensors(part)]
    return []


def _of_samples(value: Any) -> Tensor | list[str] | None:
    if isinstance(value, Tensor):
        return value if value.dim() else None
    if isinstance(value, (tuple, list)):
        if all(isinstance(entry, (int, float)) for entry in value):
            return torch.tensor(value)
        if all(isinstance(entry, str) for entry in value):
            return list(value)
    return None


def _difference(a: Tensor | list[str], b: Tensor | list[str]) -> str | None:
    """Say in a few words where two differ, None if nowhere."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape:
            return f"shapes {list(a.shape)} and {list(b.shape)}"
        # Types may differ, values not.
        apart = (a.cpu() != b.cpu()).flatten().nonzero()
        return f"the first difference at entry {int(apart[0])}" if len(apart) else None
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return "numbers and strings"
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} strings"
    places = [at for at, (one, two) in enumerate(zip(a, b, strict=True)) if one != two]
    return f"the first difference at entry {places[0]}" if places else None
