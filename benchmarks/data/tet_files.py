"""The files of a folder that was preprocessed as for TET: listed and read one by one.

What they hold is said in `benchmarks.data.tet`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.data.frames import DamagedDataError, Progress
from benchmarks.data.integrate import Binning
from benchmarks.data.sets import CIFAR10_DVS

__all__ = [
    "PARTS",
    "common_form",
    "file_states",
    "frames_first",
    "list_files",
    "read_file",
    "read_labels",
]

PARTS = ("train", "test")


def list_files(root: Path) -> list[tuple[str, Path]]:
    """List the files of both parts.

    Returns:
        Part and path of each, those for training first.

    Raises:
        FileNotFoundError: One is missing; it is named.
    """
    return [(part, path) for part in PARTS for path in _listed(root / part)]


def file_states(files: Sequence[tuple[str, Path]]) -> list[list[int]]:
    """Tell when any of the files is another: its size and time of change."""
    stats = [path.stat() for _, path in files]
    return [[s.st_size, s.st_mtime_ns] for s in stats]


def common_form(path: Path) -> tuple[Binning, bool]:
    """Say how all files should be, by the first.

    Args:
        path: The first file.

    Returns:
        Steps and size, and whether frames are divided by their largest values.
    """
    first = _first(path)
    binning = Binning(len(first), "number", (first.shape[2], first.shape[3]))
    return binning, bool(first.nan_to_num().max() <= 1)


def read_labels(files: Sequence[tuple[str, Path]], progress: Progress) -> list[int]:
    """Read the labels of all files.

    Args:
        files: As `list_files` gives them.
        progress: Called with "read labels", how much is done, and of how much.

    Returns:
        Indices of the classes.
    """
    progress("read labels", 0, len(files))
    stored: dict[str, list[tuple[Path, Tensor]]] = {part: [] for part in PARTS}
    for done, (part, path) in enumerate(files, start=1):
        stored[part].append((path, read_file(path)[1]))
        progress("read labels", done, len(files))
    return [label for part in PARTS for label in _meant(stored[part])]


def _listed(folder: Path) -> list[Path]:
    """List the files of a part.

    Returns:
        `0.pt`, `1.pt`, ..., none missing.

    Raises:
        FileNotFoundError: One is, or all are; it is named.
    """
    numbers = {int(path.stem) for path in folder.glob("*.pt") if path.stem.isdigit()}
    wanted = range(max(numbers, default=0) + 1)
    for number in wanted:
        if number not in numbers:
            raise FileNotFoundError(f"{folder / f'{number}.pt'} is missing.")
    return [folder / f"{number}.pt" for number in wanted]


def read_file(path: Path) -> tuple[Tensor, Tensor]:
    """Read a file.

    Returns:
        Frames, read from the disk when they are used, and label.

    Raises:
        DamagedDataError: The file cannot be read, or holds something else.
    """
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # written by torch before 1.6
            content = torch.load(path, map_location="cpu", weights_only=True)
        frames, label = content
    # A damaged file surfaces as almost any error of zipfile, pickle or torch.
    except Exception as error:
        raise DamagedDataError(f"Cannot read {path}: {error}") from error
    if not isinstance(frames, Tensor) or not isinstance(label, Tensor):
        raise DamagedDataError(
            f"Cannot read {path}: expected frames and label, two tensors, got "
            f"{type(frames).__name__} and {type(label).__name__}."
        )
    return frames, label


def _first(path: Path) -> Tensor:
    """Read the frames that say how the others should be.

    Returns:
        Frames `[T, 2, H, W]`.

    Raises:
        DamagedDataError: The file cannot be read, or has none; it is named.
    """
    frames, _ = read_file(path)
    try:
        return frames_first(frames)
    except DamagedDataError as error:
        raise DamagedDataError(f"Cannot read {path}: {error}") from error


def frames_first(frames: Tensor) -> Tensor:
    """Put the time first.

    Returns:
        Frames `[T, 2, H, W]`.

    Raises:
        DamagedDataError: They have neither of the two layouts.
    """
    if frames.ndim == 4 and frames.shape[1] == 2:
        return frames
    if frames.ndim == 4 and frames.shape[0] == 2:
        return frames.permute(3, 0, 1, 2)
    raise DamagedDataError(
        "Expected frames [T, 2, H, W] or [2, H, W, T], got "
        f"{frames.dtype} {list(frames.shape)}."
    )


def _meant(stored: Sequence[tuple[Path, Tensor]]) -> list[int]:
    """Read the labels of one folder.

    Returns:
        One for each file.

    Raises:
        DamagedDataError: One is no class; the message names the file.
    """
    by_length = any(label.numel() != 1 for _, label in stored)
    found = []
    for path, label in stored:
        value = label.numel() if by_length else float(label)
        if value not in range(len(CIFAR10_DVS.classes)):
            raise DamagedDataError(
                f"Cannot read {path}: expected a label in "
                f"0..{len(CIFAR10_DVS.classes) - 1}, got {value}."
            )
        found.append(int(value))
    return found
