"""The planted digits: event digits with class evidence in known time steps only.

By default these are the middle steps, 4 to 6 of 10; see `planted_steps.plant`. The
split is that of the event digits: `data.split: event_digits`.
"""

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.data import event_digits
from benchmarks.data.frames import (
    DamagedDataError,
    EventFrames,
    Progress,
    read_frames,
    write_frames,
)
from benchmarks.data.planted_steps import plant
from benchmarks.data.splits import read_split

__all__ = ["load", "prepare"]

_NAME = "planted_digits"
_FORMAT = 1
_TIME_STEPS = 10


def prepare(
    root: str | os.PathLike[str],
    *,
    seed: int = 0,
    time_steps: int = _TIME_STEPS,
    per_class: int | None = None,
    first: int | None = None,
    last: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the event digits, and beside them frames with planted evidence.

    Args:
        root: Folder of these data alone; the event digits lie in a folder in it.
        seed: Of the permutations.
        time_steps: Frames a recording, T.
        per_class: Only so many of each digit; None for all.
        first: First step with evidence, counted from 1; None for two fifths of T.
        last: Last step with evidence; None for three fifths of T.
        progress: Called with the stage, how much is done, and of how much.

    Returns:
        The file with the frames; one that is complete and of the same settings is
        left as it is.
    """
    source = Path(root) / "event_digits"
    event_digits.prepare(
        source, time_steps=time_steps, per_class=per_class, progress=progress
    )
    data = event_digits.load(source, time_steps)
    first = max(1, 2 * time_steps // 5) if first is None else first
    last = max(first, 3 * time_steps // 5) if last is None else last
    header = {
        "name": _NAME,
        "format": _FORMAT,
        "description": f"{event_digits.DESCRIPTION}; class evidence in steps {first} "
        f"to {last} of {time_steps} only",
        "time_steps": time_steps,
        "first": first,
        "last": last,
        "seed": seed,
        "source": data.checksum,
    }
    path = _file(root, time_steps)
    if not _is_complete(path, header):
        if progress is not None:
            progress("plant", 0, 1)
        parts = read_split("event_digits").restricted(data.names).indices(data.names)
        write_frames(path, plant(data, parts, first, last, seed), header)
        if progress is not None:
            progress("plant", 1, 1)
    return path


def load(root: str | os.PathLike[str], time_steps: int = _TIME_STEPS) -> EventFrames:
    """Read prepared frames.

    Args:
        root: Folder given to `prepare`.
        time_steps: Frames a recording, as given to `prepare`.

    Returns:
        Frames `[n, T, 2, 32, 32]` of all recordings, ordered by name.

    Raises:
        FileNotFoundError: Nothing was prepared there, or not for these time steps.
        DamagedDataError: The file is damaged, or of another version of the project.
    """
    path = _file(root, time_steps)
    command = (
        f"python -m benchmarks data prepare {_NAME} --root {root} "
        f"--time-steps {time_steps}"
    )
    if not path.is_file():
        raise FileNotFoundError(
            f"The planted digits for `time_steps`={time_steps} are missing: no "
            f"{path.absolute()}. Prepare them with: {command}"
        )
    data, header = read_frames(path)
    if (found := header.get("format")) != _FORMAT:
        raise DamagedDataError(
            f"{path} has format {found}, not {_FORMAT}: remove it and write it again "
            f"with: {command}"
        )
    return data


def _is_complete(path: Path, header: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    try:
        _, found = read_frames(path)
    except DamagedDataError:
        return False
    found.pop("checksum")
    return json.loads(json.dumps(header)) == found


def _file(root: str | os.PathLike[str], time_steps: int) -> Path:
    return Path(root) / f"{_NAME}_T{time_steps}.npz"
