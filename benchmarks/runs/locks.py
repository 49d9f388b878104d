"""One process at a time, and what killed ones left behind.

The system ends the lock of a process that dies. Where a system or a file system has no
locks, nothing is kept out.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["claimed", "locked", "remove_partials"]

# As `sj_ext.files.replace_file` names what it writes to.
_PARTIAL = re.compile(r"\..+\.\d+\.partial")


@contextmanager
def locked(
    path: Path, progress: Callable[[str, int, int], None] | None = None
) -> Iterator[None]:
    """Keep other processes waiting during the block.

    Args:
        path: A file, which is made where missing and stays, or a folder.
        progress: Called with "wait for another process", 0 and 1 where there is one.

    Raises:
        OSError: If it cannot be locked, on a file system that has locks.
    """
    with _opened(path) as descriptor:
        if not _locks(descriptor, wait=False):
            if progress is not None:
                progress("wait for another process", 0, 1)
            _locks(descriptor, wait=True)
        yield


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Keep other processes out during the block, if none is there.

    Args:
        path: A file, which is made where missing and stays, or a folder.

    Yields:
        Whether it is ours; False if another process has it.

    Raises:
        OSError: If it cannot be locked, on a file system that has locks.
    """
    with _opened(path) as descriptor:
        yield _locks(descriptor, wait=False)


def remove_partials(folder: Path, name: str = "*") -> None:
    """Remove what killed processes had begun to write; under the lock of its writers.

    Args:
        folder: Looked through with all below it.
        name: Pattern of the files that were being written.
    """
    for path in folder.rglob(f".{name}.partial"):
        if _PARTIAL.fullmatch(path.name) and path.is_file():
            path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locks(descriptor: int, wait: bool) -> bool:
    """Lock an open file until it is closed; say whether no other process has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        # Some network file systems have no locks.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
    return True
