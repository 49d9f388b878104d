"""Event data sets by name: prepared once into a folder, loaded as uint8 frames.

`prepare("event_digits", root)` writes the data, `load("event_digits", root)` reads
it. The train/validation/test lists are in `benchmarks.data.splits`.
"""

import importlib
import os
from pathlib import Path
from typing import Any

from benchmarks.data.frames import DamagedDataError, EventFrames, Progress
from benchmarks.runs.config import CacheConfig, DataConfig

__all__ = [
    "DamagedDataError",
    "EventFrames",
    "Progress",
    "available",
    "check",
    "has_settings",
    "load",
    "load_configured",
    "missing",
    "prepare",
    "status",
]

# Modules with `prepare(root, *, time_steps, progress, ...)`, `load(root, time_steps)`
# and `check(root, progress, time_steps)`, or a class in one; imported on first use, as
# their libraries are heavy. Those that have `cache` take its settings in `prepare` and
# `load` too.
_DATA_SETS = {
    "cifar10": "benchmarks.data.cifar:CifarSet",
    "cifar100": "benchmarks.data.cifar:CifarSet",
    "cifar10_subset": "benchmarks.data.cifar:CifarSubset",
    "cifar10_dvs": "benchmarks.data.event_sets:EventSet",
    "cifar10_dvs_tet": "benchmarks.data.tet:TetSet",
    "dvs128_gesture": "benchmarks.data.gesture:GestureSet",
    "dvs128_objects": "benchmarks.data.objects:ObjectSet",
    "event_digits": "benchmarks.data.event_digits",
    "n_caltech101": "benchmarks.data.event_sets:EventSet",
    "planted_digits": "benchmarks.data.planted",
    "shd": "benchmarks.data.shd:SpikeSet",
}


_SETTINGS = ("size", "split_by", "compressed")


def available() -> tuple[str, ...]:
    """List the names of the data sets.

    Returns:
        Names in alphabetical order.
    """
    return tuple(sorted(_DATA_SETS))


def prepare(
    name: str,
    root: str | os.PathLike[str],
    *,
    time_steps: int = 10,
    progress: Progress | None = None,
    **options: Any,
) -> Path:
    """Write a data set into a folder; do nothing where it is complete already.

    Args:
        name: One of `available()`.
        root: Folder of this data set alone.
        time_steps: Frames a recording.
        progress: Called with the stage, how much is done, and of how much.
        **options: Further options of the data set: `seed`, `per_class`; of sets that
            have such settings also `size`, `split_by` and `compressed`.

    Returns:
        The file with the frames.

    Raises:
        ValueError: Such a setting is given for a set that has frames of one kind only.
    """
    prepare_data: Any = _module(name).prepare
    given = [key for key in _SETTINGS if key in options]
    if given and not has_settings(name):
        raise ValueError(
            f"Expected no {', '.join(given)} with {name}, which has frames of one kind "
            "only."
        )
    path: Path = prepare_data(root, time_steps=time_steps, progress=progress, **options)
    return path


def load(
    name: str,
    root: str | os.PathLike[str],
    time_steps: int = 10,
    cache: CacheConfig | None = None,
) -> EventFrames:
    """Read a prepared data set.

    Args:
        name: One of `available()`.
        root: Folder given to `prepare`.
        time_steps: Frames a recording.
        cache: Which frames of a set of event files; None takes those that `prepare`
            made. Others are built first where they are not there.

    Returns:
        All recordings of the set.

    Raises:
        ValueError: `cache` is given for a set that has frames of one kind only.
    """
    found = _module(name)
    if cache is None:
        data: EventFrames = found.load(root, time_steps)
        return data
    if not has_settings(name):
        raise ValueError(
            f"Expected no `data.cache` with {name}, which has frames of one kind only."
        )
    size = None if cache.size is None else (cache.size, cache.size)
    settings = {"split_by": cache.split_by, "compressed": cache.compressed}
    data = found.load(root, time_steps, size=size, **settings)
    return data


def has_settings(name: str) -> bool:
    """Say whether a set has frames of several sizes and slices.

    Args:
        name: One of `available()`.

    Returns:
        True of sets of files that the user brings; which settings a set refuses, its
        `cache` says.
    """
    return hasattr(_module(name), "cache")


def load_configured(config: DataConfig) -> EventFrames:
    """Read what a configuration names.

    Args:
        config: Of a run.

    Returns:
        All recordings of the set.
    """
    return load(config.name, config.root, config.time_steps, config.cache)


def status(
    name: str, root: str | os.PathLike[str], time_steps: int | None = None
) -> list[str]:
    """Say what of a data set is in a folder, and what to do next.

    Args:
        name: One of `available()`.
        root: Folder of this data set alone.
        time_steps: Frames a recording that are asked for; None takes all.

    Returns:
        Lines for people.
    """
    found: Any = _module(name)
    if hasattr(found, "status"):
        lines: list[str] = found.status(root, time_steps)
        return lines
    problems = check(name, root, time_steps=time_steps)
    return [found.DESCRIPTION, *(problems or [f"{root}: complete"])]


def check(
    name: str,
    root: str | os.PathLike[str],
    progress: Progress | None = None,
    time_steps: int | None = None,
) -> list[str]:
    """Verify the files of a data set.

    Args:
        name: One of `available()`.
        root: Folder of this data set alone.
        progress: Called with the stage, how much is done, and of how much.
        time_steps: Frames a recording, which have to be there; None takes the frames
            of all numbers of steps that are there.

    Returns:
        What is wrong, each with the file's name; empty where all is well.
    """
    problems: list[str] = _module(name).check(root, progress, time_steps)
    return problems


def missing(name: str, root: str | os.PathLike[str]) -> list[str]:
    """Say what of a prepared set is not there.

    Args:
        name: One of `available()`.
        root: Folder of this data set alone.

    Returns:
        A line for each class; empty of a whole set, and of one that is made here.
    """
    found: Any = _module(name)
    lines: list[str] = found.missing(root) if hasattr(found, "missing") else []
    return lines


def _module(name: str) -> Any:
    if name not in _DATA_SETS:
        raise ValueError(
            f"Expected `name` to be one of {', '.join(available())}, got {name!r}."
        )
    module, _, kind = _DATA_SETS[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, kind)(name) if kind else found
