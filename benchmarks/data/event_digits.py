"""The event digits: simulated events from real digits.

The 1,797 handwritten digits that come with scikit-learn are moved in front of a
simulated DVS pixel array, written in the on-disk format of N-Caltech101, and read
through SpikingJelly's own loader.
"""

import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.atis import Events, encode_events
from benchmarks.data.digit_folder import (
    DESCRIPTION,
    EVENTS_SHA256,
    NAME,
    SEED,
    TIME_STEPS,
    Settings,
    checksum,
    claim,
    combined,
    frames_file,
    lock_file,
    prepare_command,
    read_record,
    record_file,
    refuse_other_data,
    write_record,
)
from benchmarks.data.event_checks import split_problems
from benchmarks.data.event_files import problems_of
from benchmarks.data.frames import (
    DamagedDataError,
    EventFrames,
    Progress,
    prepared_steps,
    read_frames,
    write_frames,
)
from benchmarks.data.pixel_array import Field, PixelArray
from benchmarks.data.saccades import Saccades
from benchmarks.data.sets import N_CALTECH101
from benchmarks.data.splits import SPLITS, Split, make_split
from benchmarks.runs.locks import locked

__all__ = [
    "DESCRIPTION",
    "EVENTS_SHA256",
    "FIELD",
    "check",
    "checksum",
    "load",
    "new_split",
    "prepare",
    "simulate",
]


FIELD = Field(top=74, left=104, height=32, width=32)
"""Middle of the 180 x 240 sensor of N-Caltech101; every event lies in it."""


# Enough scenes at once to keep numpy busy, few enough to stay in the cache.
_BATCH = 64
_log = logging.getLogger(__name__)


def simulate(
    seed: int = SEED, per_class: int | None = None
) -> Iterator[tuple[str, Events]]:
    """Simulate the recordings, in the order of the scikit-learn set.

    Recordings of a reduced set are the same as in the whole one.

    Args:
        seed: Governs the mismatch of the pixels and the noise, 0 to 2**32 - 1.
        per_class: Only so many of each digit, the first ones; `None` for all.

    Yields:
        The file's name, such as `3/image_0042.bin`, and its events.
    """
    digits, names = _digits(per_class)
    pixels, saccades = PixelArray(seed, FIELD), Saccades()
    numbers = list(digits)
    for start in range(0, len(numbers), _BATCH):
        batch = numbers[start : start + _BATCH]
        images = np.stack([digits[number] for number in batch])
        events = saccades.record(images, pixels, batch)
        yield from zip([names[number] for number in batch], events, strict=True)


