"""Event sets that the user brings: what is missing, preparation, verification, frames.

The files lie as SpikingJelly's loaders have them: `root/extract`, `root/events_np`.
What is in the way is moved to `root/set_aside`, never deleted.
"""

import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data.aedat2 import read_aedat2
from benchmarks.data.atis import Events, read_events
from benchmarks.data.cache import (
    FrameCache,
    Recording,
    cache_file,
    open_cache,
    recordings,
)
from benchmarks.data.frames import EventFrames, Progress
from benchmarks.data.integrate import Binning, check_events, native
from benchmarks.data.sets import SETS, DataSet, new_splits
from benchmarks.data.splits import write_split
from sj_ext.files import replace_file

__all__ = ["EventSet"]

_READERS: dict[str, Callable[[Path], Events]] = {
    ".aedat": read_aedat2,
    ".bin": read_events,
}
# Of the object recordings: 100 ms a sample, and enough events to see something.
_CUT_US, _CUT_LEAST = 100_000, 100


class EventSet:
    """One of `SETS` in a folder.

    Args:
        name: Of the set.
    """

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
        raw = self._raw(root)
        if raw.exists():
            count = sum(
                1 for _ in raw.rglob(f"*{'.h5' if data.name == 'shd' else '.npz'}")
            )
            lines.append(f"{raw}: {count} event files")
        elif (root / data.folder).exists():
            count = sum(1 for path in (root / data.folder).rglob("*") if path.is_file())
            lines.append(f"{root / data.folder}: {count} files, not prepared yet")
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
    ) -> Path:
        """Convert the files, write the splits, and build the frames.

        What was converted before is kept, so that an interrupted preparation goes on.
        DVS128 Gesture and SHD are converted by the host in one piece.

        Args:
            root: Folder of the set.
            time_steps: Frames a recording.
            progress: Called with the stage, how much is done, and of how much.
            per_class: None; a part of the set is not made.

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
        progress = progress or _silent
        self._mend(root, progress)
        if not self._raw(root).exists():
            if not (root / self.data.folder).is_dir():
                raise FileNotFoundError(" ".join(self._what_to_bring(root)))
            self._convert(root, progress)
        if self.data.name == "shd":
            frames = self.load(root, time_steps)
            self._write_splits(root, frames.names)
            return self._raw(root)
        found, _ = self._recordings(root)
        self._write_splits(root, [recording.name for recording in found])
        return self.cache(root, time_steps, progress=progress).path

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

    def load(self, root: str | os.PathLike[str], time_steps: int = 10) -> EventFrames:
        """Read the frames at the sensor's size.

        Args:
            root: Folder of the set, prepared.
            time_steps: Frames a recording.

        Returns:
            All recordings.

        Raises:
            FileNotFoundError: Nothing was prepared there.
        """
        if not self._raw(Path(root)).exists():
            raise FileNotFoundError(
                f"{self.data.title} is not prepared in {Path(root).absolute()}: "
                f"python -m benchmarks data prepare {self.data.name} --root "
                f"{shlex.quote(str(root))}"
            )
        if self.data.name == "shd":
            return _shd_frames(Path(root), time_steps)
        return self.cache(root, time_steps).as_event_frames()

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
        progress = progress or _silent
        problems = []
        for name, expected in data.archives.items():
            path = root / "download" / name
            if path.is_file() and (got := _md5(path)) != expected:
                problems.append(f"{path}: expected MD5 {expected}, got {got}")
        source = root / data.folder
        files = sorted(source.rglob(f"*{data.suffix}")) if source.is_dir() else []
        if data.suffix in _READERS and files:
            problems += self._check_counts(source)
            problems += _read_all(files, _READERS[data.suffix], data.sensor, progress)
        elif self._raw(root).exists() and data.name != "shd":
            found, _ = self._recordings(root)
            if data.recordings and len(found) != data.recordings:
                problems.append(
                    f"{self._raw(root)}: expected {data.recordings} recordings, got "
                    f"{len(found)}"
                )
            paths = [recording.path for recording in found]
            problems += _read_all(paths, _read_npz, data.sensor, progress)
        elif self._raw(root).exists():
            problems += _check_shd(self._raw(root))
        else:
            problems += self._what_to_bring(root)
        return problems

    def _check_counts(self, source: Path) -> list[str]:
        data = self.data
        folders = {path.name for path in source.iterdir() if path.is_dir()}
        if data.name == "dvs128_objects":
            return [
                f"{source / session / label}{data.suffix} is missing"
                for session in ("session1", "session2")
                for label in data.classes
                if not (source / session / f"{label}{data.suffix}").is_file()
            ]
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

    def _what_to_bring(self, root: Path) -> list[str]:
        data = self.data
        archives = ", ".join(data.archives) or "the recordings"
        return [
            f"missing: {(root / data.folder).absolute()}.",
            f"Get {archives} from {data.source}, unpack them so that the files lie "
            f"there, then: python -m benchmarks data prepare {data.name} --root "
            f"{shlex.quote(str(root))}",
        ]

    def _raw(self, root: Path) -> Path:
        return root / ("events_h5" if self.data.name == "shd" else "events_np")

    def _mend(self, root: Path, progress: Progress) -> None:
        """Move what an interrupted build or a TEBN split left out of the way."""
        for marker in sorted(root.glob("*.building")):
            _set_aside(root, marker.with_suffix(""))
            _set_aside(root, marker)
        raw = self._raw(root)
        if self.data.split == "random" and raw.exists():
            for name in ("train", "test"):
                if (raw / name).is_dir():
                    _set_aside(root, raw / name)
            _to_native_order(raw, progress)

    def _convert(self, root: Path, progress: Progress) -> None:
        raw = self._raw(root)
        partial = raw.with_name(f"{raw.name}.partial")
        if self.data.name in ("dvs128_gesture", "shd"):
            _set_aside(root, partial)
            partial.mkdir()
            _host_class(self.data.name).create_raw_from_extracted(
                (root / "extract").absolute(), partial
            )
        else:
            partial.mkdir(exist_ok=True)
            self._convert_each(root / self.data.folder, partial, progress)
        partial.rename(raw)

    def _convert_each(self, source: Path, raw: Path, progress: Progress) -> None:
        """Convert file by file.

        Raises:
            FileNotFoundError: There are no files.
            ValueError: A file is damaged.
        """
        data = self.data
        files = sorted(source.glob(f"*/*{data.suffix}"))
        if not files:
            raise FileNotFoundError(f"No files */*{data.suffix} in {source}.")
        progress("convert events", 0, len(files))
        for done, path in enumerate(files, start=1):
            if data.name == "dvs128_objects":
                pieces = _cut(path, data)
            else:
                pieces = iter([(raw / path.parent.name / f"{path.stem}.npz", None)])
            for target, piece in pieces:
                target = raw / target
                if target.exists():
                    continue
                events = piece or native(_READERS[data.suffix](path))
                try:
                    check_events(events, data.sensor)
                except ValueError as error:
                    raise ValueError(f"Cannot use {path}: {error}") from None
                _save(target, events)
            progress("convert events", done, len(files))

    def _recordings(self, root: Path) -> tuple[list[Recording], list[str]]:
        raw, data = self._raw(root), self.data
        if data.name == "dvs128_gesture":
            return [
                Recording(
                    path, f"{path.parent.name}/{path.name}", int(path.parent.name)
                )
                for part in ("train", "test")
                for path in sorted((raw / part).glob("*/*.npz"))
            ], list(data.classes)
        return recordings(raw, data.suffix)

    def _write_splits(self, root: Path, names: Any) -> None:
        """Write lists beside the data where none come with the project."""
        data = self.data
        if data.pattern:
            return
        official = self._official(root, names) if data.split == "official" else None
        for name, split in new_splits(data, names, official).items():
            write_split(split, root / f"{name}.json")

    def _official(self, root: Path, names: Any) -> dict[str, str]:
        """Give part and recording of each file."""
        if self.data.name == "dvs128_gesture":
            train = {
                f"{path.parent.name}/{path.name}"
                for path in (self._raw(root) / "train").glob("*/*.npz")
            }
            # `user01_led_3.npz`: all gestures of one user stay together.
            return {
                name: f"{'train' if name in train else 'test'}:{name.split('_')[0]}"
                for name in names
            }
        if self.data.name == "dvs128_objects":
            # Neighbours in time are alike: stretches of 2 s stay together.
            return {
                name: ("train" if "session1" in name else "test")
                + f":{name.rpartition('_')[0]}_{int(Path(name).stem[-4:]) // 20}"
                for name in names
            }
        return {name: f"{Path(name).name.split('_')[0]}:{name}" for name in names}


def _cut(path: Path, data: DataSet) -> Iterator[tuple[Path, Events]]:
    """Cut a recording of one object into samples of 100 ms."""
    events = native(_READERS[data.suffix](path))
    check_events(events, data.sensor)
    step = (events["t"] - events["t"][0]) // _CUT_US
    for number in range(int(step[-1])):
        begin, end = np.searchsorted(step, [number, number + 1])
        if end - begin >= _CUT_LEAST:
            piece = {key: column[begin:end] for key, column in events.items()}
            yield Path(path.stem) / f"{path.parent.name}_{number:04d}.npz", piece


def _read_npz(path: Path) -> Events:
    with np.load(path, allow_pickle=False) as arrays:
        return native({key: arrays[key] for key in "txyp"})


def _read_all(
    files: list[Path],
    read: Callable[[Path], Events],
    sensor: tuple[int, int],
    progress: Progress,
) -> list[str]:
    problems = []
    progress("check files", 0, len(files))
    for done, path in enumerate(files, start=1):
        try:
            check_events(read(path), sensor)
        # A damaged archive surfaces as almost any error of zipfile, zlib or numpy.
        except Exception as error:
            problems.append(f"{path}: {error}")
        progress("check files", done, len(files))
    return problems


def _to_native_order(raw: Path, progress: Progress) -> None:
    """Write files with big-endian times again, with the same values."""
    files = sorted(raw.glob("*/*.npz"))
    progress("look at byte order", 0, len(files))
    for done, path in enumerate(files, start=1):
        with np.load(path, allow_pickle=False) as arrays:
            if not arrays["t"].dtype.isnative:
                _save(path, native({key: arrays[key] for key in "txyp"}))
        progress("look at byte order", done, len(files))


def _save(path: Path, events: Events) -> None:
    """Write events as the host's loaders read them, in types that torch takes."""
    types = {"t": np.int64, "x": np.uint8, "y": np.uint8, "p": np.uint8}
    with replace_file(path) as temporary, temporary.open("wb") as file:
        columns = {key: events[key].astype(kind) for key, kind in types.items()}
        np.savez_compressed(file, allow_pickle=False, **columns)


