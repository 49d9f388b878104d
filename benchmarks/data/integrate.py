"""Events to frames of integer counts, with the slices of SpikingJelly's loaders.

Same values as the host's `integrate_events_by_fixed_frames_number`, but integers, at a
smaller size where wanted, and an empty slice of time gives an empty frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.data.atis import Events

__all__ = ["Binning", "check_events", "integrate", "native", "slices"]


@dataclass(frozen=True)
class Binning:
    """How events become frames.

    Attributes:
        time_steps: Frames a recording, T.
        split_by: Slices of equal `"number"` of events or equal `"time"`.
        sensor: Height and width of the sensor.
        size: Height and width of the frames; events of the pixels that fall together
            are added up. None keeps the sensor's.
    """

    time_steps: int
    split_by: Literal["number", "time"]
    sensor: tuple[int, int]
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse settings that no frames can have.

        Raises:
            ValueError: Too few steps, an unknown way to split, or a size above the
                sensor's.
        """
        if self.time_steps < 1:
            raise ValueError(
                f"Expected `time_steps` of at least 1, got {self.time_steps}."
            )
        if self.split_by not in ("number", "time"):
            raise ValueError(
                f"Expected `split_by` to be number or time, got {self.split_by!r}."
            )
        pairs = zip(self.frame, self.sensor, strict=True)
        if not all(1 <= own <= whole for own, whole in pairs):
            raise ValueError(
                f"Expected `size` within the sensor {self.sensor}, got {self.size}."
            )

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.size or self.sensor


def native(events: Mapping[str, ArrayLike] | NDArray[Any]) -> Events:
    """Give events as 64-bit integers of the machine's byte order.

    Args:
        events: Arrays under `t`, `x`, `y`, `p`, of any integers or booleans; the host
            gives big-endian times for CIFAR10-DVS.

    Returns:
        The same values.
    """
    return {name: np.asarray(events[name]).astype(np.int64) for name in "txyp"}


def check_events(events: Events, sensor: tuple[int, int]) -> None:
    """Refuse events that no recording can have.

    Args:
        events: As `native` gives them.
        sensor: Height and width.

    Raises:
        ValueError: No events, arrays of different lengths, a coordinate outside the
            sensor, or a time that runs back.
    """
    lengths = {name: column.shape for name, column in events.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"Expected arrays of one length, got {lengths}.")
    if not events["t"].size:
        raise ValueError("Expected at least one event, got an empty recording.")
    height, width = sensor
    for name, limit in (("x", width), ("y", height), ("p", 2)):
        column = events[name]
        if not 0 <= column.min() <= column.max() < limit:
            raise ValueError(
                f"Expected `{name}` in 0..{limit - 1}, got "
                f"{column.min()}..{column.max()}."
            )
    falls = np.flatnonzero(np.diff(events["t"].astype(np.int64)) < 0)
    if falls.size:
        at = int(falls[0])
        raise ValueError(
            f"Expected times that never run back, got {events['t'][at + 1]} after "
            f"{events['t'][at]} at event {at + 1} ({falls.size} such)."
        )


def slices(t: NDArray[np.int64], binning: Binning) -> list[tuple[int, int]]:
    """Cut a recording as the host does.

    Args:
        t: Times of the events, `[events]`.
        binning: How many slices, of equal what.

    Returns:
        First event and the one after the last of each slice; equal where the slice is
        empty, for which the host raises an IndexError.
    """
    steps, n = binning.time_steps, len(t)
    if binning.split_by == "number":
        ends = [n // steps * step for step in range(steps)] + [n]
        return list(pairwise(ends))
    if not n:
        return [(0, 0)] * steps
    first = int(t[0])
    length = (int(t[-1]) - first) // steps
    found = []
    for step in range(steps):
        begin = first + length * step
        inside = np.flatnonzero((t >= begin) & (t < begin + length))
        if inside.size:
            found.append((int(inside[0]), int(inside[-1]) + 1))
        else:
            place = int(np.searchsorted(t, begin))
            found.append((place, place))
    found[-1] = (found[-1][0], n)
    return found


def integrate(events: Events, binning: Binning) -> NDArray[np.int64]:
    """Count the events of each slice, polarity and pixel.

    Args:
        events: As `native` gives them, inside the sensor.
        binning: How.

    Returns:
        Counts `[T, 2, H, W]`.
    """
    height, width = binning.frame
    y, x = events["y"], events["x"]
    if binning.size is not None:
        y = y * height // binning.sensor[0]
        x = x * width // binning.sensor[1]
    place = ((events["p"] != 0) * height + y) * width + x
    pixels = 2 * height * width
    frames = np.empty((binning.time_steps, pixels), np.int64)
    for step, (begin, end) in enumerate(slices(events["t"], binning)):
        frames[step] = np.bincount(place[begin:end], minlength=pixels)
    return frames.reshape(binning.time_steps, 2, height, width)
