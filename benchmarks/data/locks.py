"""One process at a time in a folder of data, and what killed ones left there."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.data.frames import Progress

__all__ = ["locked", "remove_partials"]

# As `sj_ext.files.replace_file` names what it writes to.
_PARTIAL = re.compile(r"\..+\.\d+\.partial")


@contextmanager
def locked(path: Path, progress: Progress | None = None) -> Iterator[None]:
    """Keep other processes out until the end, or the death, of this one.

    Where the system can lock files; elsewhere nothing is kept out.

    Args:
        path: The file that is locked. It stays.
        progress: Called with "wait for another process" where there is one.

    Raises:
        OSError: The file cannot be locked, on a file system that has locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress is not None:
                progress("wait for another process", 0, 1)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems have no locks.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
        yield


def remove_partials(folder: Path, name: str = "*") -> None:
    """Remove what killed processes had begun to write; under the lock of its writers.

    Args:
        folder: Looked through with all below it.
        name: Pattern of the files that were being written.
    """
    for path in folder.rglob(f".{name}.partial"):
        if _PARTIAL.fullmatch(path.name) and path.is_file():
            path.unlink()
