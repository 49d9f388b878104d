"""Event sets that the user brings: what is missing, preparation, verification, frames.

The files lie as SpikingJelly's loaders have them: `root/extract`, `root/events_np`.
What is in the way is moved to `root/set_aside`, never deleted.
"""

import os
import shlex
import shutil
from collections import Counter
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
from benchmarks.data.event_files import (
    READERS,
    md5,
    problems_of,
    save_npz,
    set_aside,
    silent,
    to_native_order,
)
from benchmarks.data.frames import EventFrames, Progress
from benchmarks.data.integrate import Binning, check_events, native
from benchmarks.data.sets import SETS, DataSet, new_splits
from benchmarks.data.splits import Split, write_split

__all__ = ["EventSet"]


class EventSet:
    """One of `SETS` in a folder: CIFAR10-DVS, N-Caltech101, and the base of others.

    Args:
        name: Of the set.
    """

    raw_folder = "events_np"
    """Where converted files lie, as the host's loaders have it."""

    def __init__(self, name: str) -> None:
        self.data: DataSet = SETS[name]

    def status(self, root: str | os.PathLike[str]) -> list[str]:
        """Say what is there, what is missing, and what to do.

        Args:
            root: Folder of the set.

        Returns:
            Lines for people.
        """
        root, data = Path(root), self.data
        lines = [
            f"{data.title}: {data.recordings or 'all'} recordings, sensor "
            f"{data.sensor[0]} x {data.sensor[1]}, licence: {data.licence}",
            f"source: {data.source}",
        ]
        for marker in sorted(root.glob("*.building")):
            lines.append(f"{marker.name}: left by an interrupted build; prepare mends")
        raw, source = root / self.raw_folder, root / data.folder
        if raw.exists():
            count = sum(1 for path in raw.rglob("*") if path.suffix in (".npz", ".h5"))
            lines.append(f"{raw}: {count} event files")
        elif source.exists():
            count = sum(1 for path in source.rglob("*") if path.is_file())
            lines.append(f"{source}: {count} files, not prepared yet")
        elif data.archives and not self._missing_archives(root):
            lines.append(f"{root / 'download'}: all archives, not prepared yet")
        else:
            lines += self._what_to_bring(root)
        for path in sorted(root.glob(f"{data.name}_T*frames")):
            lines.append(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB of frames")
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

        Args:
            root: Folder of the set.
            time_steps: Frames a recording.
            progress: Called with the stage, how much is done, and of how much.
            per_class: None; a part of the set is not made.
            **settings: Of `cache`: which frames are built.

        Returns:
            The file with the frames, or the raw folder for SHD.

        Raises:
            FileNotFoundError: The files are not there; the message says what to do.
            ValueError: `per_class` is given, or a file is damaged; it is named.
        """
        if per_class is not None:
            raise ValueError(f"Expected no `per_class`, got {per_class}.")
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        progress = progress or silent
        self._mend(root, progress)
        raw = root / self.raw_folder
        if not raw.exists():
            self._unpack(root, progress)
            partial = raw.with_name(f"{raw.name}.partial")
            partial.mkdir(exist_ok=True)
            self._convert(root, partial, progress)
            partial.rename(raw)
        return self._finish(root, time_steps, progress, **settings)

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
        self, root: str | os.PathLike[str], progress: Progress | None = None
    ) -> list[str]:
        """Verify every file: archives, count per class, readable events in order.

        Args:
            root: Folder of the set.
            progress: Called with "check files", how much is done, and of how much.

        Returns:
            What is wrong, each with the file's name; empty where all is well.
        """
        root, data = Path(root), self.data
        progress = progress or silent
        problems = self._check_archives(root)
        source, raw = root / data.folder, root / self.raw_folder
        if source.is_dir() and any(source.rglob(f"*{data.suffix}")):
            problems += self._check_source(source, progress)
        elif raw.exists():
            problems += self._check_raw(root, progress)
        elif not data.archives or self._missing_archives(root):
            problems += self._what_to_bring(root)
        return problems

    def _check_archives(self, root: Path) -> list[str]:
        problems = []
        for name, expected in self.data.archives.items():
            path = root / "download" / name
            if path.is_file() and (got := md5(path)) != expected:
                problems.append(f"{path}: expected MD5 {expected}, got {got}")
        return problems

    def _check_source(self, source: Path, progress: Progress) -> list[str]:
        files = sorted(source.rglob(f"*{self.data.suffix}"))
        problems = self._check_counts(source)
        return problems + problems_of(files, self.data.sensor, progress)

    def _check_raw(self, root: Path, progress: Progress) -> list[str]:
        found, _ = self._recordings(root)
        problems = []
        if self.data.recordings and len(found) != self.data.recordings:
            problems.append(
                f"{root / self.raw_folder}: expected {self.data.recordings} "
                f"recordings, got {len(found)}"
            )
        paths = [recording.path for recording in found]
        return problems + problems_of(paths, self.data.sensor, progress)

    def _check_counts(self, source: Path) -> list[str]:
        data = self.data
        folders = {path.name for path in source.iterdir() if path.is_dir()}
        missing = [
            f"{source / name}: this class folder is missing"
            for name in data.classes
            if name not in folders
        ]
        if not data.classes or not data.recordings:
            return missing
        each = data.recordings // len(data.classes)
        counts = Counter(p.parent.name for p in source.glob(f"*/*{data.suffix}"))
        return missing + [
            f"{source / name}: expected {each} recordings, got {counts[name]}"
            for name in data.classes
            if name in folders and counts[name] != each
        ]

    def _missing_archives(self, root: Path) -> list[str]:
        folder = root / "download"
        return [name for name in self.data.archives if not (folder / name).is_file()]

    def _what_to_bring(self, root: Path) -> list[str]:
        data = self.data
        place = (root / data.folder).absolute()
        bring = f"Bring {data.source}"
        if data.archives:
            bring = (
                f"Get {', '.join(data.archives)} from {data.source} and put them into "
                f"{(root / 'download').absolute()}, or unpacked into {place}"
            )
        return [
            f"missing: {place}.",
            f"{bring}, then: python -m benchmarks data prepare {data.name} --root "
            f"{shlex.quote(str(root))}",
        ]

    def _mend(self, root: Path, progress: Progress) -> None:
        """Move what an interrupted build or a TEBN split left out of the way."""
        for marker in sorted(root.glob("*.building")):
            set_aside(root, marker.with_suffix(""))
            set_aside(root, marker)
        raw = root / self.raw_folder
        if self.data.split == "random" and raw.exists():
            for name in ("train", "test"):
                if (raw / name).is_dir():
                    set_aside(root, raw / name)
            to_native_order(raw, progress)

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
        if problems := self._check_archives(root):
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
        files = sorted(source.glob(f"*/*{data.suffix}"))
        if not files:
            raise FileNotFoundError(f"No files */*{data.suffix} in {source}.")
        progress("convert events", 0, len(files))
        for done, path in enumerate(files, start=1):
            for name, events in self._pieces(path, partial):
                try:
                    check_events(events, data.sensor)
                except ValueError as error:
                    raise ValueError(f"Cannot use {path}: {error}") from None
                save_npz(partial / name, events)
            progress("convert events", done, len(files))

    def _pieces(self, path: Path, partial: Path) -> Iterator[tuple[Path, Events]]:
        """Give what a file becomes: here one recording, unless it is there."""
        name = Path(path.parent.name) / f"{path.stem}.npz"
        if not (partial / name).exists():
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
        return recordings(root / self.raw_folder, self.data.suffix)

    def _write_splits(self, root: Path, names: Sequence[str]) -> None:
        """Write lists beside the data where none come with the project."""
        if not self.data.pattern:
            for name, split in self._splits(root, names).items():
                write_split(split, root / f"{name}.json")

    def _splits(self, root: Path, names: Sequence[str]) -> dict[str, Split]:
        return new_splits(self.data, names)


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
