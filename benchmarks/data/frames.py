"""Event frames in memory and the one file that keeps them.

The file is a compressed npz without pickles: counts, labels, names, and a JSON header
that holds the checksum of the content.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from sj_ext.files import replace_file

__all__ = [
    "DamagedDataError",
    "EventFrames",
    "Progress",
    "prepared_steps",
    "read_frames",
    "write_frames",
]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and of how much."""


_HASHED_AT_ONCE = 1024


class DamagedDataError(ValueError):
    """A file of the project's data is cut, altered, or of another version."""


@dataclass(frozen=True, eq=False)
class EventFrames:
    """Recordings as counts of events.

    Attributes:
        frames: Events counted per time step, polarity (OFF, ON) and pixel,
            `[n, T, C, H, W]`, uint8, or int16 where a count exceeds 255.
        labels: Index into `classes`, int64 `[n]`.
        names: `class/file` of the recording each sample comes from, without
            repetition.
        classes: Names of the classes.
        checksum: SHA-256 of all the above, the same on every machine.
    """

    frames: torch.Tensor = field(repr=False)
    labels: torch.Tensor = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    classes: tuple[str, ...]
    checksum: str = field(init=False)

    def __post_init__(self) -> None:
        """Check that the parts fit one another and compute the checksum.

        Raises:
            ValueError: A shape, a type, a label or a name is wrong.
        """
        frames, labels = self.frames, self.labels
        if frames.dtype not in (torch.uint8, torch.int16) or frames.ndim != 5:
            raise ValueError(
                "Expected `frames` uint8 or int16 [n, T, C, H, W], got "
                f"{frames.dtype} {list(frames.shape)}."
            )
        n = len(frames)
        if labels.dtype != torch.int64 or labels.shape != (n,):
            raise ValueError(
                f"Expected `labels` int64 [{n}], got "
                f"{labels.dtype} {list(labels.shape)}."
            )
        if n and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise ValueError(
                f"Expected `labels` in 0..{len(self.classes) - 1} (`classes` has "
                f"{len(self.classes)} names), got {labels.min()}..{labels.max()}."
            )
        if len(self.names) != n or len(set(self.names)) != n:
            raise ValueError(
                f"Expected `names` of {n} different recordings, got {len(self.names)} "
                f"of which {len(set(self.names))} differ."
            )
        object.__setattr__(self, "checksum", self._checksum())

    def _checksum(self) -> str:
        text = json.dumps([list(self.frames.shape), self.names, self.classes])
        digest = hashlib.sha256(text.encode())
        # Part by part: frames that are one image for all steps would become T.
        for some in self.frames.split(_HASHED_AT_ONCE):
            digest.update(some.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().astype("<i8").data)
        return digest.hexdigest()

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self.frames)

    @property
    def time_steps(self) -> int:
        """Frames a recording, T."""
        return self.frames.shape[1]


def write_frames(
    path: str | os.PathLike[str], data: EventFrames, header: Mapping[str, Any]
) -> None:
    """Write frames to a file, replacing a former one only when complete.

    Args:
        path: The file, by custom with the ending `.npz`.
        data: The frames.
        header: Facts of their origin, fit for JSON.
    """
    text = json.dumps({**header, "checksum": data.checksum})
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            header=np.array(text),
            frames=data.frames.numpy(),
            labels=data.labels.numpy(),
            names=np.array(data.names, dtype=np.str_),
            classes=np.array(data.classes, dtype=np.str_),
        )


def prepared_steps(root: str | os.PathLike[str], name: str) -> list[int]:
    """List the numbers of time steps for which a folder has frames.

    Args:
        root: The folder.
        name: Of the set, whose files are `NAME_T10.npz` and so on.

    Returns:
        The numbers, rising.
    """
    found = [
        re.fullmatch(rf"{re.escape(name)}_T([1-9]\d*)\.npz", path.name)
        for path in Path(root).glob(f"{name}_T*.npz")
    ]
    return sorted(int(match[1]) for match in found if match)


def read_frames(path: str | os.PathLike[str]) -> tuple[EventFrames, dict[str, Any]]:
    """Read frames and their header.

    Args:
        path: A file written by `write_frames`.

    Returns:
        The frames, and the header with the `checksum` of the content.

    Raises:
        DamagedDataError: The file cannot be read, or its content has another
            checksum than its header says.
    """
    raw = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            header = json.loads(str(arrays["header"]))
            data = EventFrames(
                frames=torch.from_numpy(arrays["frames"]),
                labels=torch.from_numpy(arrays["labels"]),
                names=tuple(arrays["names"].tolist()),
                classes=tuple(arrays["classes"].tolist()),
            )
            expected = header["checksum"]
    # A flipped bit surfaces as almost any error of zipfile, zlib, numpy or json.
    except Exception as error:
        raise DamagedDataError(f"{path} is damaged: {error}") from error
    if data.checksum != expected:
        raise DamagedDataError(
            f"{path} is damaged: expected checksum {expected}, got {data.checksum}."
        )
    return data, header
