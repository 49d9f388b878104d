"""Train/validation/test lists, kept as files under `benchmarks/splits`.

`python -m benchmarks.data.splits` draws them anew; the result is the same each time.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.data.frames import DamagedDataError
from sj_ext.files import write_text

__all__ = [
    "SEEDS",
    "SPLITS",
    "Split",
    "make_split",
    "read_split",
    "split_file",
    "write_numbered",
    "write_split",
]

SPLITS = Path(__file__).resolve().parent.parent / "splits"
"""Folder of the lists."""

SEEDS = 5
"""How many splits there are of each set: `NAME`, `NAME_1` ... `NAME_4`."""

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Which recordings are for training, validation and test.

    Attributes:
        name: Of the data set.
        description: What the data are.
        seed: Of the draw.
        classes: Names of the classes.
        train: Files, `class/file`.
        validation: Files, `class/file`.
        test: Files, `class/file`.
    """

    name: str
    description: str
    seed: int
    classes: tuple[str, ...]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the lists.

        Raises:
            ValueError: A file stands in the lists twice, or is of an unknown class.
        """
        names = Counter(name for part in _PARTS for name in getattr(self, part))
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(
                f"Expected each file in one of {', '.join(_PARTS)} and once, got "
                f"{twice[0]} twice ({len(twice)} such)."
            )
        unknown = [n for n in names if n.partition("/")[0] not in self.classes]
        if unknown:
            raise ValueError(
                f"Expected files of the classes {', '.join(self.classes)}, got "
                f"{unknown[0]}."
            )

    @property
    def checksum(self) -> str:
        """SHA-256 of the content."""
        text = json.dumps(
            dataclasses.asdict(self), sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def indices(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Find the lists' files among the recordings of a data set.

        Args:
            names: `EventFrames.names`.

        Returns:
            Positions in `names` for `train`, `validation` and `test`, each int64, in
            the order of the lists.

        Raises:
            ValueError: A file of the lists is not in `names`, or one of `names` is in
                no list.
        """
        place = {name: index for index, name in enumerate(names)}
        listed = {name for part in _PARTS for name in getattr(self, part)}
        if missing := sorted(listed - place.keys()):
            raise ValueError(
                f"Expected `names` to hold all files of the split {self.name}, "
                f"{len(missing)} are missing, such as {missing[0]}."
            )
        if unlisted := sorted(place.keys() - listed):
            raise ValueError(
                f"Expected `names` to hold only files of the split {self.name}, "
                f"{len(unlisted)} stand in no list, such as {unlisted[0]}."
            )
        return {
            part: torch.tensor(
                [place[name] for name in getattr(self, part)], dtype=torch.int64
            )
            for part in _PARTS
        }

    def restricted(self, names: Sequence[str]) -> "Split":
        """Keep only the given files, as for a reduced data set.

        Args:
            names: Files to keep.

        Returns:
            The lists without the others; its checksum differs.
        """
        kept = set(names)
        parts = {
            part: tuple(name for name in getattr(self, part) if name in kept)
            for part in _PARTS
        }
        return dataclasses.replace(self, **parts)


def make_split(
    name: str,
    identities: Mapping[str, str],
    *,
    seed: int = 0,
    shares: tuple[int, int, int] = (60, 15, 25),
    description: str = "",
) -> Split:
    """Draw lists, the same on every machine: by hashes, not by a random generator.

    Args:
        name: Of the data set.
        identities: For each file `class/file`, what it is a recording of. Files of
            one identity come into one list, so that no part is seen in another.
        seed: Governs the draw.
        shares: Parts of each class for training, validation and test in percent.
        description: What the data are.

    Returns:
        The lists, each in order of name.

    Raises:
        ValueError: The shares do not add up to 100.
    """
    if sum(shares) != 100 or min(shares) < 0:
        raise ValueError(f"Expected `shares` that add up to 100, got {shares}.")
    groups: dict[str, list[str]] = defaultdict(list)
    for file in sorted(identities):
        groups[identities[file]].append(file)
    # A group counts for the class of its first file.
    classes: dict[str, list[list[str]]] = defaultdict(list)
    for group in groups.values():
        classes[group[0].partition("/")[0]].append(group)

    def draw(group: list[str]) -> str:
        return hashlib.sha256(f"{seed}:{group[0]}".encode()).hexdigest()

    parts: dict[str, list[str]] = {part: [] for part in _PARTS}
    for members in classes.values():
        total = sum(map(len, members))
        ends = {
            "test": (total * shares[2] + 50) // 100,
            "validation": (total * (shares[1] + shares[2]) + 50) // 100,
            "train": total,
        }
        count = 0
        for group in sorted(members, key=draw):
            part = next(part for part, end in ends.items() if count < end)
            parts[part] += group
            count += len(group)
    return Split(
        name=name,
        description=description,
        seed=seed,
        classes=tuple(sorted({file.partition("/")[0] for file in identities})),
        **{part: tuple(sorted(files)) for part, files in parts.items()},
    )


def split_file(name: str) -> Path:
    """Give the path of a data set's lists.

    Args:
        name: Of the data set.

    Returns:
        A path under `benchmarks/splits`, whether or not it exists.
    """
    return SPLITS / f"{name}.json"


