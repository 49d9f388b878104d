"""CIFAR10-DVS as the code released with TET (arXiv 2202.11946) writes it.

`root/train/0.pt`, `1.pt`, ... and `root/test/0.pt`, ...: each a list of frames and
label, the frames `[T, 2, H, W]`, or `[2, H, W, T]` as NDA (arXiv 2203.06145) shares
them. A frame is divided by its largest value; kept are whole 255ths, as that code's own
loader makes of them. Frames of whole counts are kept as they are.

Of the test files the released code stores the label as the *length* of a tensor without
values. Where that is so, it is read as such.
"""

import json
import logging
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.cache import FrameCache, Recording, cache_file, open_cache
from benchmarks.data.event_checks import frame_files, frame_problems, split_problems
from benchmarks.data.event_files import silent
from benchmarks.data.frames import EventFrames, Progress
from benchmarks.data.integrate import Binning
from benchmarks.data.sets import CIFAR10_DVS
from benchmarks.data.splits import SEEDS, Split, make_split, write_split
from benchmarks.data.tet_files import (
    PARTS,
    common_form,
    file_states,
    frames_first,
    list_files,
    read_file,
    read_labels,
)
from sj_ext.files import write_text

__all__ = ["TetSet"]

_FRACTION = 255
_ABOUT = "CIFAR10-DVS, preprocessed as for TET"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sample(Recording):
    """One file.

    Attributes:
        divided: Whether frames are divided by their largest values.
    """

    divided: bool

    def counts(self, binning: Binning) -> NDArray[np.int64]:
        """Read the frames as whole numbers.

        Args:
            binning: Steps and size that they should have.

        Returns:
            `[T, 2, H, W]`.

        Raises:
            ValueError: They are of another size, or no such numbers.
        """
        frames = frames_first(read_file(self.path)[0]).numpy().astype(np.float32)
        wanted = (binning.time_steps, 2, *binning.sensor)
        if frames.shape != wanted:
            raise ValueError(
                f"expected frames {list(wanted)} like the first file's, got "
                f"{list(frames.shape)}"
            )
        # A frame without events was divided by zero.
        frames = np.nan_to_num(frames, nan=0.0)
        if self.divided:
            if frames.min() < 0 or frames.max() > 1:
                raise ValueError(
                    "expected fractions in [0, 1] like the first file's, got "
                    f"{frames.min()}..{frames.max()}"
                )
            return np.floor(frames * _FRACTION).astype(np.int64)
        if frames.min() < 0 or (frames != np.floor(frames)).any():
            raise ValueError("expected whole counts like the first file's, got others")
        return frames.astype(np.int64)


