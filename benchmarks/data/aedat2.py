"""AEDAT 2.0 files of the DVS128 sensor, the format of CIFAR10-DVS.

Header lines that begin with `#`, then pairs of big-endian 32-bit words: the address
`(127 - x) << 8 | (127 - y) << 1 | (1 - p)` and the time in microseconds.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.data.atis import Events, checked_columns
from sj_ext.files import replace_file

__all__ = ["SIZE", "decode_aedat2", "encode_aedat2", "read_aedat2", "write_aedat2"]

SIZE = 128
"""Height and width of the sensor."""

_MAGIC = b"#!AER-DAT2.0"
_HEADER = _MAGIC + b"\r\n# events: address and microseconds, 32 bits each\r\n"
_ADDRESS = 0x7FFF
_LIMITS = {"t": 2**32, "x": SIZE, "y": SIZE, "p": 2}


def encode_aedat2(events: Mapping[str, ArrayLike] | NDArray[np.void]) -> bytes:
    """Turn events into the bytes of a file.

    Args:
        events: Arrays `t` (microseconds, never falling), `x`, `y` (0..127) and `p`
            (0, 1), each `[events]`.

    Returns:
        A header and eight bytes for each event.

    Raises:
        ValueError: Arrays of different lengths or of other numbers than integers, a
            value that does not fit its bits, or times that go back.
    """
    columns = checked_columns(events, _LIMITS)
    words = np.empty((columns["t"].size, 2), ">u4")
    last = SIZE - 1
    words[:, 0] = (
        (last - columns["x"]) << 8 | (last - columns["y"]) << 1 | (1 - columns["p"])
    )
    words[:, 1] = columns["t"]
    return _HEADER + words.tobytes()


def decode_aedat2(data: bytes) -> Events:
    """Turn the bytes of a file into events.

    Args:
        data: Header and events.

    Returns:
        Arrays `t` (microseconds), `x`, `y`, `p`, with the values of SpikingJelly's
        reader, in the byte order of the machine.

    Raises:
        ValueError: There is no such header, the last event is cut, or an address lies
            outside the sensor.
    """
    if not data.startswith(_MAGIC):
        raise ValueError(
            f"Expected a file that begins with {_MAGIC.decode()}, got {data[:12]!r}."
        )
    start = 0
    while data[start : start + 1] == b"#":
        end = data.find(b"\n", start)
        if end < 0:
            raise ValueError("Expected a header of whole lines, got a cut line.")
        start = end + 1
    if (len(data) - start) % 8:
        raise ValueError(
            f"Expected eight bytes an event after the header of {start} bytes, got "
            f"{len(data) - start} bytes: the file is cut or odd."
        )
    words = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2).astype(np.uint32)
    address, t = words.T.copy()
    outside = np.flatnonzero(address > _ADDRESS)
    if outside.size:
        raise ValueError(
            f"Expected addresses of {SIZE} x {SIZE} pixels (at most {_ADDRESS:#x}), "
            f"got {address[outside[0]]:#x} at event {outside[0]}."
        )
    last = np.uint32(SIZE - 1)
    return {
        "t": t,
        "x": last - (address >> 8 & last),
        "y": last - (address >> 1 & last),
        "p": 1 - (address & 1),
    }


def write_aedat2(
    path: str | os.PathLike[str], events: Mapping[str, ArrayLike] | NDArray[np.void]
) -> None:
    """Write events to a file, replacing a former one only when complete.

    Args:
        path: The file.
        events: As for `encode_aedat2`.

    Raises:
        ValueError: The events cannot be encoded; the message names the file.
    """
    try:
        data = encode_aedat2(events)
    except ValueError as error:
        raise ValueError(f"Cannot write {path}: {error}") from None
    with replace_file(path) as temporary:
        temporary.write_bytes(data)


def read_aedat2(path: str | os.PathLike[str]) -> Events:
    """Read the events of a file.

    Args:
        path: The file.

    Returns:
        Arrays `t` (microseconds), `x`, `y`, `p`, each `[events]`.

    Raises:
        ValueError: As for `decode_aedat2`; the message names the file.
    """
    try:
        return decode_aedat2(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"Cannot read {path}: {error}") from None
