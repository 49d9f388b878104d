"""Spiking Heidelberg Digits through the host's loader: two HDF5 files, 700 channels."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data.event_sets import EventSet, host_class
from benchmarks.data.frames import DamagedDataError, EventFrames, Progress
from benchmarks.data.sets import SHD, new_splits
from benchmarks.data.splits import Split

__all__ = ["PARTS", "SpikeSet", "problems_of_shd", "shd_frames"]

PARTS = ("train", "test")


def shd_frames(root: str | os.PathLike[str], time_steps: int) -> EventFrames:
    """Read all recordings, split by number of spikes.

    Args:
        root: Folder with `events_h5`.
        time_steps: Frames a recording, T.

    Returns:
        `[n, T, 1, 1, 700]`, named by class, official part and place in it.

    Raises:
        DamagedDataError: A file cannot be read; the message names it.
    """
    frames, labels, names = [], [], []
    for part in PARTS:
        try:
            found = host_class(SHD.name)(
                str(root),
                train=part == "train",
                data_type="frame",
                frames_number=time_steps,
                split_by="number",
            )
        except (OSError, KeyError, IndexError) as error:
            path = Path(root) / "events_h5" / f"shd_{part}.h5"
            raise DamagedDataError(f"Cannot read {path}: {error}") from error
        for (path, _), (sample, _) in zip(found.samples, found, strict=True):
            label = Path(path).parent.name
            frames.append(torch.from_numpy(sample).to(torch.int16)[:, None, None])
            labels.append(int(label))
            names.append(f"{label}/{part}_{Path(path).stem}")
    return EventFrames(
        torch.stack(frames), torch.tensor(labels), tuple(names), SHD.classes
    )


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

    Labels are those of the files. The host's frames have places in the alphabetical
    order of the folders: 0, 1, 10, 11, ...
    """

    raw_folder = "events_h5"

    def _convert(self, root: Path, partial: Path, progress: Progress) -> None:
        """Let the host link the files, after both were read.

        Raises:
            ValueError: A file is missing or damaged.
        """
        source = (root / self.data.folder).absolute()
        progress("check files", 0, 1)
        if problems := problems_of_shd(source, expected=0):
            raise ValueError(f"Cannot use {problems[0]}")
        progress("check files", 1, 1)
        host_class(self.data.name).create_raw_from_extracted(source, partial)

    def _finish(
        self, root: Path, time_steps: int, progress: Progress, **settings: Any
    ) -> Path:
        progress("build frames", 0, 1)
        names = self._frames(root, time_steps, **settings).names
        progress("build frames", 1, 1)
        self._write_splits(root, names)
        return root / self.raw_folder

    def _frames(self, root: Path, time_steps: int, **settings: Any) -> EventFrames:
        if settings:
            raise ValueError(
                f"Expected no settings of frames with {self.data.name}, whose frames "
                f"are the host's, got {', '.join(settings)}."
            )
        return shd_frames(root, time_steps)

    def _check_source(self, source: Path, progress: Progress) -> list[str]:
        progress("check files", 0, 1)
        problems = problems_of_shd(source, self.data.recordings)
        progress("check files", 1, 1)
        return problems

    def _check_raw(self, root: Path, progress: Progress) -> list[str]:
        return self._check_source(root / self.raw_folder, progress)

    def _splits(self, root: Path, names: Sequence[str]) -> dict[str, Split]:
        official = {n: f"{Path(n).name.partition('_')[0]}:{n}" for n in names}
        return new_splits(self.data, names, official)
