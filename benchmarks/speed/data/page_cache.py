"""Files out of the system's page cache, so that the next read comes from the disk."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["drop", "resident_share"]

# Of the pages: what the system keeps for its own reasons.
_TOLERATED = 0.05


def drop(files: Sequence[Path]) -> str | None:
    """Ask the system to forget what it keeps of files, and see whether it did.

    Args:
        files: Not mapped by any process, whose pages stay.

    Returns:
        None where the pages are gone; otherwise why reads are not known to be cold.
    """
    if not hasattr(os, "posix_fadvise"):
        return "this system has no posix_fadvise"
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # Pages that are not written yet cannot be dropped.
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    share = resident_share(files)
    if share is None:
        return "this system does not tell which pages are in memory"
    if share > _TOLERATED:
        return f"{share:.0%} of the pages stayed in memory"
    return None


def resident_share(files: Sequence[Path]) -> float | None:
    """Ask which pages are in memory, by `mincore`, which reads none of them.

    Args:
        files: None empty.

    Returns:
        Their share; None where the system cannot tell.
    """
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (AttributeError, OSError, TypeError):  # not a Unix
        return None
    there = asked = 0
    page = os.sysconf("SC_PAGE_SIZE")
    for path in files:
        mapped = np.memmap(path, np.uint8, mode="r")
        found = np.zeros(-(-mapped.size // page), np.uint8)
        failed = mincore(
            ctypes.c_void_p(mapped.ctypes.data),
            ctypes.c_size_t(mapped.size),
            ctypes.c_void_p(found.ctypes.data),
        )
        if failed:
            return None
        there += int((found & 1).sum())
        asked += found.size
    return there / asked
