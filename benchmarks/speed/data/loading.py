"""How frames are read in training: through torch's loader, alone and beside steps."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.data.transforms import Resize, collate
from benchmarks.models.neurons import neuron_factory
from benchmarks.models.vgg import VGG
from benchmarks.runs.config import NeuronConfig, SurrogateConfig
from benchmarks.speed.data.page_cache import drop

__all__ = [
    "UNCOUNTED",
    "Reader",
    "cold_rates",
    "direct_rates",
    "opening_seconds",
    "waiting_share",
    "warm_rates",
]

_STEP_SIZE = (48, 48)
_CHANNELS = (8, "A", 16, "A", 32, "A")
UNCOUNTED = 2
"""Steps that are not counted: the first ones find nothing prefetched."""


@dataclass(frozen=True)
class Reader:
    """One way to read the frames of a set.

    Attributes:
        open: Makes the data set; called anew for each cold measurement.
        files: What it reads.
        in_batches: Whether the data set gives a whole batch at once, rather than
            samples that are to be put together.
        verified: Makes it as training does, with all checks; None where `open` does.
    """

    open: Callable[[], Dataset[Any]]
    files: Sequence[Path]
    in_batches: bool
    verified: Callable[[], Dataset[Any]] | None = None

    def loader(
        self, order: Sequence[int], batch_size: int, workers: int
    ) -> DataLoader[Any]:
        """Load samples in the given order, as batches `[T, N, C, H, W]` with labels."""
        return DataLoader(
            self.open(),
            batch_size=batch_size,
            sampler=order,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_time_first if self.in_batches else collate,
        )


def _time_first(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    frames, labels = batch
    frames = frames.transpose(0, 1)
    return frames.to(torch.float32, memory_format=torch.contiguous_format), labels


def opening_seconds(
    readers: Mapping[str, Reader], repetitions: int
) -> dict[str, list[float]]:
    """Open each data set as training does, all readers in turn, warm.

    Args:
        readers: By name.
        repetitions: How often.

    Returns:
        Seconds of each time, by reader.
    """
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repetitions):
        for name, reader in readers.items():
            start = time.perf_counter()
            (reader.verified or reader.open)()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def direct_rates(
    readers: Mapping[str, Reader], order: Sequence[int], repetitions: int
) -> dict[str, list[float]]:
    """Read sample after sample, as integers or as the host has them, without a loader.

    Args:
        readers: By name.
        order: Samples that are read each time.
        repetitions: How often, all readers in turn.

    Returns:
        Samples per second of each time, by reader.
    """
    sets: dict[str, Any] = {name: reader.open() for name, reader in readers.items()}
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for repetition in range(-1, repetitions):
        for name, found in sets.items():
            start = time.perf_counter()
            for index in order:
                found[index]
            rate = len(order) / (time.perf_counter() - start)
            if repetition >= 0:  # the first time is not counted
                rates[name].append(rate)
    return rates


def warm_rates(
    readers: Mapping[str, Reader],
    order: Sequence[int],
    batch_size: int,
    workers: int,
    repetitions: int,
) -> dict[str, list[float]]:
    """Read everything again and again, all readers in turn.

    Args:
        readers: By name.
        order: Samples of an epoch.
        batch_size: Samples a batch.
        workers: Processes that read; 0 reads in this one. They are started before.
        repetitions: Epochs that are timed.

    Returns:
        Samples per second of each epoch, by reader.
    """
    loaders = {n: r.loader(order, batch_size, workers) for n, r in readers.items()}
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for loader in loaders.values():
        _read(loader)
    for _ in range(repetitions):
        for name, loader in loaders.items():
            rates[name].append(len(order) / _read(loader))
    return rates


def cold_rates(
    readers: Mapping[str, Reader],
    order: Sequence[int],
    batch_size: int,
    workers: int,
    repetitions: int,
) -> tuple[dict[str, list[float]], str | None]:
    """Read everything once from the disk, all readers in turn.

    Args:
        readers: By name.
        order: Samples, each once.
        batch_size: Samples a batch.
        workers: Processes that read; to start them takes part of the time.
        repetitions: How often, each time with the files dropped from memory.

    Returns:
        Samples per second of each time, by reader; and why they are not known to be
        cold, or None. Without rates where they are not.
    """
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repetitions):
        for name, reader in readers.items():
            if reason := drop(reader.files):
                return {}, reason
            loader = reader.loader(order, batch_size, workers)
            rates[name].append(len(order) / _read(loader))
    return rates, None


def _read(loader: DataLoader[Any]) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def waiting_share(
    reader: Reader,
    batches: int,
    order: Sequence[int],
    batch_size: int,
    workers: int,
    classes: int,
) -> dict[str, float]:
    """Train a small network, and see how much of each step goes by waiting for data.

    The network is the quickstart's, on frames of 48 x 48: a larger one waits less.

    Args:
        reader: Of the frames; warm.
        batches: Steps, the first two of which are not counted.
        order: Samples, gone through again and again.
        batch_size: Samples a batch.
        workers: Processes that read.
        classes: Number of logits.

    Returns:
        `share`, in [0, 1], and `step_seconds`, the median of a step, waiting included.
    """
    repeated = [order[n % len(order)] for n in range(batches * batch_size)]
    loader = reader.loader(repeated, batch_size, workers)
    step = _step(classes)
    waits, wholes = [], []
    for wait, whole in _timed(iter(loader), step):
        waits.append(wait)
        wholes.append(whole)
    return {
        "share": sum(waits[UNCOUNTED:]) / sum(wholes[UNCOUNTED:]),
        "step_seconds": statistics.median(wholes[UNCOUNTED:]),
    }


def _timed(
    loaded: Iterator[tuple[Tensor, Tensor]], step: Callable[[Tensor, Tensor], None]
) -> Iterator[tuple[float, float]]:
    while True:
        start = time.perf_counter()
        batch = next(loaded, None)
        ready = time.perf_counter()
        if batch is None:
            return
        step(*batch)
        yield ready - start, time.perf_counter() - start


def _step(classes: int) -> Callable[[Tensor, Tensor], None]:
    torch.manual_seed(0)
    neuron = neuron_factory(
        NeuronConfig(kwargs={"v_threshold": 0.5}), SurrogateConfig()
    )
    net = VGG(2, classes, _STEP_SIZE, neuron, _CHANNELS)
    optimizer = torch.optim.AdamW(net.parameters())
    resize = Resize(_STEP_SIZE)

    def step(frames: Tensor, labels: Tensor) -> None:
        logits = net(resize(frames)).mean(0)
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        functional.reset_net(net)

    return step
