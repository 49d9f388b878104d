"""Event files one by one: read, verified, written, moved out of the way."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.data.aedat2 import read_aedat2
from benchmarks.data.atis import Events, read_events
from benchmarks.data.frames import DamagedDataError, Progress
from benchmarks.data.integrate import check_events, native
from sj_ext.files import replace_file

__all__ = [
    "READERS",
    "md5",
    "problems_of",
    "read_npz",
    "save_npz",
    "set_aside",
    "silent",
    "to_native_order",
]


def read_npz(path: Path) -> Events:
    """Read a file of the host's raw folder, in the byte order of the machine."""
    # Opened here: numpy leaves a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return native({key: arrays[key] for key in "txyp"})


READERS: dict[str, Callable[[Path], Events]] = {
    ".aedat": read_aedat2,
    ".bin": read_events,
    ".npz": read_npz,
}
"""By the ending of the file."""


def problems_of(
    files: Sequence[Path], sensor: tuple[int, int], progress: Progress
) -> list[str]:
    """Read every file to its end.

    Args:
        files: Of `READERS`.
        sensor: Height and width.
        progress: Called with "check files", how much is done, and of how much.

    Returns:
        What is wrong, each with the file's name.
    """
    problems = []
    progress("check files", 0, len(files))
    for done, path in enumerate(files, start=1):
        try:
            check_events(READERS[path.suffix](path), sensor)
        # A damaged archive surfaces as almost any error of zipfile, zlib or numpy.
        except Exception as error:
            problems.append(f"{path}: {error}")
        progress("check files", done, len(files))
    return problems


def save_npz(path: Path, events: Events) -> None:
    """Write events as the host's loaders read them, in types that torch takes.

    Raises:
        ValueError: A value does not fit its type; the message names the file.
    """
    types = {"t": np.int64, "x": np.uint8, "y": np.uint8, "p": np.uint8}
    for key, kind in types.items():
        column, limit = events[key], np.iinfo(kind).max
        if column.size and not 0 <= column.min() <= column.max() <= limit:
            raise ValueError(
                f"Cannot write {path}: expected `{key}` in 0..{limit}, got "
                f"{column.min()}..{column.max()}."
            )
    with replace_file(path) as temporary, temporary.open("wb") as file:
        columns = {key: events[key].astype(kind) for key, kind in types.items()}
        np.savez_compressed(file, allow_pickle=False, **columns)


def to_native_order(raw: Path, progress: Progress) -> None:
    """Write files with big-endian times again, with the same values.

    Raises:
        DamagedDataError: A file cannot be read; the message names it.
    """
    files = sorted(raw.glob("*/*.npz"))
    progress("look at byte order", 0, len(files))
    for done, path in enumerate(files, start=1):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                swapped = not arrays["t"].dtype.isnative
            events = read_npz(path) if swapped else None
        # A damaged archive surfaces as almost any error of zipfile, zlib or numpy.
        except Exception as error:
            raise DamagedDataError(
                f"{path} is damaged: {error}. Remove it, and prepare again."
            ) from error
        if events is not None:
            save_npz(path, events)
        progress("look at byte order", done, len(files))


def set_aside(root: Path, path: Path) -> None:
    """Move what is in the way to `root/set_aside`, under a number of its own.

    What lies in a folder of frames keeps the name of that folder too.
    """
    if not path.exists() and not path.is_symlink():
        return
    inner = path.parent.name.startswith("frames_")
    name = f"{path.parent.name}_{path.name}" if inner else path.name
    number = 0
    while (target := root / "set_aside" / f"{name}.{number}").exists():
        number += 1
    target.parent.mkdir(exist_ok=True)
    path.rename(target)


def md5(path: Path) -> str:
    """Compute the MD5 of a file, as the sources of the data sets state it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""
