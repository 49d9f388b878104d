"""DVS128 Gesture through the host's loader, trial by trial, with its official parts."""

import os
import re
import shutil
from collections import Counter
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
_LABELS = range(1, 12)
# What a killed preparation leaves among the event files.
_WORK = (".shown", ".made", ".done")


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
        folders = (root / self.raw_folder, partial)
        progress("convert events", 0, len(trials))
        for number, (part, trial) in enumerate(trials, start=1):
            names = _expected(source, part, trial)
            lacking = [n for n in names if not any((f / n).exists() for f in folders)]
            if lacking:
                self._convert_trial(source, part, trial, partial, lacking)
            progress("convert events", number, len(trials))
        for name in _WORK:
            shutil.rmtree(partial / name, ignore_errors=True)

    def _convert_trial(
        self, source: Path, part: str, trial: str, target: Path, lacking: Sequence[Path]
    ) -> None:
        """Convert a trial, and keep the files that are lacking of it."""
        labels = _labels(trial)
        if not (source / trial).is_file():
            raise FileNotFoundError(_missing(source / trial, part))
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
        for name in lacking:
            if not (made / name).is_file():
                raise ValueError(
                    f"Cannot use {source / trial}: expected it to give {name}, as "
                    f"{labels} has it, got {len(files)} other files."
                )
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made / name, place)
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
            try:
                _expected(source, part, trial)
            except (FileNotFoundError, ValueError) as error:
                problems.append(str(error))
            if not path.is_file():
                problems.append(_missing(path, part))
            else:
                try:
                    check_aedat3(path)
                except ValueError as error:
                    problems.append(str(error))
            progress("check files", done, len(trials))
        return problems

    def _check_raw(self, root: Path, progress: Progress) -> list[str]:
        lacking = self.missing(root) + self._lacking(root)
        return lacking + super()._check_raw(root, progress)

    def _lacking(self, root: Path) -> list[str]:
        """Name the files that the lists of the trials have and the folder has not."""
        raw, source = root / self.raw_folder, root / self.data.folder
        problems = []
        try:
            trials = _trials(source)
        except FileNotFoundError:
            return []  # where the originals are there, that is said of them
        for part, trial in trials:
            try:
                names = _expected(source, part, trial)
            except (FileNotFoundError, ValueError):
                continue
            problems += [
                f"{raw / name} is missing, which {_labels(trial)} names"
                for name in names
                if not (raw / name).is_file()
            ]
        return problems


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


def _labels(trial: str) -> str:
    return f"{Path(trial).stem}_labels.csv"


def _missing(path: Path, part: str) -> str:
    return f"{path} is missing, which trials_to_{part}.txt names."


def _expected(source: Path, part: str, trial: str) -> list[Path]:
    """Name the files that the host makes of a trial, by its list of labels.

    Names of other trials may begin alike: `user01_lab` and `user01_lab_led`.

    Returns:
        `train/1/user01_lab_0.npz` for the first row of class 2, and so on.

    Raises:
        FileNotFoundError: There is no list.
        ValueError: The list is damaged; it is named.
    """
    path = source / _labels(trial)
    if not path.is_file():
        raise FileNotFoundError(_missing(path, part))
    seen: Counter[int] = Counter()
    names = []
    try:
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
        for label in [int(row.partition(",")[0]) for row in rows if row.strip()]:
            if label not in _LABELS:
                raise ValueError(f"expected classes in 1..11, got {label}")
            file = f"{Path(trial).stem}_{seen[label]}.npz"
            names.append(Path(part) / str(label - 1) / file)
            seen[label] += 1
        if not names:
            raise ValueError("expected a row for each recording, got none")
    except ValueError as error:
        raise ValueError(f"Cannot use {path}: {error}") from error
    return names


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