def _set_aside(root: Path, path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    number = 0
    while (target := root / "set_aside" / f"{path.name}.{number}").exists():
        number += 1
    target.parent.mkdir(exist_ok=True)
    path.rename(target)


def _host_class(name: str) -> Any:
    # The host's loaders take seconds to import.
    if name == "shd":
        from spikingjelly.datasets.shd import SpikingHeidelbergDigits

        return SpikingHeidelbergDigits
    from spikingjelly.datasets.dvs128_gesture import DVS128Gesture

    return DVS128Gesture


def _shd_frames(root: Path, time_steps: int) -> EventFrames:
    """Read SHD through the host, as `[n, T, 1, 1, 700]`."""
    frames, labels, names = [], [], []
    for part in ("train", "test"):
        found = _host_class("shd")(
            str(root),
            train=part == "train",
            data_type="frame",
            frames_number=time_steps,
            split_by="number",
        )
        for (path, _), (sample, _) in zip(found.samples, found, strict=True):
            label = Path(path).parent.name
            frames.append(torch.from_numpy(sample).to(torch.int16)[:, None, None])
            labels.append(int(label))
            names.append(f"{label}/{part}_{Path(path).stem}")
    classes = SETS["shd"].classes
    return EventFrames(torch.stack(frames), torch.tensor(labels), tuple(names), classes)


def _check_shd(raw: Path) -> list[str]:
    import h5py

    problems = []
    for name in ("shd_train.h5", "shd_test.h5"):
        try:
            with h5py.File(raw / name) as file:
                spikes = file["spikes"]
                for index, (t, x) in enumerate(
                    zip(spikes["times"], spikes["units"], strict=True)
                ):
                    ordered = np.all(np.diff(t.astype(np.float64)) >= 0)
                    if not len(t) or not ordered or x.max() >= 700:
                        problems.append(f"{raw / name}: recording {index} is no good")
        except (OSError, KeyError) as error:
            problems.append(f"{raw / name}: {error}")
    return problems


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""