def write_split(split: Split, path: str | os.PathLike[str]) -> None:
    """Write lists to a JSON file, replacing a former one only when complete.

    Args:
        split: The lists.
        path: The file.
    """
    content = dataclasses.asdict(split) | {"checksum": split.checksum}
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_numbered(
    split: Split, path: str | os.PathLike[str], pattern: str | Mapping[str, str]
) -> None:
    """Write lists of regularly named files in short; `read_split` reads them too.

    Args:
        split: The lists; a file is named by `pattern` and its number.
        path: The file.
        pattern: Such as `cifar10_{label}_{number}.aedat`, `{number:04d}` with zeros in
            front; or one for each part.

    Raises:
        ValueError: A file is named otherwise.
    """
    patterns = _by_part(pattern)
    content = dataclasses.asdict(split) | {
        "checksum": split.checksum,
        "pattern": pattern if isinstance(pattern, str) else patterns,
    }
    for part in _PARTS:
        expression = _expression(patterns[part])
        numbers: dict[str, list[int]] = defaultdict(list)
        for name in getattr(split, part):
            label, _, file = name.partition("/")
            found = expression.fullmatch(file)
            number = int(found["number"]) if found is not None else -1
            if patterns[part].format(label=label, number=number) != file:
                raise ValueError(f"Expected files named {patterns[part]}, got {name}.")
            numbers[label].append(number)
        content[part] = {
            label: _ranges(sorted(some)) for label, some in numbers.items()
        }
    write_text(path, json.dumps(content, indent=1) + "\n")


def _by_part(pattern: str | Mapping[str, str]) -> dict[str, str]:
    if isinstance(pattern, str):
        return dict.fromkeys(_PARTS, pattern)
    return dict(pattern)


def _expression(pattern: str) -> re.Pattern[str]:
    before, after = (
        ".+".join(map(re.escape, text.split("{label}")))
        for text in re.split(r"\{number[^}]*\}", pattern)
    )
    return re.compile(rf"{before}(?P<number>\d+){after}")


def _ranges(numbers: Sequence[int]) -> str:
    """Write rising numbers as `0-3,7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in runs)


def _expanded(lists: Mapping[str, str], pattern: str) -> tuple[str, ...]:
    names = []
    for label, text in lists.items():
        for run in filter(None, text.split(",")):
            first, _, last = run.partition("-")
            names += [
                f"{label}/{pattern.format(label=label, number=number)}"
                for number in range(int(first), int(last or first) + 1)
            ]
    return tuple(sorted(names))


def read_split(
    name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None
) -> Split:
    """Read lists.

    Args:
        name: Of a data set with lists under `benchmarks/splits`, or the path of a
            JSON file.
        root: Folder of the data set, where lists may lie that do not come with the
            project; the error names them.

    Returns:
        The lists.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedDataError: The file was cut or altered.
    """
    path = Path(name) if Path(name).suffix == ".json" else split_file(str(name))
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SPLITS.glob("*.json")))
        text = f"No split {name}: {path} is missing. Known: {known}."
        if path.parent == SPLITS and root is not None:
            beside = Path(root) / path.name
            text += f" Others are written beside the data: `data.split` of {beside}" + (
                "." if beside.is_file() else ", once `data prepare` has made it."
            )
        raise FileNotFoundError(text)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        expected = content.pop("checksum")
        pattern = content.pop("pattern", "")
        patterns = _by_part(pattern)
        lists = {
            key: _expanded(value, patterns[key])
            if isinstance(value, dict)
            else tuple(value)
            if isinstance(value, list)
            else value
            for key, value in content.items()
        }
        split = Split(**lists)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedDataError(f"{path} is damaged: {error}") from error
    if split.checksum != expected:
        raise DamagedDataError(
            f"{path} was altered: expected checksum {expected}, got {split.checksum}."
        )
    return split


def _write_all() -> None:
    from benchmarks.data import event_digits
    from benchmarks.data.objects import PATTERNS, object_splits, windows
    from benchmarks.data.sets import CIFAR10_DVS, N_CALTECH101, new_splits

    for seed in range(SEEDS):
        split = event_digits.new_split(seed)
        path = split_file(split.name + (f"_{seed}" if seed else ""))
        write_split(split, path)
        print(f"{path}: checksum {split.checksum}")
    for data in (CIFAR10_DVS, N_CALTECH101):
        for name, split in new_splits(data).items():
            write_numbered(split, split_file(name), data.pattern)
            print(f"{split_file(name)}: checksum {split.checksum}")
    if "SJ_EXT_DATA" not in os.environ:
        print("SJ_EXT_DATA is not set: the splits of dvs128_objects stay as they are")
        return
    files = Path(os.environ["SJ_EXT_DATA"], "dvs128_objects").glob("*/*.aedat")
    names = [name.as_posix() for path in files for name, _ in windows(path)]
    for name, split in object_splits(names).items():
        write_numbered(split, split_file(name), PATTERNS)
        print(f"{split_file(name)}: checksum {split.checksum}")


if __name__ == "__main__":
    _write_all()
