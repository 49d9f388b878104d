"""Frames of counts as few bytes: where the counts are, and how large.

Most counts are zero. Kept are the gaps between those that are not, as bytes (longer
gaps apart), and the counts, each compressed by zlib.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "unpack"]

_LEVEL = 6
_LONG = 255
_HEADER = struct.Struct("<4I")


def pack(counts: NDArray[np.integer]) -> bytes:
    """Compress counts without loss.

    Args:
        counts: Of any shape, none negative, at most 65535.

    Returns:
        Bytes; shape and type are not in them.
    """
    flat = counts.reshape(-1)
    place = np.flatnonzero(flat)
    gaps = np.diff(place, prepend=-1) - 1
    long = gaps >= _LONG
    parts = [
        zlib.compress(part.tobytes(), _LEVEL)
        for part in (
            np.minimum(gaps, _LONG).astype(np.uint8),
            gaps[long].astype("<u4"),
            # Two planes of bytes: the upper one is almost always all zeros.
            (flat[place] & 0xFF).astype(np.uint8),
            (flat[place] >> 8).astype(np.uint8),
        )
    ]
    return _HEADER.pack(*map(len, parts)) + b"".join(parts)


def unpack(data: bytes, out: NDArray[np.integer]) -> None:
    """Undo `pack`.

    Args:
        data: What it returned.
        out: Array of the shape, which is overwritten.

    Raises:
        ValueError: The bytes are damaged.
    """
    try:
        lengths = _HEADER.unpack_from(data)
        parts, start = [], _HEADER.size
        for length in lengths:
            parts.append(zlib.decompress(data[start : start + length]))
            start += length
        gaps = np.frombuffer(parts[0], np.uint8).astype(np.int64)
        gaps[gaps == _LONG] = np.frombuffer(parts[1], "<u4")
        low = np.frombuffer(parts[2], np.uint8).astype(out.dtype)
        high = np.frombuffer(parts[3], np.uint8).astype(np.int64)
        out.fill(0)
        if high.any():
            low = (low + (high << 8)).astype(out.dtype)
        out.reshape(-1)[np.cumsum(gaps + 1) - 1] = low
    except (struct.error, zlib.error, IndexError, ValueError) as error:
        raise ValueError(f"Expected whole compressed frames, got {error}.") from error
