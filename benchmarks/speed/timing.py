"""Fair timing: interleaved repetitions, medians, and the memory that autograd keeps."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Timing:
    """How one candidate did.

    Attributes:
        seconds: Median over the repetitions.
        low: Fastest repetition, in seconds.
        high: Slowest repetition, in seconds.
        saved_bytes: Bytes of distinct storages that autograd kept for backward, where
            that was measured.
        peak_bytes: Most bytes in use at once, above what stood before, where that was
            measured (`benchmarks.speed.peak`).
    """

    seconds: float
    low: float
    high: float
    saved_bytes: int | None
    peak_bytes: int | None = None


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    repetitions: int,
    device: torch.device,
    after_each: Callable[[], None] | None = None,
    with_saved: bool = True,
) -> dict[str, Timing]:
    """Time candidates in turn, so that a slow minute of the machine hits all alike.

    Args:
        candidates: What to time, by name; each runs twice unseen first.
        repetitions: Timed runs of each.
        device: Where they run.
        after_each: Called, untimed, after each repetition of all candidates.
        with_saved: Whether to count the bytes that autograd keeps, which
            `torch.func` does not let one do.

    Returns:
        Timing by name.
    """
    saved = {}
    for name, run in candidates.items():
        run()
        if with_saved:
            saved[name] = _saved_bytes(run)
        else:
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repetitions):
        for name, run in candidates.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
        if after_each is not None:
            after_each()
    return {
        name: Timing(statistics.median(found), min(found), max(found), saved.get(name))
        for name, found in seconds.items()
    }


def _saved_bytes(run: Callable[[], object]) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(kept.values())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
