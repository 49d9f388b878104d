"""All trials of the planted study, each in a file of its own, several at a time."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks import data
from benchmarks.data.frames import EventFrames
from benchmarks.data.splits import read_split
from benchmarks.runs.config import digest_of
from benchmarks.runs.progress import Reporter
from benchmarks.runs.workers import done_by_workers, one_thread
from benchmarks.studies.planted.trial import (
    NULL,
    StudySettings,
    study_frames,
    trial,
)
from sj_ext import host
from sj_ext.files import write_text

_TIME_STEPS = 10


@dataclass(frozen=True)
class Task:
    """One trial to be done.

    Attributes:
        position: First and last step with evidence; None for the null.
        seed: Of noise, weights and order.
        file: Where its result goes.
    """

    position: tuple[int, int] | None
    seed: int
    file: Path


def study_folder(output: Path, root: Path, settings: StudySettings) -> Path:
    """Name the folder of a study by all that determines its trials but their number.

    Args:
        output: Folder of all studies.
        root: Folder of the event digits.
        settings: Of the study.

    Returns:
        The folder; it may not exist yet.
    """
    frames, _ = _study_data(root, settings.pool)
    content = settings.as_dict() | {"data": frames.checksum, "host": host.RELEASE}
    return output / f"planted-{digest_of(content)}"


def run_trials(
    folder: Path,
    root: Path,
    settings: StudySettings,
    seeds: int,
    workers: int,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Do the trials that are not done yet, and read all.

    Args:
        folder: Of the study.
        root: Folder of the event digits.
        settings: Of the study.
        seeds: Trials of each position and of the null.
        workers: Processes, each with one thread: the networks are too small for two.
        reporter: Shows progress.

    Returns:
        All trials, seed after seed.
    """
    tasks = list(_tasks(folder, settings, seeds))
    missing = [task for task in tasks if not task.file.exists()]
    if missing:
        reporter.line(f"planted: {len(missing)} of {len(tasks)} trials to do")
        with reporter.bar("planted", len(missing), "trials") as bar:
            jobs = [(task, root, settings) for task in missing]
            for _ in done_by_workers(_do, jobs, workers):
                bar.advance()
    return [json.loads(task.file.read_text(encoding="utf-8")) for task in tasks]


def _tasks(folder: Path, settings: StudySettings, seeds: int) -> Iterator[Task]:
    for seed in range(seeds):
        for position in (*settings.positions, None):
            name = NULL if position is None else "-".join(map(str, position))
            yield Task(position, seed, folder / f"trial-{name}-seed-{seed:02d}.json")


def _do(task: Task, root: Path, settings: StudySettings) -> None:
    with one_thread():
        frames, parts = _study_data(root, settings.pool)
        found = trial(task.position, task.seed, frames, parts, settings)
    write_text(task.file, json.dumps(found, indent=1) + "\n")


@cache
def _study_data(root: Path, pool: int) -> tuple[EventFrames, dict[str, Tensor]]:
    """Load frames, pooled, and the parts of the split; the set may be a reduced one."""
    frames = data.load("event_digits", root, _TIME_STEPS)
    split = read_split("event_digits").restricted(frames.names)
    return study_frames(frames, StudySettings(pool=pool)), split.indices(frames.names)
