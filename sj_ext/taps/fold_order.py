"""Whether a network folds its axes as `[T*N, ...]` or as `[N*T, ...]`.

Shapes cannot tell. The values of the tensors on both sides of a fold can.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sj_ext.taps.layout import (
    Kind,
    Layout,
    Reading,
    TimeAxisError,
)


class FoldOrder:
    """Looks for `[N*T, ...]` in a pass.

    A fold stands between two tensors, of which one has both axes and the other has
    one: what a layer gave and what the next one takes. The network's input is compared
    with all that layers take.

    Args:
        given: Input of the network, None where it has none.
        batch_first: Whether that is `[N, T, ...]`.
    """

    def __init__(self, given: Tensor | None, batch_first: bool) -> None:
        self._given: list[tuple[Tensor, bool]] = []
        if given is not None and given.dim() > 1:
            steps_first = given.transpose(0, 1) if batch_first else given
            self._given.append((steps_first, True))
        if given is not None and given.dim() and not batch_first:
            self._given.append((given, False))
        self._last: list[tuple[Tensor, bool]] = []
        self._found = ""

    def before(self, name: str, kind: Kind, taken: Sequence[Tensor]) -> None:
        """Look at what a layer takes.

        Args:
            name: Of the layer.
            kind: Of the layer.
            taken: Its inputs.
        """
        last, self._last = self._last, []
        if self._found or not taken:
            return
        later = taken[0], kind is Kind.MULTI_STEP
        if any(_samples_first(one, later) for one in (*last, *self._given)):
            self._found = name

    def after(self, kind: Kind, given: Sequence[Tensor]) -> None:
        """Hold what a layer gave until the next one is called.

        Args:
            kind: Of the layer.
            given: Its outputs.
        """
        self._last = [(one, kind is Kind.MULTI_STEP) for one in given[:1]]

    def check(self, layouts: Iterable[Sequence[Layout]], reading: Reading) -> None:
        """Refuse to read `[N*T, ...]` as `[T*N, ...]`.

        Args:
            layouts: Of the outputs of the selected layers.
            reading: Of the pass.

        Raises:
            TimeAxisError: If a layer's output is folded and the pass folds samples
                first.
        """
        if self._found and any(Layout.FOLDED in one for one in layouts):
            T, N = reading.T, reading.N
            raise TimeAxisError(
                f"Expected folded tensors [T*N={T * N}, ...] with the steps one after "
                f"the other, got [N*T={N * T}, ...], sample after sample, at "
                f"{self._found!r}. Let the network put time first before it folds axes "
                "(`x.transpose(0, 1).flatten(0, 1)`), or leave the folded layers out "
                "by `layers`."
            )


def _samples_first(earlier: tuple[Tensor, bool], later: tuple[Tensor, bool]) -> bool:
    """Compare two tensors, each with whether it has both axes."""
    (a, a_is_timed), (b, b_is_timed) = earlier, later
    if (a.dtype, a.device, a.layout) != (b.dtype, b.device, torch.strided):
        return False
    if a.is_meta or not a.dim() or not b.dim():
        return False
    if a_is_timed == b_is_timed:
        return not a_is_timed and _repeats_samples(a, b)
    return _folds_samples(a, b) if a_is_timed else _folds_samples(b, a)


def _folds_samples(timed: Tensor, folded: Tensor) -> bool:
    if timed.dim() < 2 or timed.numel() != folded.numel():
        return False
    T, N = timed.shape[:2]
    if min(T, N) < 2 or len(folded) != T * N:
        return False
    if timed.data_ptr() == folded.data_ptr() and timed.is_contiguous():
        return False
    items = folded.reshape(T * N, -1)
    if torch.equal(items, timed.reshape(T * N, -1)):
        return False
    return torch.equal(items, timed.transpose(0, 1).reshape(N * T, -1))


def _repeats_samples(static: Tensor, folded: Tensor) -> bool:
    N, items = len(static), len(folded)
    if N < 2 or items <= N or items % N or static.shape[1:] != folded.shape[1:]:
        return False
    if not torch.equal(folded[0], folded[1]):
        return False
    T = items // N
    by_sample, by_step = folded.unflatten(0, (N, T)), folded.unflatten(0, (T, N))
    return torch.equal(
        by_sample, static.unsqueeze(1).expand_as(by_sample)
    ) and not torch.equal(by_step, static.expand_as(by_step))
