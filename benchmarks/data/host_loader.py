"""Event files through SpikingJelly's own N-Caltech101 loader, to frames of one field.

The loader's folders `events_np` and `frames_number_*` are left beside the event files.
"""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly import configure
from spikingjelly.datasets.n_caltech101 import NCaltech101

from benchmarks.data.archives import read_in_threads
from benchmarks.data.event_files import set_aside
from benchmarks.data.frames import EventFrames, Progress
from benchmarks.data.pixel_array import Field

__all__ = ["build_frames"]

_BYTES_PER_EVENT = 5
_Result = TypeVar("_Result")


def build_frames(
    root: Path, time_steps: int, view: Field, progress: Progress
) -> EventFrames:
    """Build frames from `root/extract/Caltech101/<class>/*.bin`, split by number.

    What the loader left in `root` for these frames is removed first: an unfinished
    build would stop it, and a finished one may be of other events. A folder with files
    that are none of its own is moved to `root/set_aside`.

    Args:
        root: Folder with the event files, in the layout of N-Caltech101.
        time_steps: Frames a recording.
        view: The field of the sensor that is kept.
        progress: Called for the stages "convert events", "build frames" and "read
            frames".

    Returns:
        Counts of the events in the field.

    Raises:
        ValueError: The frames do not hold exactly the events of the files, or an
            event lies outside the field, or a count exceeds 255.
    """
    events = root / "events_np"
    frames = root / f"frames_number_{time_steps}_split_by_number"
    partial = root / ".events_np.partial"
    for folder in (events, frames, partial):
        _clear(root, folder)
        folder.with_name(f"{folder.name}.building").unlink(missing_ok=True)
    total = _count(root / "extract" / "Caltech101")
    partial.mkdir()
    _watch(
        lambda: NCaltech101.create_raw_from_extracted(root / "extract", partial),
        lambda: progress("convert events", _count(partial), total),
    )
    partial.rename(events)
    with read_in_threads():
        dataset = _watch(
            lambda: NCaltech101(
                str(root),
                data_type="frame",
                frames_number=time_steps,
                split_by="number",
            ),
            lambda: progress("build frames", _count(frames), total),
        )
        return _read(dataset, root, time_steps, view, progress)


def _clear(root: Path, folder: Path) -> None:
    """Remove what the loader makes of the event files; set aside what else it holds."""
    source = root / "extract" / "Caltech101"
    own = {path.relative_to(source).with_suffix(".npz") for path in source.glob("*/*")}
    found = {
        path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()
    }
    if found <= own:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        set_aside(root, folder)


def _watch(work: Callable[[], _Result], look: Callable[[], None]) -> _Result:
    """Return what the work gives, done in a thread; look at its traces meanwhile."""
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(work)
        look()
        while not future.done():
            wait([future], timeout=0.2)
            look()
        return future.result()


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*/*"))


def _read(
    dataset: NCaltech101, root: Path, time_steps: int, view: Field, progress: Progress
) -> EventFrames:
    paths = [Path(path) for path, _ in dataset.samples]
    names = tuple(f"{path.parent.name}/{path.stem}.bin" for path in paths)
    shape = (len(paths), time_steps, 2, view.height, view.width)
    frames = np.empty(shape, np.uint8)

    def read(index: int) -> None:
        sample, _ = dataset[index]
        source = root / "extract" / "Caltech101" / names[index]
        frames[index] = _crop(sample, source, view)

    threads = min(
        os.cpu_count() or 1, configure.max_threads_number_for_datasets_preprocess
    )
    with ThreadPoolExecutor(threads) as executor:
        done = executor.map(read, range(len(paths)))
        progress("read frames", 0, len(paths))
        for count, _ in enumerate(done, start=1):
            progress("read frames", count, len(paths))
    return EventFrames(
        frames=torch.from_numpy(frames),
        labels=torch.tensor(dataset.targets, dtype=torch.int64),
        names=names,
        classes=tuple(dataset.classes),
    )


def _crop(sample: NDArray[np.floating], source: Path, view: Field) -> NDArray[np.uint8]:
    """Return the field of frames `[T, 2, H, W]`, checking that no event is lost.

    Raises:
        ValueError: Events are missing, outside the field, or too many for uint8.
    """
    events = source.stat().st_size // _BYTES_PER_EVENT
    steps = len(sample)
    expected = [events // steps] * (steps - 1)
    expected.append(events - sum(expected))
    counts = view.crop(sample)
    if (got := sample.sum(axis=(1, 2, 3)).tolist()) != expected:
        raise ValueError(
            f"Expected the loader's frames of {source} to hold {expected} events, "
            f"got {got}."
        )
    if counts.sum() != events:
        raise ValueError(
            f"Expected all {events} events of {source} inside {view}, got "
            f"{int(counts.sum())} there."
        )
    if counts.max() > 255:
        raise ValueError(
            f"Expected at most 255 events a pixel and frame, got {counts.max():.0f} "
            f"in {source}."
        )
    return counts.astype(np.uint8)
