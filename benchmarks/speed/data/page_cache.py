"""Files out of the system's page cache, so that the next read comes from the disk."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["drop", "resident_share"]

_PAGE = 4096
_SAMPLED = 64
# Of the pages: what other processes hold, or the system keeps for its own reasons.
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
        return "this file system does not tell which pages are in memory"
    if share > _TOLERATED:
        return f"{share:.0%} of the pages stayed in memory"
    return None


def resident_share(files: Sequence[Path]) -> float | None:
    """Ask for some pages of each file, to be had only without waiting for the disk.

    Args:
        files: None empty.

    Returns:
        The share of pages that were to be had; None where the system cannot tell.

    Raises:
        OSError: A file cannot be read.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    asked = there = 0
    for path in files:
        pages = max(1, path.stat().st_size // _PAGE)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # From the end: a page that is read makes the system read those after it.
            for page in sorted({p * pages // _SAMPLED for p in range(_SAMPLED)})[::-1]:
                asked += 1
                there += _is_there(descriptor, page * _PAGE)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return None
            raise
        finally:
            os.close(descriptor)
    return there / asked


def _is_there(descriptor: int, offset: int) -> bool:
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
