"""The planted digits: event digits with class evidence in known time steps only.

By default these are the middle steps, 4 to 6 of 10; see `planted_steps.plant`. The
split is that of the event digits: `data.split: event_digits`.
"""

import json
import os
import shlex
from pathlib import Path
from typing import Any

from benchmarks.data import event_digits
from benchmarks.data.frames import (
    DamagedDataError,
    EventFrames,
    Progress,
    prepared_steps,
    read_frames,
    write_frames,
)
from benchmarks.data.planted_steps import plant
from benchmarks.data.splits import read_split

__all__ = ["DESCRIPTION", "check", "load", "prepare"]

DESCRIPTION = (
    f"{event_digits.DESCRIPTION}, with class evidence in known time steps only"
)

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
    source = _source(root)
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
    return _read(root, time_steps)[0]


def check(
    root: str | os.PathLike[str],
    progress: Progress | None = None,
    time_steps: int | None = None,
) -> list[str]:
    """Verify the event digits, and the frames that were made of them.

    Args:
        root: Folder given to `prepare`.
        progress: Called with the stage, how much is done, and of how much.
        time_steps: Frames a recording, which have to be there; None takes the frames
            of all numbers of steps that are there.

    Returns:
        What is wrong, each with the file's name; empty where all is well.
    """
    problems = []
    every = prepared_steps(root, _NAME) or [_TIME_STEPS]
    for steps in every if time_steps is None else [time_steps]:
        try:
            header = _read(root, steps)[1]
        except (FileNotFoundError, DamagedDataError) as error:
            problems.append(str(error))
            continue
        try:
            of = event_digits.load(_source(root), steps).checksum
        except (FileNotFoundError, DamagedDataError):
            continue  # which is said below
        if header.get("source") != of:
            problems.append(f"{_file(root, steps)} is of other event digits")
    return problems + event_digits.check(_source(root), progress, time_steps)


def _read(
    root: str | os.PathLike[str], time_steps: int
) -> tuple[EventFrames, dict[str, Any]]:
    """Read frames of this version, and their header; see `load`."""
    path = _file(root, time_steps)
    command = (
        f"python -m benchmarks data prepare {_NAME} --root {shlex.quote(str(root))} "
        f"--time-steps {time_steps}"
    )
    if not path.is_file():
        raise FileNotFoundError(
            f"The planted digits for `time_steps`={time_steps} are missing: no "
            f"{path.absolute()}. Prepare them with: {command}"
        )
    data, header = read_frames(path)
    for key, expected in (("format", _FORMAT), ("time_steps", time_steps)):
        if (found := header.get(key)) != expected:
            raise DamagedDataError(
                f"{path} has {key} {found}, not {expected}: remove it and write it "
                f"again with: {command}"
            )
    return data, header


def _source(root: str | os.PathLike[str]) -> Path:
    return Path(root) / "event_digits"


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
