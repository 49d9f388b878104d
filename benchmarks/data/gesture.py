"""DVS128 Gesture through the host's loader, trial by trial, with its official parts."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.data.aedat3 import check_aedat3
from benchmarks.data.cache import Recording
from benchmarks.data.event_files import problems_of, silent
from benchmarks.data.event_sets import EventSet, host_class
from benchmarks.data.frames import DamagedDataError, Progress
from benchmarks.data.splits import SEEDS, Split

__all__ = ["GestureSet"]

_PARTS = ("train", "test")
_DONE = ".done"


class GestureSet(EventSet):
    """DVS128 Gesture in a folder, as unpacked: `extract/DvsGesture/*.aedat`.

    Labels are those of the recordings, counted from 0. The host's are places in the
    alphabetical order of the folders: 0, 1, 10, 2, ...
    """

    def _convert(self, root: Path, partial: Path, progress: Progress) -> None:
        """Let the host convert one trial after the other, but for those that are done.

        The host converts all trials that two lists name, so each is shown to it in a
        folder of links with lists of its own.

        Raises:
            FileNotFoundError: A list, or a file that a list names, is missing.
            ValueError: A file is damaged.
        """
        source = (root / self.data.folder).absolute()
        trials = _trials(source)
        done_folder = partial / _DONE
        done_folder.mkdir(exist_ok=True)
        progress("convert events", 0, len(trials))
        for number, (part, trial) in enumerate(trials, start=1):
            raw = root / self.raw_folder / part
            converted = any(raw.glob(f"*/{Path(trial).stem}_*.npz"))
            if not converted and not (done_folder / trial).exists():
                self._convert_trial(source, part, trial, partial)
                (done_folder / trial).touch()
            progress("convert events", number, len(trials))
        shutil.rmtree(done_folder)

    def _convert_trial(self, source: Path, part: str, trial: str, target: Path) -> None:
        labels = f"{Path(trial).stem}_labels.csv"
        for name in (trial, labels):
            if not (source / name).is_file():
                raise FileNotFoundError(
                    f"{source / name} is missing, which trials_to_{part}.txt names."
                )
        check_aedat3(source / trial)
        shown, made = target / ".shown", target / ".made"
        for folder in (shown, made):
            shutil.rmtree(folder, ignore_errors=True)
        made.mkdir()
        (shown / source.name).mkdir(parents=True)
        for name in (trial, labels):
            (shown / source.name / name).symlink_to(source / name)
        for name in _PARTS:
            text = trial if name == part else ""
            (shown / source.name / f"trials_to_{name}.txt").write_text(text)
        try:
            host_class(self.data.name).create_raw_from_extracted(shown, made)
        # A damaged file surfaces as almost any error of struct, numpy or the host.
        except Exception as error:
            raise ValueError(f"Cannot convert {source / trial}: {error}") from error
        files = sorted(made.glob("*/*/*.npz"))
        if problems := problems_of(files, self.data.sensor, silent):
            raise ValueError(f"Cannot use {source / trial}: {problems[0]}")
        for path in files:
            place = target / path.relative_to(made)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
        for folder in (shown, made):
            shutil.rmtree(folder)

    def _recordings(self, root: Path) -> tuple[list[Recording], list[str]]:
        raw = root / self.raw_folder
        return [
            Recording(path, f"{path.parent.name}/{path.name}", int(path.parent.name))
            for part in _PARTS
            for path in sorted((raw / part).glob("*/*.npz"))
        ], list(self.data.classes)

    def _splits(self, root: Path, names: Sequence[str]) -> dict[str, Split]:
        """List users: whose recordings validate follows from their numbers alone.

        Split k validates on the users k + 1, k + 6, k + 11, ... of the official
        training part (users 1 to 23), whichever files are there.

        Returns:
            Five splits by name.
        """
        raw, found = root / self.raw_folder, {}
        train = {
            f"{path.parent.name}/{path.name}"
            for path in (raw / "train").glob("*/*.npz")
        }
        test = tuple(sorted(set(names) - train))
        for seed in range(SEEDS):
            parts: tuple[list[str], list[str]] = ([], [])
            for name in sorted(train):
                parts[(_user(name) - 1) % SEEDS == seed].append(name)
            key = self.data.name + (f"_{seed}" if seed else "")
            found[key] = Split(
                key,
                self.data.description,
                seed,
                tuple(sorted(self.data.classes)),
                tuple(parts[0]),
                tuple(parts[1]),
                test,
            )
        return found

    def _check_source(self, source: Path, progress: Progress) -> list[str]:
        try:
            trials = _trials(source)
        except FileNotFoundError as error:
            return [str(error)]
        problems = []
        progress("check files", 0, len(trials))
        for done, (part, trial) in enumerate(trials, start=1):
            path = source / trial
            labels = source / f"{path.stem}_labels.csv"
            problems += [
                f"{file}: missing, though trials_to_{part}.txt names it"
                for file in (path, labels)
                if not file.is_file()
            ]
            if path.is_file():
                try:
                    check_aedat3(path)
                except ValueError as error:
                    problems.append(str(error))
            progress("check files", done, len(trials))
        return problems

    def _check_raw(self, root: Path, progress: Progress) -> list[str]:
        return self.missing(root) + super()._check_raw(root, progress)


def _user(name: str) -> int:
    """Read the number of the user in a name.

    Returns:
        1 of `2/user01_led_0.npz`.

    Raises:
        DamagedDataError: The file is named otherwise.
    """
    found = re.fullmatch(r"user(\d+)_.*", Path(name).name)
    if found is None:
        raise DamagedDataError(f"Expected files named userNN_..., got {name}.")
    return int(found[1])


def _trials(source: Path) -> list[tuple[str, str]]:
    """List part and file of every trial, as the set's own two lists have them."""
    found = []
    for part in _PARTS:
        path = source / f"trials_to_{part}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: it lists the official part.")
        names = path.read_text(encoding="utf-8").split()
        found += [(part, name) for name in names]
    return found
