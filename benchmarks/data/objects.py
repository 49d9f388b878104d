"""DVS128 recordings of objects, one a class and session, cut into windows of time.

Windows of one recording are alike, so sides of a split are whole sessions, or whole
stretches of a recording: session 2 is for the test, a fifth of each recording of
session 1, one stretch, for validation.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from benchmarks.data.aedat2 import read_aedat2
from benchmarks.data.atis import Events
from benchmarks.data.cache import Recording, recordings
from benchmarks.data.event_sets import EventSet
from benchmarks.data.frames import Progress
from benchmarks.data.integrate import check_events, native
from benchmarks.data.sets import DVS128_OBJECTS
from benchmarks.data.splits import SEEDS, Split

__all__ = ["PATTERNS", "SESSIONS", "WINDOW_US", "ObjectSet", "object_splits", "windows"]

SESSIONS = ("session1", "session2")
"""Folders of the recordings."""

WINDOW_US = 100_000
"""Length of a window in microseconds."""

PATTERNS = {
    "train": "session1_{number:04d}.npz",
    "validation": "session1_{number:04d}.npz",
    "test": "session2_{number:04d}.npz",
}
"""Names of the windows in the parts of a split; windows are numbered by time."""

# Of 100 events something can be seen.
_LEAST_EVENTS = 100


def windows(path: Path) -> Iterator[tuple[Path, Events]]:
    """Cut a recording into windows that do not overlap.

    Args:
        path: `session/object.aedat`.

    Yields:
        `object/session_0042.npz` and the events of the window; a window of fewer than
        100 events is left out, and so is the last one, which is shorter.
    """
    events = native(read_aedat2(path))
    check_events(events, DVS128_OBJECTS.sensor)
    window = (events["t"] - events["t"][0]) // WINDOW_US
    for number in range(int(window[-1])):
        begin, end = np.searchsorted(window, [number, number + 1])
        if end - begin >= _LEAST_EVENTS:
            piece = {key: column[begin:end] for key, column in events.items()}
            yield Path(path.stem) / f"{path.parent.name}_{number:04d}.npz", piece


def object_splits(names: Sequence[str]) -> dict[str, Split]:
    """List the windows for training, validation and test.

    Args:
        names: Windows `object/session_0042.npz`.

    Returns:
        Five splits by name. Split k validates on the k-th fifth of the windows of each
        recording of session 1, in order of time, and trains on the others; all test on
        session 2.
    """
    recordings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        recordings[name.rpartition("_")[0]].append(name)
    found = {}
    for seed in range(SEEDS):
        parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for recording, members in recordings.items():
            if PurePath(recording).name != "session1":
                parts["test"] += members
                continue
            begin, end = (len(members) * (seed + n) // SEEDS for n in (0, 1))
            parts["validation"] += members[begin:end]
            parts["train"] += members[:begin] + members[end:]
        name = DVS128_OBJECTS.name + (f"_{seed}" if seed else "")
        found[name] = Split(
            DVS128_OBJECTS.name,
            DVS128_OBJECTS.title,
            seed,
            tuple(sorted(DVS128_OBJECTS.classes)),
            **{part: tuple(sorted(files)) for part, files in parts.items()},
        )
    return found


class ObjectSet(EventSet):
    """The recordings of objects in a folder: `extract/session1`, `extract/session2`."""

    def missing(self, root: str | os.PathLike[str]) -> list[str]:
        """Say which recordings have no windows.

        Args:
            root: Folder of the set, prepared.

        Returns:
            A line for each.
        """
        names = {recording.name for recording in self._recordings(Path(root))[0]}
        cut = {name.rpartition("_")[0] for name in names}
        return [
            f"{Path(root) / self.raw_folder / label}: no windows of {session}"
            for label in self.data.classes
            for session in SESSIONS
            if f"{label}/{session}" not in cut
        ]

    def _sources(self, source: Path) -> list[Path]:
        paths = [
            source / session / f"{label}{self.data.suffix}"
            for session in SESSIONS
            for label in self.data.classes
        ]
        return [path for path in paths if path.is_file()]

    def _pieces(
        self, path: Path, done: Sequence[Path]
    ) -> Iterator[tuple[Path, Events]]:
        for name, events in windows(path):
            if not any((folder / name).exists() for folder in done):
                yield name, events

    def _check_source(self, source: Path, progress: Progress) -> list[str]:
        problems = [
            f"{source / session / label}{self.data.suffix} is missing"
            for session in SESSIONS
            for label in self.data.classes
            if not (source / session / f"{label}{self.data.suffix}").is_file()
        ]
        return problems + super()._check_source(source, progress)

    def _check_raw(self, root: Path, progress: Progress) -> list[str]:
        lacking = self.missing(root) + self._lacking(root)
        return lacking + super()._check_raw(root, progress)

    def _lacking(self, root: Path) -> list[str]:
        """Name the windows of the recordings that lie here which are not there."""
        raw, problems = root / self.raw_folder, []
        for path in self._sources(root / self.data.folder):
            if not (raw / path.stem).is_dir():
                continue  # all of them, which is said already
            try:
                names = [name for name, _ in self._pieces(path, (raw,))]
            except ValueError:
                continue  # which is said of the recording
            problems += [f"{raw / name} is missing: prepare again" for name in names]
        return problems

    def _recordings(self, root: Path) -> tuple[list[Recording], list[str]]:
        return recordings(root / self.raw_folder, classes=self.data.classes)

    def _splits(self, root: Path, names: Sequence[str]) -> dict[str, Split]:
        return object_splits(names)