def prepare(
    root: str | os.PathLike[str],
    *,
    seed: int = SEED,
    time_steps: int = TIME_STEPS,
    per_class: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write event files and frames into a folder.

    A complete folder is checked and left as it is; what is missing or damaged is
    written again. Killed at any point, it leaves nothing that passes for complete,
    and the next call ends the work. Where the system can lock files, a second
    process waits for the first.

    Args:
        root: Folder of these data alone; new, empty or prepared before.
        seed: Governs the mismatch of the pixels and the noise, 0 to 2**32 - 1.
        time_steps: Frames a recording. Frames of several counts can stand in one
            folder.
        per_class: Only so many of each digit, the first ones; `None` for all 1,797.
        progress: Called with the stage, how much is done, and of how much.

    Returns:
        The file with the frames.

    Raises:
        ValueError: An argument is out of range, or `root` was prepared with another
            seed or another number of digits.
        FileExistsError: `root` holds files that are not of these data.
        RuntimeError: The simulated events are not those that every machine makes.
    """
    if time_steps < 1:
        raise ValueError(f"Expected `time_steps` of at least 1, got {time_steps}.")
    if per_class is not None and per_class < 1:
        raise ValueError(f"Expected `per_class` of at least 1, got {per_class}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"Expected `seed` in 0..2**32 - 1, got {seed}.")
    root, settings = Path(root), Settings(seed, per_class)
    progress = progress or _no_progress
    root.mkdir(parents=True, exist_ok=True)
    refuse_other_data(root)
    with locked(lock_file(root), progress):
        recorded = claim(root, settings)
        events_checksum = _prepare_events(root, settings, recorded, progress)
        path = frames_file(root, time_steps)
        header = settings.as_dict() | {
            "time_steps": time_steps,
            "events_sha256": events_checksum,
        }
        if not _is_complete(path, header):
            # The host's loaders take seconds to import.
            from benchmarks.data.host_loader import build_frames

            frames = build_frames(root, time_steps, FIELD, progress)
            write_frames(path, frames, header | {"description": DESCRIPTION})
    return path


def load(root: str | os.PathLike[str], time_steps: int = TIME_STEPS) -> EventFrames:
    """Read prepared frames.

    Args:
        root: Folder given to `prepare`.
        time_steps: Frames a recording, as given to `prepare`.

    Returns:
        Frames `[n, T, 2, 32, 32]` of all recordings, ordered by name.

    Raises:
        FileNotFoundError: Nothing was prepared there, or not for these time steps.
        DamagedDataError: The file is damaged, or of another version of the project.
    """
    return _read(Path(root), time_steps)[0]


def check(
    root: str | os.PathLike[str],
    progress: Progress | None = None,
    time_steps: int | None = None,
) -> list[str]:
    """Verify the event files, what the host's loader made of them, frames and splits.

    Where the checksum of the event files is another, they are simulated again to name
    those that differ.

    Args:
        root: Folder given to `prepare`.
        progress: Called with the stage, how much is done, and of how much.
        time_steps: Frames a recording, which have to be there; None takes the frames
            of all numbers of steps that are there.

    Returns:
        What is wrong, each with the file's name; empty where all is well.
    """
    root, progress = Path(root), progress or _no_progress
    splits = split_problems(SPLITS, NAME)
    if not record_file(root).is_file():
        command = prepare_command(root, time_steps or TIME_STEPS)
        return [f"{root.absolute()}: no event digits. Prepare them with: {command}"]
    try:
        record = read_record(root)
    except DamagedDataError as error:
        return [str(error), *splits]
    settings = Settings(record.get("seed", -1), record.get("per_class"))
    fits = all(record.get(k) == v for k, v in settings.as_dict().items())
    typed = isinstance(settings.seed, int) and isinstance(
        settings.per_class, int | None
    )
    if not fits or not typed:
        return [
            f"{record_file(root)} is damaged or of another version of the project: "
            f"expected one like {Settings(SEED, None).as_dict()}, got {record}.",
            *splits,
        ]
    names = _digits(settings.per_class)[1].values()
    expected = settings.known_checksum() or record.get("events_sha256")
    problems = _event_problems(root / "extract", settings, names, expected, progress)
    converted = sorted((root / "events_np").glob("*/*.npz"))
    problems += problems_of(converted, N_CALTECH101.sensor, progress)
    every = prepared_steps(root, NAME) or [TIME_STEPS]
    for steps in every if time_steps is None else [time_steps]:
        try:
            header = _read(root, steps)[1]
        except (FileNotFoundError, DamagedDataError) as error:
            problems.append(str(error))
            continue
        wanted = settings.as_dict() | {"events_sha256": expected}
        if any(header.get(key) != value for key, value in wanted.items()):
            problems.append(f"{frames_file(root, steps)} is of other events")
    return problems + splits


def _read(root: Path, time_steps: int) -> tuple[EventFrames, dict[str, Any]]:
    """Read frames of this version, and their header; see `load`."""
    path = frames_file(root, time_steps)
    if not path.is_file():
        found = [frames_file(root, steps) for steps in prepared_steps(root, NAME)]
        other = f" (found {', '.join(file.name for file in found)})" if found else ""
        raise FileNotFoundError(
            f"The event digits for `time_steps`={time_steps} are missing: no "
            f"{path.name} in {root.absolute()}{other}. Prepare them with: "
            f"{prepare_command(root, time_steps)}"
        )
    try:
        data, header = read_frames(path)
    except DamagedDataError as error:
        raise DamagedDataError(
            f"{error} Write it again with: {prepare_command(root, time_steps)}"
        ) from error
    if reason := _mismatch(header, time_steps):
        raise DamagedDataError(
            f"{path} does not fit this version of the project: {reason} Remove the "
            f"folder and prepare it again with: {prepare_command(root, time_steps)}"
        )
    return data, header


def new_split(seed: int = SEED) -> Split:
    """Draw the train/validation/test lists of the event digits.

    Equal images, if there were any, would come on the same side.

    Args:
        seed: Governs the draw.

    Returns:
        60, 15 and 25 % of each class.
    """
    digits, names = _digits(None)
    identities = {
        names[number]: hashlib.sha256(image.tobytes()).hexdigest()
        for number, image in digits.items()
    }
    return make_split(NAME, identities, seed=seed, description=DESCRIPTION)


def _digits(
    per_class: int | None,
) -> tuple[dict[int, NDArray[np.uint8]], dict[int, str]]:
    """Return images `[8, 8]` in 0..16 and file names, by number in the whole set."""
    # scikit-learn is slow to import, and needless once the data are prepared.
    from sklearn.datasets import load_digits

    source = load_digits()
    images, names = {}, {}
    seen: Counter[int] = Counter()
    pairs = zip(source.images, source.target.tolist(), strict=True)
    for number, (image, label) in enumerate(pairs):
        seen[label] += 1
        if per_class is None or seen[label] <= per_class:
            images[number] = image.astype(np.uint8)
            names[number] = f"{label}/image_{seen[label]:04d}.bin"
    return images, names


def _prepare_events(
    root: Path, settings: Settings, recorded: str | None, progress: Progress
) -> str:
    """Return the checksum of the event files, having made sure that they are whole.

    Raises:
        RuntimeError: The simulation gives other events than it should.
    """
    folder = root / "extract"
    known = settings.known_checksum()
    names = _digits(settings.per_class)[1].values()
    if folder.exists():
        if (found := combined(_digests(folder, names))) == (known or recorded):
            return found
        _log.warning("Event files in %s are incomplete or altered: renewed.", folder)
    partial = root / ".extract.partial"
    shutil.rmtree(partial, ignore_errors=True)
    digests = {}
    progress("simulate events", 0, len(names))
    recordings = simulate(settings.seed, settings.per_class)
    for done, (name, events) in enumerate(recordings, start=1):
        data = encode_events(events)
        digests[name] = hashlib.sha256(data).hexdigest()
        path = partial / "Caltech101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        progress("simulate events", done, len(names))
    got = combined(digests)
    if known not in (None, got):
        raise RuntimeError(
            f"Expected the simulated events to have the checksum {known}, got {got}: "
            "scikit-learn's digits or numpy's arithmetic differ from what this "
            "version was made with."
        )
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    write_record(root, settings, {"events_sha256": got})
    return got


def _event_problems(
    folder: Path,
    settings: Settings,
    names: Iterable[str],
    expected: str | None,
    progress: Progress,
) -> list[str]:
    """Name the event files that are not as they are simulated."""
    names = list(names)
    if not folder.is_dir():
        return [f"{folder} is missing: prepare again."]
    try:
        found = _digests(folder, names)
    except FileExistsError as error:
        return [str(error)]
    if expected is not None and combined(found) == expected:
        return []
    problems = []
    progress("compare events", 0, len(names))
    recordings = simulate(settings.seed, settings.per_class)
    for done, (name, events) in enumerate(recordings, start=1):
        path = folder / "Caltech101" / name
        if name not in found:
            problems.append(f"{path} is missing")
        elif found[name] != hashlib.sha256(encode_events(events)).hexdigest():
            problems.append(f"{path} was altered: expected other events")
        progress("compare events", done, len(names))
    return problems or [
        f"{folder}: expected event files of checksum {expected}, got {combined(found)}"
    ]


def _digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each file in the folder.

    Raises:
        FileExistsError: A file is none of `names`.
    """
    home = folder / "Caltech101"
    # All of it: what differs is renewed as a whole.
    found = [path for path in folder.rglob("*") if not path.is_dir()]
    known = {home / name: name for name in names}
    if strangers := sorted(set(found) - known.keys()):
        raise FileExistsError(
            f"Expected only files of the event digits in {folder}, got "
            f"{strangers[0].relative_to(folder)} ({len(strangers)} such)."
        )
    return {known[p]: hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def _is_complete(path: Path, header: Mapping[str, Any]) -> bool:
    if not path.exists():
        return False
    try:
        found = read_frames(path)[1]
    except DamagedDataError as error:
        _log.warning("%s Built again.", error)
        return False
    if any(found.get(key) != value for key, value in header.items()):
        _log.warning("%s is of other events: built again.", path)
        return False
    return True


def _mismatch(header: Mapping[str, Any], time_steps: int) -> str | None:
    settings = Settings(header.get("seed", -1), header.get("per_class"))
    expected = settings.as_dict() | {"time_steps": time_steps}
    if known := settings.known_checksum():
        expected["events_sha256"] = known
    for key, value in expected.items():
        if header.get(key) != value:
            return f"expected {key} {value}, got {header.get(key)}."
    return None


def _no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""
