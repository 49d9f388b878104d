"""The 40-bit event files of N-MNIST and N-Caltech101, as the ATIS sensor wrote them.

Five bytes an event: x, y, polarity (1 bit) and time in microseconds (23 bits, big
endian); no header.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sj_ext.files import replace_file

__all__ = [
    "Events",
    "checked_columns",
    "decode_events",
    "encode_events",
    "read_events",
    "write_events",
]

Events: TypeAlias = dict[str, NDArray[np.uint32]]
"""Arrays `t` (microseconds), `x`, `y`, `p`, each `[events]`, in order of time."""

_LIMITS = {"t": 2**23, "x": 2**8, "y": 2**8, "p": 2}


def checked_columns(
    events: Mapping[str, ArrayLike] | NDArray[np.void], limits: Mapping[str, int]
) -> dict[str, NDArray[np.int64]]:
    """Refuse events that a file cannot hold as they are.

    Args:
        events: Arrays under the names of `limits`, each `[events]`.
        limits: What each value has to be below.

    Returns:
        The columns as 64-bit integers.

    Raises:
        ValueError: Arrays of different lengths or of other numbers than integers, a
            value that does not fit its bits, or times that go back.
    """
    columns = {name: np.asarray(events[name]) for name in limits}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or columns["t"].ndim != 1:
        raise ValueError(
            f"Expected `events` to hold arrays of one length, got {shapes}."
        )
    for name, column in columns.items():
        if not np.issubdtype(column.dtype, np.integer):
            raise ValueError(f"Expected `{name}` of integers, got {column.dtype}.")
        if column.size and not 0 <= column.min() <= column.max() < limits[name]:
            raise ValueError(
                f"Expected `{name}` in 0..{limits[name] - 1}, got "
                f"{column.min()}..{column.max()}."
            )
    whole = {name: column.astype(np.int64) for name, column in columns.items()}
    t = whole["t"]
    falls = np.flatnonzero(np.diff(t) < 0)
    if falls.size:
        at = int(falls[0])
        raise ValueError(
            f"Expected `t` never to fall, got {t[at + 1]} after {t[at]} at event "
            f"{at + 1}."
        )
    return whole


def encode_events(events: Mapping[str, ArrayLike] | NDArray[np.void]) -> bytes:
    """Turn events into the bytes of a file.

    Args:
        events: Arrays `t` (microseconds, never falling), `x`, `y`, `p` under these
            names, each `[events]`: a mapping or a structured array.

    Returns:
        Five bytes for each event.

    Raises:
        ValueError: Arrays of different lengths, a value that does not fit its bits,
            or times that go back.
    """
    columns = checked_columns(events, _LIMITS)
    t = columns["t"]
    data = np.empty((t.size, 5), np.uint8)
    data[:, 0] = columns["x"]
    data[:, 1] = columns["y"]
    data[:, 2] = columns["p"] << 7 | t >> 16
    data[:, 3] = t >> 8 & 0xFF
    data[:, 4] = t & 0xFF
    return data.tobytes()


def decode_events(data: bytes) -> Events:
    """Turn the bytes of a file into events.

    Args:
        data: Five bytes for each event.

    Returns:
        Arrays `t` (microseconds), `x`, `y`, `p`, as SpikingJelly's reader gives them.

    Raises:
        ValueError: The number of bytes is no multiple of five.
    """
    if len(data) % 5:
        raise ValueError(
            f"Expected `data` of five bytes an event, got {len(data)} bytes."
        )
    parts = np.frombuffer(data, np.uint8).reshape(-1, 5).astype(np.uint32)
    x, y, high, middle, low = parts.T.copy()
    return {
        "t": (high & 0x7F) << 16 | middle << 8 | low,
        "x": x,
        "y": y,
        "p": high >> 7,
    }


def write_events(
    path: str | os.PathLike[str], events: Mapping[str, ArrayLike] | NDArray[np.void]
) -> None:
    """Write events to a file, replacing a former one only when complete.

    Args:
        path: The file.
        events: As for `encode_events`.

    Raises:
        ValueError: The events cannot be encoded; the message names the file.
    """
    try:
        data = encode_events(events)
    except ValueError as error:
        raise ValueError(f"Cannot write {path}: {error}") from None
    with replace_file(path) as temporary:
        temporary.write_bytes(data)


def read_events(path: str | os.PathLike[str]) -> Events:
    """Read the events of a file.

    Args:
        path: The file.

    Returns:
        Arrays `t` (microseconds), `x`, `y`, `p`, each `[events]`.

    Raises:
        ValueError: The file is cut inside an event.
    """
    try:
        return decode_events(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"Cannot read {path}: {error}") from None
