"""The folder of the event digits: names of its files, settings, checksums.

A record in it, `event_digits.json`, says with which settings its files were made, and
holds the checksum of the event files.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data.frames import DamagedDataError
from sj_ext.files import write_text

__all__ = [
    "DESCRIPTION",
    "EVENTS_SHA256",
    "FORMAT",
    "NAME",
    "SEED",
    "TIME_STEPS",
    "Settings",
    "checksum",
    "claim",
    "combined",
    "frames_file",
    "lock_file",
    "prepare_command",
    "read_record",
    "record_file",
    "refuse_other_data",
    "write_record",
]

DESCRIPTION = "Simulated events from real digits (scikit-learn's handwritten digits)"


EVENTS_SHA256 = "d0cf3f0b79f16474a91d2ffa52870916d30cdb2e7d42971d2406862711ab8d73"
"""`checksum` of all the event files for seed 0."""


NAME = "event_digits"
"""Of the set."""

FORMAT = 1
"""Of the files; others were made by other versions of the project."""

SEED = 0
"""Of the events whose checksum is known."""

TIME_STEPS = 10
"""Frames a recording where nothing else is said."""


@dataclass(frozen=True)
class Settings:
    """What the event files depend on.

    Attributes:
        seed: Governs the mismatch of the pixels and the noise.
        per_class: Only so many of each digit; None for all.
    """

    seed: int
    per_class: int | None

    def as_dict(self) -> dict[str, Any]:
        """Give them as they stand in records and headers."""
        return {
            "name": NAME,
            "format": FORMAT,
            "seed": self.seed,
            "per_class": self.per_class,
        }

    def known_checksum(self) -> str | None:
        """Give the checksum that the event files must have, where it is known."""
        default = self.seed == SEED and self.per_class is None
        return EVENTS_SHA256 if default else None


def checksum(files: Mapping[str, bytes]) -> str:
    """Compute one SHA-256 over files.

    It is that of the lines that `sha256sum` prints for the files in order of their
    names, so that it can be checked by hand.

    Args:
        files: Content of each file by its name.

    Returns:
        64 hexadecimal digits.
    """
    return combined({n: hashlib.sha256(b).hexdigest() for n, b in files.items()})


def combined(digests: Mapping[str, str]) -> str:
    """Compute the `checksum` of files whose SHA-256 are known.

    Args:
        digests: SHA-256 of each file by its name.

    Returns:
        64 hexadecimal digits.
    """
    lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def refuse_other_data(root: Path) -> None:
    """Refuse a folder that is of something else.

    Raises:
        FileExistsError: It holds files, and no record of event digits.
    """
    names = [path.name for path in root.iterdir()]
    strangers = [name for name in names if not name.startswith(f".{NAME}")]
    # Asked after the listing: a process that began at the same time makes it first.
    if strangers and not record_file(root).exists():
        raise FileExistsError(
            "Expected `root` to be a new or empty folder or one that holds the event "
            f"digits, got {root.absolute()} with {min(strangers)} in it."
        )


def claim(root: Path, settings: Settings) -> str | None:
    """Return the checksum recorded in the folder; mark a new one as of these data.

    Raises:
        ValueError: It holds event digits of other settings.
        DamagedDataError: Its record of them cannot be read.
    """
    for leftover in root.glob(f".{NAME}*.partial"):
        leftover.unlink()
    path = record_file(root)
    if not path.exists():
        write_record(root, settings, {})
        return None
    found = read_record(root)
    for key, expected in settings.as_dict().items():
        if found.get(key) != expected:
            raise ValueError(
                f"Expected `root` prepared with {key} {expected}, got "
                f"{root.absolute()} with {found.get(key)}: choose another folder."
            )
    recorded: str | None = found.get("events_sha256")
    return recorded


def read_record(root: Path) -> dict[str, Any]:
    """Read the settings and the checksum of the event files.

    Returns:
        What `write_record` wrote.

    Raises:
        DamagedDataError: The record cannot be read.
    """
    path = record_file(root)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DamagedDataError(
            f"{path} is damaged ({error}): remove {root} and prepare it again."
        ) from error


def write_record(root: Path, settings: Settings, results: Mapping[str, str]) -> None:
    """Write settings, and what came of them, into the folder."""
    content = settings.as_dict() | {"description": DESCRIPTION} | dict(results)
    write_text(record_file(root), json.dumps(content))


def lock_file(root: Path) -> Path:
    """Give the path of the file that one process at a time locks."""
    return root / f".{NAME}.lock"


def record_file(root: Path) -> Path:
    """Give the path of the record."""
    return root / f"{NAME}.json"


def frames_file(root: Path, time_steps: int) -> Path:
    """Give the path of the frames of so many time steps."""
    return root / f"{NAME}_T{time_steps}.npz"


def prepare_command(root: Path, time_steps: int) -> str:
    """Give the command that prepares the folder."""
    command = (
        f"python -m benchmarks data prepare {NAME} --root {shlex.quote(str(root))}"
    )
    return command + (f" --time-steps {time_steps}" * (time_steps != TIME_STEPS))