class TetSet:
    """A preprocessed folder.

    Args:
        name: `"cifar10_dvs_tet"`.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def status(
        self, root: str | os.PathLike[str], time_steps: int | None = None
    ) -> list[str]:
        """Say what is there, what is missing, and what to do.

        Args:
            root: Folder with `train` and `test`.
            time_steps: Frames a sample that are asked for; None lists all.

        Returns:
            Lines for people.
        """
        root = Path(root)
        lines = [f"{_ABOUT}: train/0.pt, ..., test/0.pt, ..."]
        for part in PARTS:
            count = sum(1 for _ in (root / part).glob("*.pt"))
            lines.append(f"{root / part}: {count} files")
        for path in frame_files(root, self.name, time_steps):
            lines.append(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB of frames")
        if len(lines) == 1 + len(PARTS):
            steps = "" if time_steps is None else f" --time-steps {time_steps}"
            lines.append(f"not prepared yet: {self._command(root)}{steps}")
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
        """Write the splits, and one file with all frames.

        Args:
            root: Folder with `train` and `test`.
            time_steps: Frames a sample, as the files have them.
            progress: Called with the stage, how much is done, and of how much.
            per_class: None; a part of the set is not made.
            **settings: Of `cache`; size and slices are those of the files.

        Returns:
            The file with the frames.

        Raises:
            FileNotFoundError: A file is missing; it is named.
            ValueError: `per_class` is given, a file is damaged, it has other steps, or
                a setting asks for another size or other slices.
        """
        if per_class is not None:
            raise ValueError(f"Expected no `per_class`, got {per_class}.")
        cache = self.cache(root, time_steps, progress=progress, **settings)
        for name, split in self._splits(cache.names).items():
            write_split(split, Path(root) / f"{name}.json")
        return cache.path

    def cache(
        self,
        root: str | os.PathLike[str],
        time_steps: int = 10,
        *,
        split_by: str = "number",
        size: tuple[int, int] | None = None,
        compressed: bool = False,
        progress: Progress | None = None,
    ) -> FrameCache:
        """Open the file with the frames, built first where it is not there.

        Args:
            root: Folder with `train` and `test`.
            time_steps: Frames a sample, as the files have them.
            split_by: `"number"`: slices are those of the files.
            size: None: it is that of the files.
            compressed: Whether the file is.
            progress: As for `prepare`.

        Returns:
            The cache.

        Raises:
            ValueError: The files have other steps, or another size or other slices are
                asked for.
        """
        if size is not None or split_by != "number":
            raise ValueError(
                f"Expected neither `size` nor `split_by` with {self.name}, whose "
                f"frames are made already, got {size} and {split_by!r}."
            )
        root, progress = Path(root), progress or silent
        files = list_files(root)
        binning, divided = common_form(files[0][1])
        if wrong := _other_steps(files[0][1], binning, time_steps):
            raise ValueError(wrong)
        found = _samples(files, self._labels(root, files, progress), divided)
        return open_cache(
            cache_file(root, self.name, binning, compressed),
            self.name,
            found,
            CIFAR10_DVS.classes,
            binning,
            compressed=compressed,
            progress=progress,
        )

    def load(
        self, root: str | os.PathLike[str], time_steps: int = 10, **settings: Any
    ) -> EventFrames:
        """Read the frames.

        Args:
            root: Folder with `train` and `test`.
            time_steps: Frames a sample, as the files have them.
            **settings: Of `cache`; size and slices are those of the files.

        Returns:
            All samples.

        Raises:
            ValueError: A setting asks for another size or other slices.
        """
        return self.cache(root, time_steps, **settings).as_event_frames()

    def check(
        self,
        root: str | os.PathLike[str],
        progress: Progress | None = None,
        time_steps: int | None = None,
    ) -> list[str]:
        """Read every file, what was made of them, and the splits.

        Args:
            root: Folder with `train` and `test`.
            progress: Called with "check files", how much is done, and of how much.
            time_steps: Of the frames, which have to be there; None takes all.

        Returns:
            What is wrong, each with the file's name; empty where all is well.
        """
        root, progress = Path(root), progress or silent
        record = self._record(root)
        splits = split_problems(root, self.name, but=[record.name])
        try:
            files = list_files(root)
            binning, divided = common_form(files[0][1])
            labels = read_labels(files, silent)
        except (FileNotFoundError, ValueError) as error:
            return [str(error), *splits]
        problems = []
        if time_steps is not None:
            problems += filter(None, [_other_steps(files[0][1], binning, time_steps)])
        # Those on record are taken for true as long as the files seem the same.
        if self._recorded(root, files) not in (None, labels):
            problems.append(f"{record}: expected the labels of the files, got others")
        found = _samples(files, labels, divided)
        progress("check files", 0, len(files))
        for done, sample in enumerate(found, start=1):
            try:
                sample.counts(binning)
            except ValueError as error:
                problems.append(f"{sample.path}: {error}")
            progress("check files", done, len(files))
        return problems + frame_problems(root, self.name, found, time_steps) + splits

    def _command(self, root: Path) -> str:
        return (
            f"python -m benchmarks data prepare {self.name} --root "
            f"{shlex.quote(str(root))}"
        )

    def _labels(
        self, root: Path, files: Sequence[tuple[str, Path]], progress: Progress
    ) -> list[int]:
        """Read the labels of all files, once: they are kept beside the folders."""
        if (recorded := self._recorded(root, files)) is not None:
            return recorded
        labels = read_labels(files, progress)
        content = {"files": file_states(files), "labels": labels}
        write_text(self._record(root), json.dumps(content))
        return labels

    def _record(self, root: Path) -> Path:
        return root / f"{self.name}_labels.json"

    def _recorded(
        self, root: Path, files: Sequence[tuple[str, Path]]
    ) -> list[int] | None:
        """Give the labels on record where the files are those that it was made of."""
        record = self._record(root)
        if not record.exists():
            return None
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            if content["files"] == file_states(files):
                return [int(label) for label in content["labels"]]
        except (ValueError, TypeError, KeyError) as error:
            _log.warning("%s is damaged (%s): made again.", record, error)
        return None

    def _splits(self, names: Sequence[str]) -> dict[str, Split]:
        """Draw splits of the training folder; the test folder is for the test.

        Args:
            names: Of all samples.

        Returns:
            Five with a fifth for validation, and `NAME_all` with none, as in papers.
        """
        test = tuple(sorted(n for n in names if "/test_" in n))
        train = {name: name for name in names if "/train_" in name}
        found = {}
        for seed in range(SEEDS):
            drawn = make_split(self.name, train, seed=seed, shares=(80, 20, 0))
            name = self.name + (f"_{seed}" if seed else "")
            found[name] = self._split(seed, drawn.train, drawn.validation, test)
        whole = tuple(sorted(train))
        found[f"{self.name}_all"] = self._split(0, whole, (), test)
        return found

    def _split(self, seed: int, *parts: tuple[str, ...]) -> Split:
        return Split(self.name, _ABOUT, seed, CIFAR10_DVS.classes, *parts)


def _other_steps(path: Path, binning: Binning, time_steps: int) -> str | None:
    if binning.time_steps == time_steps:
        return None
    return (
        f"Expected `time_steps` of {binning.time_steps}, as {path} has them, got "
        f"{time_steps}."
    )


def _samples(
    files: Sequence[tuple[str, Path]], labels: Sequence[int], divided: bool
) -> list[_Sample]:
    classes = CIFAR10_DVS.classes
    return [
        _Sample(
            path, f"{classes[label]}/{part}_{int(path.stem):05d}.pt", label, divided
        )
        for (part, path), label in zip(files, labels, strict=True)
    ]
