"""Writing files so that what stood there before is never lost.

A file is written under a temporary name in the same folder and renamed over the
old one only when it is complete and on disk.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to `path` at the end.

    If the block raises, or the process dies inside it, the former file at `path`
    is untouched.

    Args:
        path: The file to create or replace. Its folder is made where missing.

    Yields:
        A path in the same folder, to be written by the caller.

    Raises:
        OSError: If it cannot be written; the message names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"Could not write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8) to `path`, replacing the former file only when complete."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
