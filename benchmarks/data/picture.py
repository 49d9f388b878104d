"""One picture of a recording: where its events were, ON blue and OFF red on white."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.atis import Events
from benchmarks.data.event_files import READERS
from benchmarks.data.integrate import check_events, native

__all__ = ["densest", "draw", "event_picture", "read_recording"]

# Pixels with more events than all but so many of the pixels with any are drawn alike.
_BRIGHTEST = 98
_INK = np.array([[0.70, 0.09, 0.17], [0.13, 0.40, 0.67]])
_SENSOR = (128, 128)


def read_recording(path: str | os.PathLike[str]) -> tuple[Events, tuple[int, int]]:
    """Read a recording and find how large its pictures are.

    Args:
        path: An `.aedat` (AEDAT 2.0), `.bin` (N-MNIST, N-Caltech101) or `.npz` (of the
            host's raw folder) file.

    Returns:
        The events, and height and width: of the sensor with AEDAT 2.0, otherwise of
        the part of it that has events.

    Raises:
        ValueError: The file is of another kind, damaged or empty; it is named.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise ValueError(f"Expected one of {', '.join(READERS)}, got {path}.")
    try:
        events = native(READERS[path.suffix](path))
        if path.suffix == ".aedat":
            size = _SENSOR
        elif events["t"].size:
            size = (int(events["y"].max()) + 1, int(events["x"].max()) + 1)
        else:
            size = (1, 1)
        check_events(events, size)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from None
    return events, size


def densest(events: Events, duration: int) -> Events:
    """Take the stretch of time with the most events.

    Args:
        events: In order of time.
        duration: In microseconds.

    Returns:
        Its events; all where the recording is not longer.
    """
    t = events["t"]
    ends = np.searchsorted(t, t + duration)
    begin = int((ends - np.arange(len(t))).argmax())
    return {key: column[begin : ends[begin]] for key, column in events.items()}


def event_picture(events: Events, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw events: the more at a pixel, the darker it is.

    Args:
        events: Inside the size.
        size: Height and width.

    Returns:
        `[height, width, 3]`, red, green, blue.
    """
    height, width = size
    counts = np.zeros((2, height, width))
    place = ((events["p"] != 0).astype(np.int64), events["y"], events["x"])
    np.add.at(counts, place, 1.0)
    total = counts.sum(0)
    if not total.any():
        return np.full((height, width, 3), 255, np.uint8)
    full = np.percentile(total[total > 0], _BRIGHTEST)
    strength = np.sqrt(np.minimum(total / full, 1.0))[..., None]
    share = counts / np.maximum(total, 1.0)
    ink = np.einsum("phw,pc->hwc", share, _INK)
    picture = 1.0 - strength * (1.0 - ink)
    return (255 * picture).round().astype(np.uint8)


def draw(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    duration_ms: float = 100.0,
    enlarged: int = 4,
) -> int:
    """Write a picture of a recording to a PNG file.

    Args:
        path: As for `read_recording`.
        target: The PNG.
        duration_ms: How long a stretch is drawn, the one with the most events.
        enlarged: Pixels of the picture for one of the sensor, each way.

    Returns:
        How many events are drawn.

    Raises:
        ValueError: The recording cannot be read, or a number is out of range.
    """
    if not duration_ms > 0:
        raise ValueError(f"Expected `duration_ms` above 0, got {duration_ms}.")
    if enlarged < 1:
        raise ValueError(f"Expected `enlarged` of at least 1, got {enlarged}.")
    # Slow to import, and needless to everything else here.
    from matplotlib.image import imsave

    events, size = read_recording(path)
    shown = densest(events, round(duration_ms * 1000))
    picture = event_picture(shown, size)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    imsave(target, picture.repeat(enlarged, 0).repeat(enlarged, 1), format="png")
    return len(shown["t"])
