"""Spiking Heidelberg Digits through the host's loader: two HDF5 files, 700 channels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.cache import FrameCache, Recording, cache_file, open_cache
from benchmarks.data.event_sets import EventSet, host_class
from benchmarks.data.frames import DamagedDataError, Progress
from benchmarks.data.integrate import Binning, slices
from benchmarks.data.sets import SHD, new_splits
from benchmarks.data.splits import Split

__all__ = [
    "PARTS",
    "SpikeRecording",
    "SpikeSet",
    "problems_of_shd",
    "shd_recordings",
]

PARTS = ("train", "test")


@dataclass(frozen=True)
class SpikeRecording(Recording):
    """One recording of an HDF5 file.

    Attributes:
        index: Its place in the file.
    """

    index: int

    def counts(self, binning: Binning) -> NDArray[np.int64]:
        """Make the frames, with the values of the host's.

        Args:
            binning: How; only slices of equal numbers of spikes.

        Returns:
            Counts `[T, 1, 1, 700]`.

        Raises:
            ValueError: A channel is none of the 700.
        """
        import h5py

        with h5py.File(self.path) as file:
            units = file["spikes"]["units"][self.index].astype(np.int64)
        width = binning.sensor[1]
        if units.size and not 0 <= units.min() <= units.max() < width:
            raise ValueError(
                f"expected channels in 0..{width - 1}, got "
                f"{units.min()}..{units.max()} in recording {self.index}"
            )
        frames = [
            np.bincount(units[begin:end], minlength=width)
            for begin, end in slices(np.arange(units.size), binning)
        ]
        return np.stack(frames)[:, None, None]


def shd_recordings(folder: Path) -> list[SpikeRecording]:
    """List all recordings.

    Args:
        folder: With `shd_train.h5` and `shd_test.h5`.

    Returns:
        Named by class, official part and place in it; by part, class and place.

    Raises:
        FileNotFoundError: A file is missing.
        DamagedDataError: A file cannot be read; the message names it.
    """
    import h5py

    found = []
    for part in PARTS:
        path = folder / f"shd_{part}.h5"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing.")
        try:
            with h5py.File(path) as file:
                labels = file["labels"][:].astype(np.int64)
        except (OSError, KeyError, ValueError) as error:
            raise DamagedDataError(f"Cannot read {path}: {error}") from error
        if labels.size and not 0 <= labels.min() <= labels.max() < len(SHD.classes):
            raise DamagedDataError(
                f"Cannot read {path}: expected labels in 0..{len(SHD.classes) - 1}, "
                f"got {labels.min()}..{labels.max()}."
            )
        found += [
            SpikeRecording(path, f"{label}/{part}_{index}", label, index)
            for index, label in enumerate(labels.tolist())
        ]
    return found


def problems_of_shd(folder: Path, expected: int) -> list[str]:
    """Read both files to their ends.

    Args:
        folder: With `shd_train.h5` and `shd_test.h5`.
        expected: Recordings in all; 0 where any number will do.

    Returns:
        What is wrong, each with the file's name.
    """
    import h5py

    problems, total = [], 0
    for part in PARTS:
        path = folder / f"shd_{part}.h5"
        try:
            with h5py.File(path) as file:
                times, units = file["spikes"]["times"][:], file["spikes"]["units"][:]
                labels = file["labels"][:]
        except (OSError, KeyError) as error:
            problems.append(f"{path}: {error}")
            continue
        total += len(labels)
        problems += [f"{path}: {fault}" for fault in _faults(times, units, labels)]
    if expected and total != expected and not problems:
        problems.append(f"{folder}: expected {expected} recordings, got {total}")
    return problems


def _faults(times: Sequence[Any], units: Sequence[Any], labels: Any) -> list[str]:
    if not len(times) == len(units) == len(labels):
        return [
            f"expected as many labels as recordings, got {len(labels)} labels, "
            f"{len(times)} of times, {len(units)} of channels"
        ]
    faults = []
    width = SHD.sensor[1]
    for index, (t, x, label) in enumerate(zip(times, units, labels, strict=True)):
        where = f"recording {index}"
        if not len(t) or len(t) != len(x):
            faults.append(f"{where} has {len(t)} times and {len(x)} channels")
        elif np.any(np.diff(t.astype(np.float64)) < 0):
            faults.append(f"{where} has times that run back")
        elif x.max() >= width:
            faults.append(f"{where} has channel {x.max()}, expected 0..{width - 1}")
        if not 0 <= label < len(SHD.classes):
            faults.append(f"{where} has label {label}")
    return faults


class SpikeSet(EventSet):
    """Spiking Heidelberg Digits in a folder; the host links its two files.

    Labels are those of the files; the host's loader of frames has places in the
    alphabetical order of the folders: 0, 1, 10, 11, ... Frames have the host's values.
    """

    raw_folder = "events_h5"

    def cache(
        self,
        root: str | os.PathLike[str],
        time_steps: int = 10,
        *,
        progress: Progress | None = None,
        **settings: Any,
    ) -> FrameCache:
        """Open the frames, built first where they are missing, stale or damaged.

        Args:
            root: Folder of the set, prepared.
            time_steps: Frames a recording, of equal numbers of spikes.
            progress: As for `prepare`.
            **settings: None.

        Returns:
            The cache, of frames `[T, 1, 1, 700]`.

        Raises:
            ValueError: A setting is given.
        """
        if settings:
            raise ValueError(
                f"Expected no settings of frames with {self.data.name}, whose frames "
                f"are of one kind, got {', '.join(settings)}."
            )
        binning = Binning(time_steps, "number", self.data.sensor)
        found, classes = self._recordings(Path(root))
        return open_cache(
            cache_file(root, self.data.name, binning, compressed=False),
            self.data.name,
            found,
            classes,
            binning,
            progress=progress,
            channels=1,
        )

    def _convert(self, root: Path, partial: Path, progress: Progress) -> None:
        """Let the host link the files, after both were read.

        Raises:
            ValueError: A file is missing or damaged.
        """
        raw = root / self.raw_folder
        if all((raw / f"shd_{part}.h5").is_file() for part in PARTS):
            return
        source = (root / self.data.folder).absolute()
        progress("check files", 0, 1)
        if problems := problems_of_shd(source, expected=0):
            raise ValueError(f"Cannot use {problems[0]}")
        progress("check files", 1, 1)
        host_class(self.data.name).create_raw_from_extracted(source, partial)

    def _recordings(self, root: Path) -> tuple[list[Recording], list[str]]:
        return [*shd_recordings(root / self.raw_folder)], list(self.data.classes)

    def _check_source(self, source: Path, progress: Progress) -> list[str]:
        progress("check files", 0, 1)
        problems = problems_of_shd(source, self.data.recordings)
        progress("check files", 1, 1)
        return problems

    def _check_raw(self, root: Path, progress: Progress) -> list[str]:
        raw, source = root / self.raw_folder, root / self.data.folder
        names = [f"shd_{part}.h5" for part in PARTS]
        # Links to what was read already.
        if all((raw / n).exists() and (source / n).exists() for n in names) and all(
            (raw / name).samefile(source / name) for name in names
        ):
            return []
        return self._check_source(raw, progress)

    def _splits(self, root: Path, names: Sequence[str]) -> dict[str, Split]:
        official = {n: f"{Path(n).name.partition('_')[0]}:{n}" for n in names}
        return new_splits(self.data, names, official)
