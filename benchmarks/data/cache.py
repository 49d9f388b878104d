"""One file with the frames of a whole set: read by memory map, or compressed.

Beside the host's folder of archives, one a recording, from which every sample is
decompressed anew. The file says in name and header what it holds and of which event
files; what is stale or damaged is seen when it is opened, and built again.

Layout: magic, length and CRC of the header, header (JSON), zeros up to a page, frames.
"""

import hashlib
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.data.archives import read_in_threads
from benchmarks.data.compact import pack, unpack
from benchmarks.data.frames import DamagedDataError, EventFrames, Progress
from benchmarks.data.integrate import Binning, check_events, integrate, native
from benchmarks.runs.locks import locked, remove_partials
from sj_ext.files import replace_file

__all__ = [
    "FrameCache",
    "Recording",
    "cache_file",
    "fingerprint",
    "open_cache",
    "recordings",
]

_MAGIC = b"SJXFRM01"
_PREFIX = struct.Struct("<8sQI")
_PAGE = 4096
# Wider where a pixel has more events in a frame; torch has no arithmetic on uint16.
_TYPES = ("uint8", "int16")
# Samples that wait to be written: enough for all threads, few enough for the memory.
_AHEAD = 64
_log = logging.getLogger(__name__)

Source: TypeAlias = tuple[str, int, int]


class _TooWideError(ValueError):
    """A count that the type does not hold."""


@dataclass(frozen=True)
class Recording:
    """One recording, such as an event file of the host's raw folder.

    Attributes:
        path: An `.npz` with `t`, `x`, `y`, `p`.
        name: `class/file`.
        label: Index of its class.
    """

    path: Path
    name: str
    label: int

    def source(self) -> Source:
        """Tell when the file is another: its name, size and time of change."""
        found = self.path.stat()
        return self.name, found.st_size, found.st_mtime_ns

    def counts(self, binning: Binning) -> NDArray[np.int64]:
        """Make the frames.

        Args:
            binning: How.

        Returns:
            Counts `[T, 2, H, W]`.
        """
        with np.load(self.path, allow_pickle=False) as arrays:
            events = native({key: arrays[key] for key in "txyp"})
        check_events(events, binning.sensor)
        return integrate(events, binning)


def recordings(
    raw_root: str | os.PathLike[str],
    suffix: str = ".npz",
    classes: Sequence[str] | None = None,
) -> tuple[list[Recording], list[str]]:
    """List the event files of a folder `raw_root/<class>/*.npz`.

    Args:
        raw_root: Such as `events_np` of the host.
        suffix: Of the original files, which the recordings are named by.
        classes: Names of the classes, whose folders alone are looked into; None takes
            the folders that are there.

    Returns:
        The recordings in the order of the host's data set, and the classes.

    Raises:
        FileNotFoundError: There are none.
    """
    root = Path(raw_root)
    if classes is None:
        classes = sorted(path.name for path in root.glob("*") if path.is_dir())
    found = [
        Recording(path, f"{name}/{path.stem}{suffix}", label)
        for label, name in enumerate(classes)
        for path in sorted((root / name).glob("*.npz"))
    ]
    if not found:
        raise FileNotFoundError(f"No event files <class>/*.npz in {root.absolute()}.")
    return found, list(classes)


def cache_file(
    folder: str | os.PathLike[str], name: str, binning: Binning, compressed: bool
) -> Path:
    """Name the file of a set and setting.

    Args:
        folder: Where it lies.
        name: Of the set.
        binning: How events become frames.
        compressed: Whether the frames are.

    Returns:
        Such as `cifar10_dvs_T10_number_128x128.frames`, `.cframes` where compressed.
    """
    height, width = binning.frame
    stem = f"{name}_T{binning.time_steps}_{binning.split_by}_{height}x{width}"
    return Path(folder) / f"{stem}.{'cframes' if compressed else 'frames'}"


