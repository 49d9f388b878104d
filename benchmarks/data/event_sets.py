"""Event sets that the user brings: what is missing, preparation, verification, frames.

The files lie as SpikingJelly's loaders have them: `root/extract`, `root/events_np`.
What is in the way is moved to `root/set_aside`, never deleted.
"""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.atis import Events
from benchmarks.data.cache import (
    FrameCache,
    Recording,
    cache_file,
    open_cache,
    recordings,
)
from benchmarks.data.event_checks import (
    archive_problems,
    count_problems,
    frame_files,
    frame_problems,
    lacking_recordings,
    split_problems,
)
from benchmarks.data.event_files import (
    READERS,
    problems_of,
    save_npz,
    set_aside,
    silent,
    to_native_order,
)
from benchmarks.data.frames import DamagedDataError, EventFrames, Progress
from benchmarks.data.integrate import Binning, check_events, native
from benchmarks.data.sets import SETS, DataSet, new_splits
from benchmarks.data.splits import SPLITS, Split, write_split
from benchmarks.runs.locks import locked, remove_partials

__all__ = ["EventSet"]


class EventSet:
    """One of `SETS` in a folder: CIFAR10-DVS, N-Caltech101, and the base of others.

    Of these two the host's classes unpack the archives only: events are read by
    `READERS` and frames made by `integrate`, with values tested equal to the host's.

    Args:
        name: Of the set.
    """

    raw_folder = "events_np"
    """Where converted files lie, as the host's loaders have it."""

    def __init__(self, name: str) -> None:
        self.data: DataSet = SETS[name]

    def status(
        self, root: str | os.PathLike[str], time_steps: int | None = None
    ) -> list[str]:
        """Say what is there, what is missing, and what to do.

        Args:
            root: Folder of the set.
            time_steps: Frames a recording that are asked for; None lists all.

        Returns:
            Lines for people.
        """
        root, data = Path(root), self.data
        lines = [
            f"{data.title}: {data.recordings:,} recordings, sensor "
            f"{data.sensor[0]} x {data.sensor[1]}, licence: {data.licence}",
            f"source: {data.source}",
        ]
        for marker in sorted(root.glob("*.building")):
            lines.append(f"{marker.name}: left by an interrupted build; prepare mends")
        raw, source = root / self.raw_folder, root / data.folder
        partial = self._partial(root)
        if partial.exists():
            lines.append(
                f"{partial}: {_count_files(partial)} event files of an interrupted "
                "preparation; prepare goes on"
            )
        if raw.exists():
            lines.append(f"{raw}: {_count_files(raw)} event files")
            lines += self.missing(root)
        elif source.exists():
            count = sum(1 for path in source.rglob("*") if path.is_file())
            lines.append(f"{source}: {count} files, not prepared yet")
        elif data.archives and not self._missing_archives(root):
            lines.append(f"{root / 'download'}: all archives, not prepared yet")
        else:
            lines += self._what_to_bring(root)
        frames = frame_files(root, data.name, time_steps)
        for path in frames:
            lines.append(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB of frames")
        if time_steps is not None and not frames:
            lines.append(f"no frames of {time_steps} time steps")
        return lines

    def prepare(
        self,
        root: str | os.PathLike[str],
        *,
        time_steps: int = 10,
        progress: Progress | None = None,
        per_class: int | None = None,
        **settings: Any,
    ) -> Path:
        """Unpack and convert the files, write the splits, and build the frames.

        What was converted before is kept, so that an interrupted preparation goes on.
        Where the system can lock files, a second process waits for the first. Of a
        part of the set all is made that can be; `missing` says what is not there.

        Args:
            root: Folder of the set.
            time_steps: Frames a recording.
            progress: Called with the stage, how much is done, and of how much.
            per_class: None; a part of the set is not made.
            **settings: Of `cache`: which frames are built.

        Returns:
            The file with the frames.

        Raises:
            FileNotFoundError: The files are not there; the message says what to do.
            ValueError: `per_class` is given, or a file is damaged; it is named.
        """
        if per_class is not None:
            raise ValueError(f"Expected no `per_class`, got {per_class}.")
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        progress = progress or silent
        with locked(root / f".{self.data.name}.lock", progress):
            self._mend(root, progress)
            self._complete(root, progress)
            return self._finish(root, time_steps, progress, **settings)

    def missing(self, root: str | os.PathLike[str]) -> list[str]:
        """Say which recordings of the set are not there.

        Args:
            root: Folder of the set, prepared.

        Returns:
            A line for each class that lacks some, or one for the set.
        """
        root, data = Path(root), self.data
        raw = root / self.raw_folder
        names = [recording.name for recording in self._recordings(root)[0]]
        if data.counts:
            return [
                f"{raw / label}: {lacking} of {data.counts[label]} recordings are "
                "missing"
                for label, lacking in lacking_recordings(data, names).items()
            ]
        if len(names) < data.recordings:
            return [f"{raw}: expected {data.recordings} recordings, got {len(names)}"]
        return []

    def cache(
        self,
        root: str | os.PathLike[str],
        time_steps: int = 10,
        *,
        split_by: Any = "number",
        size: tuple[int, int] | None = None,
        compressed: bool = False,
        progress: Progress | None = None,
    ) -> FrameCache:
        """Open the frames of a setting, built first where they are not there.

        Args:
            root: Folder of the set, prepared.
            time_steps: Frames a recording.
            split_by: `"number"` or `"time"`.
            size: Height and width of the frames; None keeps the sensor's.
            compressed: Whether the file is.
            progress: As for `prepare`.

        Returns:
            The cache.
        """
        binning = Binning(time_steps, split_by, self.data.sensor, size)
        found, classes = self._recordings(Path(root))
        path = cache_file(root, self.data.name, binning, compressed)
        return open_cache(
            path,
            self.data.name,
            found,
            classes,
            binning,
            compressed=compressed,
            progress=progress,
        )

    def load(
        self, root: str | os.PathLike[str], time_steps: int = 10, **settings: Any
    ) -> EventFrames:
        """Read the frames.

        Args:
            root: Folder of the set, prepared.
            time_steps: Frames a recording.
            **settings: Of `cache`; without them, events split by number at the
                sensor's size.

        Returns:
            All recordings.

        Raises:
            FileNotFoundError: Nothing was prepared there.
        """
        if not (Path(root) / self.raw_folder).exists():
            raise FileNotFoundError(
                f"{self.data.title} is not prepared in {Path(root).absolute()}: "
                f"python -m benchmarks data prepare {self.data.name} --root "
                f"{shlex.quote(str(root))}"
            )
        return self._frames(Path(root), time_steps, **settings)

    def check(
        self,
        root: str | os.PathLike[str],
        progress: Progress | None = None,
        time_steps: int | None = None,
    ) -> list[str]:
        """Verify every file: archives, count per class, readable events in order.

        Args:
            root: Folder of the set.
            progress: Called with "check files", how much is done, and of how much.
            time_steps: Of the frames, which have to be there; None takes all.

        Returns:
            What is wrong, each with the file's name; empty where all is well.
        """
        root, data = Path(root), self.data
        progress = progress or silent
        problems = archive_problems(root, self.data)
        source, raw = root / data.folder, root / self.raw_folder
        unpacked = source.is_dir() and any(source.rglob(f"*{data.suffix}"))
        if unpacked:
            problems += self._check_source(source, progress)
        if raw.exists():
            problems += self._check_raw(root, progress)
            try:
                found, _ = self._recordings(root)
            except (FileNotFoundError, DamagedDataError):
                found = []  # which is said above
            problems += frame_problems(root, data.name, found, time_steps)
        elif not unpacked and (not data.archives or self._missing_archives(root)):
            problems += self._what_to_bring(root)
        for folder in (root, SPLITS):
            problems += split_problems(folder, data.name)
        return problems

    def _check_source(self, source: Path, progress: Progress) -> list[str]:
        files = sorted(source.rglob(f"*{self.data.suffix}"))
        problems = count_problems(self.data, source, self.data.suffix)
        return problems + problems_of(files, self.data.sensor, progress)

    def _check_raw(self, root: Path, progress: Progress) -> list[str]:
        raw = root / self.raw_folder
        problems = count_problems(self.data, raw, ".npz")
        try:
            found, _ = self._recordings(root)
        except FileNotFoundError as error:
            return [*problems, str(error)]
        paths = [recording.path for recording in found]
        return problems + problems_of(paths, self.data.sensor, progress)

    def _missing_archives(self, root: Path) -> list[str]:
        folder = root / "download"
        return [name for name in self.data.archives if not (folder / name).is_file()]

    def _what_to_bring(self, root: Path) -> list[str]:
        data = self.data
        place = (root / data.folder).absolute()
        bring = f"Bring {data.source}"
        if data.archives:
            names = ", ".join(self._missing_archives(root) or data.archives)
            bring = (
                f"Get {names} from {data.source} and put them into "
                f"{(root / 'download').absolute()}, or unpacked into {place}"
            )
        return [
            f"missing: {place}.",
            f"{bring}, then: python -m benchmarks data prepare {data.name} --root "
            f"{shlex.quote(str(root))}",
        ]

    def _mend(self, root: Path, progress: Progress) -> None:
        """Move what an interrupted build or a TEBN split left out of the way."""
        for path in root.glob(f".{self.data.name}*.partial"):
            # Under the lock of those who write it, such as a cache that is built.
            name = path.name[1:].rsplit(".", 2)[0]
            with locked(root / f".{name}.lock"):
                path.unlink(missing_ok=True)
        for folder in (root / self.raw_folder, self._partial(root)):
            remove_partials(folder)
        for marker in sorted(root.glob("*.building")):
            set_aside(root, marker.with_suffix(""))
            set_aside(root, marker)
        raw = root / self.raw_folder
        if self.data.split != "random":
            return
        for folder in (raw, *sorted(root.glob("frames_*"))):
            for name in ("train", "test"):
                if (folder / name).is_dir():
                    set_aside(root, folder / name)
        if raw.exists():
            to_native_order(raw, progress)

    def _complete(self, root: Path, progress: Progress) -> None:
        """Convert what is not converted yet."""
        raw, partial = root / self.raw_folder, self._partial(root)
        if raw.exists() and not (root / self.data.folder).is_dir():
            return
        self._unpack(root, progress)
        partial.mkdir(exist_ok=True)
        self._convert(root, partial, progress)
        if not raw.exists():
            partial.rename(raw)
            return
        for path in sorted(partial.rglob("*")):
            if not path.is_dir():
                place = raw / path.relative_to(partial)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.rename(place)
        shutil.rmtree(partial)

    def _partial(self, root: Path) -> Path:
        return root / f"{self.raw_folder}.partial"

    def _unpack(self, root: Path, progress: Progress) -> None:
        """Unpack the archives by the host's loader where nothing is unpacked yet.

        Raises:
            FileNotFoundError: There is nothing to unpack.
            ValueError: An archive is damaged. The host would delete it.
        """
        if (root / self.data.folder).is_dir():
            return
        if not self.data.archives or self._missing_archives(root):
            raise FileNotFoundError(" ".join(self._what_to_bring(root)))
        progress("unpack archives", 0, 1)
        if problems := archive_problems(root, self.data):
            raise ValueError(f"Cannot unpack {problems[0]}: get it again.")
        partial = root / "extract.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        host_class(self.data.name).extract_downloaded_files(root / "download", partial)
        partial.rename(root / "extract")
        progress("unpack archives", 1, 1)

    def _convert(self, root: Path, partial: Path, progress: Progress) -> None:
        """Convert file by file, but for those that are converted.

        Raises:
            FileNotFoundError: There are no files.
            ValueError: A file is damaged.
        """
        data = self.data
        source = root / data.folder
        files = self._sources(source)
        if not files:
            raise FileNotFoundError(
                f"No files of {data.title} in {source}: expected folders such as "
                f"{data.classes[0]}, with files *{data.suffix}."
            )
        progress("convert events", 0, len(files))
        for done, path in enumerate(files, start=1):
            for name, events in self._pieces(path, (partial, root / self.raw_folder)):
                try:
                    check_events(events, data.sensor)
                except ValueError as error:
                    raise ValueError(f"Cannot use {path}: {error}") from None
                save_npz(partial / name, events)
            progress("convert events", done, len(files))

    def _sources(self, source: Path) -> list[Path]:
        """List the files that are converted: those in folders of classes."""
        return [
            path
            for label in self.data.classes
            for path in sorted((source / label).glob(f"*{self.data.suffix}"))
        ]

    def _pieces(
        self, path: Path, done: Sequence[Path]
    ) -> Iterator[tuple[Path, Events]]:
        """Give what a file becomes: here one recording, unless it is in `done`."""
        name = Path(path.parent.name) / f"{path.stem}.npz"
        if not any((folder / name).exists() for folder in done):
            yield name, native(READERS[path.suffix](path))

    def _finish(
        self, root: Path, time_steps: int, progress: Progress, **settings: Any
    ) -> Path:
        found, _ = self._recordings(root)
        self._write_splits(root, [recording.name for recording in found])
        return self.cache(root, time_steps, progress=progress, **settings).path

    def _frames(self, root: Path, time_steps: int, **settings: Any) -> EventFrames:
        return self.cache(root, time_steps, **settings).as_event_frames()

    def _recordings(self, root: Path) -> tuple[list[Recording], list[str]]:
        return recordings(root / self.raw_folder, self.data.suffix, self.data.classes)

    def _write_splits(self, root: Path, names: Sequence[str]) -> None:
        """Write lists beside the data where none come with the project."""
        if not self.data.pattern:
            for name, split in self._splits(root, names).items():
                write_split(split, root / f"{name}.json")

    def _splits(self, root: Path, names: Sequence[str]) -> dict[str, Split]:
        return new_splits(self.data, names)


def _count_files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.suffix in (".npz", ".h5"))


def host_class(name: str) -> Any:
    """Find the host's loader of a set; they take seconds to import."""
    if name == "shd":
        from spikingjelly.datasets.shd import SpikingHeidelbergDigits

        return SpikingHeidelbergDigits
    if name == "dvs128_gesture":
        from spikingjelly.datasets.dvs128_gesture import DVS128Gesture

        return DVS128Gesture
    if name == "n_caltech101":
        from spikingjelly.datasets.n_caltech101 import NCaltech101

        return NCaltech101
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS

    return CIFAR10DVS
