"""What is wrong in the folder of an event set: archives, counts, frames, splits."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.data import available
from benchmarks.data.cache import FrameCache, Recording, fingerprint
from benchmarks.data.event_files import md5
from benchmarks.data.frames import DamagedDataError
from benchmarks.data.sets import DataSet
from benchmarks.data.splits import read_split

__all__ = [
    "archive_problems",
    "count_problems",
    "frame_files",
    "frame_problems",
    "lacking_recordings",
    "split_problems",
]


def archive_problems(root: Path, data: DataSet) -> list[str]:
    """Compare the archives that are there with their check sums.

    Args:
        root: Folder of the set.
        data: The set.

    Returns:
        What is wrong, each with the file's name.
    """
    problems = []
    for name, expected in data.archives.items():
        path = root / "download" / name
        if path.is_file() and (got := md5(path)) != expected:
            problems.append(f"{path}: expected MD5 {expected}, got {got}")
    return problems


def count_problems(data: DataSet, folder: Path, suffix: str) -> list[str]:
    """Compare the files of each class with the set's, where their names are regular.

    Args:
        data: The set.
        folder: With a folder for each class.
        suffix: Of the files.

    Returns:
        What is wrong, each with the folder's name.
    """
    if not data.counts:
        return []
    there = {path.name for path in folder.iterdir() if path.is_dir()}
    problems = [
        f"{folder / name}: this class folder is missing"
        for name in data.classes
        if name not in there
    ]
    problems += [
        f"{folder / name}: no class of {data.title}, left out"
        for name in sorted(there - set(data.classes))
    ]
    wanted: dict[str, set[str]] = {}
    for name in data.files:
        label, _, file = name.partition("/")
        wanted.setdefault(label, set()).add(Path(file).stem)
    for label in sorted(there & set(data.classes)):
        found = {path.stem for path in (folder / label).glob(f"*{suffix}")}
        if found == wanted[label]:
            continue
        odd = sorted(found - wanted[label])
        about = f" ({odd[0]}{suffix} is none of the set)" if odd else ""
        problems.append(
            f"{folder / label}: expected {len(wanted[label])} recordings, got "
            f"{len(found)}{about}"
        )
    return problems


def lacking_recordings(data: DataSet, names: Sequence[str]) -> Counter[str]:
    """Count by class what is not there, of a set with regular names.

    Args:
        data: The set.
        names: Recordings `class/file` that are there.

    Returns:
        Of classes that lack some.
    """
    lacking = set(data.files) - set(names)
    return Counter(n.partition("/")[0] for n in data.files if n in lacking)


def frame_files(root: Path, name: str, time_steps: int | None = None) -> list[Path]:
    """List the files with frames of a set.

    Args:
        root: Folder of the set.
        name: Of the set.
        time_steps: Frames a recording; None for any number of them.

    Returns:
        Their paths in order.
    """
    steps = "*" if time_steps is None else time_steps
    return sorted(root.glob(f"{name}_T{steps}_*frames"))


def frame_problems(
    root: Path, name: str, found: Sequence[Recording], time_steps: int | None = None
) -> list[str]:
    """Read files with frames, and see whether they are of these events.

    Args:
        root: Folder of the set.
        name: Of the set.
        found: The recordings that lie there.
        time_steps: Frames a recording, which have to be there; None reads all files.

    Returns:
        What is wrong, each with the file's name.
    """
    problems, sources = [], fingerprint(found)
    files = frame_files(root, name, time_steps)
    if not files and time_steps is not None:
        problems.append(
            f"{root}: frames of {time_steps} time steps are missing: no "
            f"{name}_T{time_steps}_*"
        )
    for path in files:
        try:
            if FrameCache(path).header.get("sources") != sources:
                problems.append(f"{path}: made of other events than lie here now")
        except DamagedDataError as error:
            problems.append(str(error))
    return problems


def split_problems(folder: Path, name: str, but: Sequence[str] = ()) -> list[str]:
    """Read all splits of a set in a folder.

    Args:
        folder: Where the data lie, or the splits that come with the project.
        name: Of the set. Splits of sets whose names begin with it, such as
            `cifar100.json` beside `cifar10.json`, are those of others.
        but: Names of files of the set that are no splits.

    Returns:
        What is wrong, each with the file's name.
    """
    # Of two names that fit, the longer one is the set's.
    longer = [other for other in available() if other.startswith(f"{name}_")]
    problems = []
    for path in sorted(folder.glob(f"{name}*.json")):
        if not _is_of(path.stem, name) or path.name in but:
            continue
        if any(_is_of(path.stem, other) for other in longer):
            continue
        try:
            read_split(path)
        except DamagedDataError as error:
            problems.append(str(error))
    return problems


def _is_of(stem: str, name: str) -> bool:
    return stem == name or stem.startswith(f"{name}_")