class FrameCache(Dataset[tuple[Tensor, int]]):
    """Frames of a set in one file.

    Args:
        path: The file.
        verify: Whether to read it once and compare every sample with its checksum.

    Attributes:
        path: The file.
        header: What it holds, of which event files.
        names: `class/file` of each recording.
        labels: Index of each one's class, int64 `[n]`.
        classes: Names of the classes.

    Raises:
        DamagedDataError: It is cut, altered or of another version.
    """

    def __init__(self, path: str | os.PathLike[str], verify: bool = True) -> None:
        self.path = Path(path)
        self.header, start = _read_header(self.path)
        self.names = tuple(self.header["names"])
        self.classes = tuple(self.header["classes"])
        self.labels = torch.tensor(self.header["labels"], dtype=torch.int64)
        self._shape = tuple(self.header["shape"])
        self._type = np.dtype(self.header["dtype"])
        self._ends = np.cumsum([0, *self.header["lengths"]])
        if start + self._ends[-1] != self.path.stat().st_size:
            raise DamagedDataError(
                f"{self.path} is damaged: expected {start + self._ends[-1]} bytes, got "
                f"{self.path.stat().st_size}."
            )
        # Copy on write: torch wants memory that it may write to, the file stays.
        self._bytes = np.memmap(self.path, np.uint8, mode="c", offset=start)
        self._frames = None
        if not self.compressed:
            shape = (len(self), *self._shape)
            self._frames = torch.from_numpy(self._bytes.view(self._type).reshape(shape))
        if verify:
            self.verify()

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self.names)

    @property
    def compressed(self) -> bool:
        """Whether each sample is decompressed when it is read."""
        return bool(self.header["compressed"])

    @property
    def bytes_per_sample(self) -> float:
        """Size of the file for each recording, header included."""
        return self.path.stat().st_size / len(self)

    def verify(self) -> None:
        """Compare every sample with its checksum.

        Raises:
            DamagedDataError: One differs; the message names the recording.
        """
        for index, expected in enumerate(self.header["crc32"]):
            if zlib.crc32(self._sample(index)) != expected:
                raise DamagedDataError(
                    f"{self.path} is damaged: the frames of {self.names[index]} have "
                    "another checksum."
                )

    def frames(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Read some recordings.

        Args:
            indices: Their positions, n of them.

        Returns:
            Counts `[n, T, 2, H, W]`, uint8 or int16, a copy.
        """
        indices = torch.as_tensor(indices)
        if self._frames is not None:
            # Whole rows; indexing by a tensor copies number by number.
            return self._frames.index_select(0, indices)
        out = np.empty((len(indices), *self._shape), self._type)
        for place, index in enumerate(indices.tolist()):
            unpack(self._sample(index).tobytes(), out[place])
        return torch.from_numpy(out)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Read one recording: counts `[T, 2, H, W]` and the index of its class."""
        return self.frames([index])[0], int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Read a batch at once, as torch's loader asks for it."""
        return self.frames(indices), self.labels[torch.as_tensor(indices)]

    def __getstate__(self) -> dict[str, Any]:
        """Give what another process needs; it maps the file itself."""
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the file in this process; the first has verified it."""
        self.__init__(state["path"], verify=False)  # type: ignore[misc]

    def as_event_frames(self) -> EventFrames:
        """Give the whole set as experiments take it.

        Returns:
            The frames stay in the file, and are read as they are needed, unless they
            are compressed.
        """
        frames = self._frames
        if frames is None:
            frames = self.frames(range(len(self)))
        return EventFrames(frames, self.labels, self.names, self.classes)

    def _sample(self, index: int) -> NDArray[np.uint8]:
        return self._bytes[self._ends[index] : self._ends[index + 1]]


def open_cache(
    path: str | os.PathLike[str],
    name: str,
    found: Sequence[Recording],
    classes: Sequence[str],
    binning: Binning,
    *,
    compressed: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    channels: int = 2,
) -> FrameCache:
    """Open a cache; build it first where it is missing, stale or damaged.

    Where the system can lock files, a second process waits for the one that builds it.

    Args:
        path: The file, see `cache_file`.
        name: Of the set.
        found: The recordings, see `recordings`.
        classes: Names of the classes.
        binning: How events become frames.
        compressed: Whether to compress each sample.
        workers: Threads that build it; None takes one a core.
        progress: Called with "build frames", how much is done, and of how much.
        channels: What a recording counts apart: both polarities.

    Returns:
        The cache, verified.
    """
    path = Path(path)
    wanted = {
        "set": name,
        "binning": _plain(binning),
        "compressed": compressed,
        "classes": list(classes),
        "sources": fingerprint(found),
    }
    if cache := _opened(path, wanted):
        return cache
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), progress):
        # Another process may have built it meanwhile.
        if cache := _opened(path, wanted):
            return cache
        remove_partials(path.parent, f"{path.name}.*")
        shape = [binning.time_steps, channels, *binning.frame]
        narrow, wide = ({**wanted, "shape": shape, "dtype": t} for t in _TYPES)
        try:
            _build(path, found, binning, narrow, workers, progress)
        except _TooWideError:
            _build(path, found, binning, wide, workers, progress)
    return FrameCache(path, verify=False)


def _opened(path: Path, wanted: Mapping[str, Any]) -> FrameCache | None:
    """Open a file that is whole and of these events and settings, or say why not."""
    if not path.exists():
        return None
    try:
        cache = FrameCache(path)
    except DamagedDataError as error:
        _log.warning("%s Built again.", error)
        return None
    if all(cache.header.get(key) == value for key, value in wanted.items()):
        return cache
    _log.warning("%s is of other events or settings: built again.", path)
    return None


def _build(
    path: Path,
    found: Sequence[Recording],
    binning: Binning,
    header: dict[str, Any],
    workers: int | None,
    progress: Progress | None,
) -> None:
    lengths: list[int] = []
    checksums: list[int] = []
    header |= {
        "names": [recording.name for recording in found],
        "labels": [recording.label for recording in found],
        # Of the final length, so that the header can be written over.
        "lengths": [2**40] * len(found),
        "crc32": [2**32] * len(found),
    }
    dtype, compressed = np.dtype(header["dtype"]), header["compressed"]
    with replace_file(path) as temporary, temporary.open("w+b") as file:
        start = _write_header(file, header)
        file.seek(start)
        blocks = _in_order(found, binning, dtype, compressed, workers)
        for done, block in enumerate(blocks, start=1):
            file.write(block)
            lengths.append(len(block))
            checksums.append(zlib.crc32(block))
            if progress is not None:
                progress("build frames", done, len(found))
        header |= {"lengths": lengths, "crc32": checksums}
        _write_header(file, header, start)


def _in_order(
    found: Sequence[Recording],
    binning: Binning,
    dtype: np.dtype[Any],
    compressed: bool,
    workers: int | None,
) -> Iterator[bytes]:
    """Yield the bytes of each recording, made in threads, a bounded number ahead."""

    def work(recording: Recording) -> bytes:
        counts = _counts(recording, binning, dtype)
        return pack(counts) if compressed else counts.tobytes()

    with read_in_threads(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for begin in range(0, len(found), _AHEAD):
            yield from pool.map(work, found[begin : begin + _AHEAD])


def _counts(
    recording: Recording, binning: Binning, dtype: np.dtype[Any]
) -> NDArray[Any]:
    try:
        counts = recording.counts(binning)
    # A damaged archive surfaces as almost any error of zipfile, zlib or numpy.
    except Exception as error:
        raise DamagedDataError(f"{recording.path} is damaged: {error}") from error
    if counts.max() > np.iinfo(dtype).max:
        raise _TooWideError(
            f"Expected at most {np.iinfo(dtype).max} events a pixel and frame, got "
            f"{counts.max()} in {recording.path}."
        )
    return counts.astype(dtype)


def _write_header(
    file: IO[bytes], header: dict[str, Any], start: int | None = None
) -> int:
    text = json.dumps(header, separators=(",", ":")).encode()
    if start is None:
        start = -(-(_PREFIX.size + len(text)) // _PAGE) * _PAGE
    # Spaces: no part of the page but is under the checksum.
    text = text.ljust(start - _PREFIX.size)
    file.seek(0)
    file.write(_PREFIX.pack(_MAGIC, len(text), zlib.crc32(text)) + text)
    return start


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            magic, length, checksum = _PREFIX.unpack(file.read(_PREFIX.size))
            if magic != _MAGIC:
                raise ValueError(f"expected it to begin with {_MAGIC!r}, got {magic!r}")
            text = file.read(min(length, path.stat().st_size))
            if zlib.crc32(text) != checksum:
                raise ValueError("its header was cut or altered")
            return json.loads(text), _PREFIX.size + length
    except (struct.error, ValueError) as error:
        raise DamagedDataError(f"{path} is damaged: {error}.") from error


def _plain(binning: Binning) -> dict[str, Any]:
    return {
        "time_steps": binning.time_steps,
        "split_by": binning.split_by,
        "sensor": list(binning.sensor),
        "frame": list(binning.frame),
    }


def fingerprint(found: Sequence[Recording]) -> str:
    """Tell when any of the event files is another.

    Args:
        found: The recordings.

    Returns:
        SHA-256 of what `Recording.source` says of each.
    """
    text = json.dumps([recording.source() for recording in found])
    return hashlib.sha256(text.encode()).hexdigest()
