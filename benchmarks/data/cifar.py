"""CIFAR-10 and CIFAR-100 as frames: every image stands still for T time steps.

The images are read by torchvision from where it downloads them to; none come with the
project. Pixels stay 0..255: networks begin with a convolution and a batch norm. As all
steps are equal, no order of steps can matter. A part of CIFAR-10 can be read from one
file with arrays, `cifar10_subset.npz`.
"""

import json
import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data.event_checks import split_problems
from benchmarks.data.event_files import md5, silent
from benchmarks.data.frames import DamagedDataError, EventFrames, Progress
from benchmarks.data.sets import CIFAR10_CLASSES
from benchmarks.data.splits import SEEDS, Split, write_split

__all__ = ["CifarSet", "CifarSubset", "new_splits"]

_VALIDATION_EVERY = 10
_PARTS = ("train", "test")


class _Part(NamedTuple):
    """One official part.

    Attributes:
        pixels: uint8 `[n, 3, 32, 32]`.
        labels: `[n]`.
        places: `[n]`, of each image in the whole part.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.integer]
    places: NDArray[np.integer]


class CifarSet:
    """CIFAR-10 or CIFAR-100 in the folder that torchvision downloaded it to.

    Args:
        name: `"cifar10"` or `"cifar100"`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.torchvision_name = name.upper()
        self.title = name.upper().replace("CIFAR", "CIFAR-")

    @property
    def DESCRIPTION(self) -> str:
        """One line for people."""
        about = {
            "cifar10": "60,000 pictures of 10 kinds",
            "cifar100": "60,000 pictures of 100 kinds",
            "cifar10_subset": "pictures of 10 kinds in one file of arrays",
        }[self.name]
        return (
            f"{self.title}: {about}, 32 x 32, each shown for all time steps; licence: "
            "none stated; source: https://www.cs.toronto.edu/~kriz/cifar.html"
        )

    def prepare(
        self,
        root: str | os.PathLike[str],
        *,
        time_steps: int = 4,
        progress: Progress | None = None,
        per_class: int | None = None,
    ) -> Path:
        """Write five splits of the images beside them.

        With all images the lists would be megabytes in the project; they follow from
        the order of the official files.

        Args:
            root: Folder with the images.
            time_steps: Of no consequence: images are repeated when they are loaded.
            progress: Called once before and once after.
            per_class: None; there are no lists of a part of the images.

        Returns:
            The first split file, for `data.split`; the others end in `_1` to `_4`.

        Raises:
            FileNotFoundError: The images are not in `root`, or not whole.
            ValueError: If `per_class` is given.
        """
        if per_class is not None:
            raise ValueError(
                f"Expected no `per_class` with {self.name}, which is used whole, got "
                f"{per_class}."
            )
        if progress is not None:
            progress("list images", 0, 1)
        found = new_splits(self.name, self.DESCRIPTION, self.load(root, 1))
        for name, split in found.items():
            write_split(split, Path(root) / f"{name}.json")
        if progress is not None:
            progress("list images", 1, 1)
        return Path(root) / f"{self.name}.json"

    def status(
        self, root: str | os.PathLike[str], time_steps: int | None = None
    ) -> list[str]:
        """Say what is there, what is missing, and what to do.

        Args:
            root: Folder with the images.
            time_steps: Of no consequence: images are repeated when they are loaded.

        Returns:
            Lines for people.
        """
        lines = [self.DESCRIPTION, *self.check(root)]
        if len(lines) > 1:
            return lines
        if not (Path(root) / f"{self.name}.json").is_file():
            return [
                *lines,
                f"{root}: no splits yet: python -m benchmarks data prepare {self.name} "
                f"--root {shlex.quote(str(root))}",
            ]
        return [*lines, f"{root}: complete"]

    def check(
        self,
        root: str | os.PathLike[str],
        progress: Progress | None = None,
        time_steps: int | None = None,
    ) -> list[str]:
        """Read all images and the splits beside them.

        Args:
            root: Folder with the images.
            progress: Called once before and once after.
            time_steps: Of no consequence: images are repeated when they are loaded.

        Returns:
            What is wrong, each with the file's name; empty where all is well.
        """
        progress = progress or silent
        progress("check files", 0, 1)
        problems = []
        try:
            self.load(root, 1)
        except (FileNotFoundError, DamagedDataError) as error:
            problems.append(str(error))
        progress("check files", 1, 1)
        return problems + split_problems(Path(root), self.name)

    def load(self, root: str | os.PathLike[str], time_steps: int) -> EventFrames:
        """Read all images.

        Args:
            root: Folder with the images.
            time_steps: How often each image is repeated, T; it takes no more memory.

        Returns:
            `[n, T, 3, 32, 32]`, training images first, named by class, official part
            and place in it, such as `cat/train_00029.png`.

        Raises:
            FileNotFoundError: The images are not in `root`, or not whole.
        """
        parts, classes = self._read(Path(root))
        names = [
            f"{classes[label]}/{part}_{place:05d}.png"
            for part, found in zip(_PARTS, parts, strict=True)
            for label, place in zip(
                found.labels.tolist(), found.places.tolist(), strict=True
            )
        ]
        pixels = torch.from_numpy(np.concatenate([found.pixels for found in parts]))
        labels = np.concatenate([found.labels for found in parts]).astype(np.int64)
        return EventFrames(
            frames=pixels[:, None].expand(-1, time_steps, -1, -1, -1),
            labels=torch.from_numpy(labels),
            names=tuple(names),
            classes=classes,
        )

    def _read(self, root: Path) -> tuple[list[_Part], tuple[str, ...]]:
        # Heavy, and most runs have no use for it.
        from torchvision import datasets

        found = []
        for part in _PARTS:
            kind = getattr(datasets, self.torchvision_name)
            try:
                official = kind(os.fspath(root), train=part == "train")
            except RuntimeError as error:
                # Torchvision says the same of a damaged file as of a missing one.
                _refuse_damaged(root / kind.base_folder, kind)
                raise FileNotFoundError(self._missing(root, error)) from error
            labels = np.asarray(official.targets)
            pixels = np.ascontiguousarray(official.data.transpose(0, 3, 1, 2))
            found.append(_Part(pixels, labels, np.arange(len(labels))))
            classes = tuple(official.classes)
        return found, classes

    def _missing(self, root: Path, error: Exception) -> str:
        call = (
            f"torchvision.datasets.{self.torchvision_name}({json.dumps(str(root))}, "
            "download=True)"
        )
        return (
            f"{self.title} is not in {root.absolute()} ({error}). Download it with: "
            f"python -c {shlex.quote(f'import torchvision; {call}')}"
        )


def _refuse_damaged(folder: Path, kind: Any) -> None:
    """Name a file that is there and is not the official one.

    Raises:
        DamagedDataError: There is such a file.
    """
    meta = (kind.meta["filename"], kind.meta["md5"])
    for name, expected in (*kind.train_list, *kind.test_list, meta):
        path = folder / name
        if path.is_file() and (got := md5(path)) != expected:
            raise DamagedDataError(
                f"{path} is damaged: expected MD5 {expected}, got {got}. Remove it, "
                "and download the set again."
            )


class CifarSubset(CifarSet):
    """A part of CIFAR-10: `cifar10_subset.npz` in a folder.

    Arrays `train_images` and `test_images`, uint8 `[n, 3, 32, 32]`, with `..._labels`
    and `..._index`, the places of the images in the official parts.

    Args:
        name: `"cifar10_subset"`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.title = "A part of CIFAR-10"

    def _read(self, root: Path) -> tuple[list[_Part], tuple[str, ...]]:
        path = root / f"{self.name}.npz"
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.title} is not in {root.absolute()}: no {path.name}."
            )
        try:
            with np.load(path, allow_pickle=False) as arrays:
                keys = ("images", "labels", "index")
                parts = [
                    _Part(*(arrays[f"{part}_{key}"] for key in keys)) for part in _PARTS
                ]
        # A damaged archive surfaces as almost any error of zipfile, zlib or numpy.
        except Exception as error:
            raise DamagedDataError(f"{path} is damaged: {error}") from error
        for part, found in zip(_PARTS, parts, strict=True):
            n = len(found.labels)
            shapes = (found.pixels.shape, found.places.shape)
            if shapes != ((n, 3, 32, 32), (n,)) or found.pixels.dtype != np.uint8:
                raise DamagedDataError(
                    f"{path} is damaged: expected {part} images uint8 [{n}, 3, 32, 32] "
                    f"with their places [{n}], got {found.pixels.dtype} "
                    f"{list(shapes[0])} and {list(shapes[1])}."
                )
            if n and not 0 <= found.labels.min() <= found.labels.max() < len(
                CIFAR10_CLASSES
            ):
                raise DamagedDataError(
                    f"{path} is damaged: expected {part} labels in "
                    f"0..{len(CIFAR10_CLASSES) - 1}, got {found.labels.max()}."
                )
        return parts, CIFAR10_CLASSES


def new_splits(name: str, description: str, data: EventFrames) -> dict[str, Split]:
    """List the official test images for the test, and tenths for validation.

    Args:
        name: Of the data set.
        description: What the data are.
        data: All images, as `CifarSet.load` gives them.

    Returns:
        Five splits by name, `NAME`, `NAME_1` ... `NAME_4`, whose validation parts have
        no image in common. The first validates on every tenth training image of each
        class, the others on every ninth, eighth, ... of ten.
    """
    test = tuple(file for file in data.names if _is_test(file))
    found = {}
    for seed in range(SEEDS):
        parts: dict[str, list[str]] = {"train": [], "validation": []}
        seen = dict.fromkeys(data.classes, seed)
        for file in data.names:
            if _is_test(file):
                continue
            label = file.partition("/")[0]
            seen[label] += 1
            last = seen[label] % _VALIDATION_EVERY == 0
            parts["validation" if last else "train"].append(file)
        found[name + (f"_{seed}" if seed else "")] = Split(
            name=name,
            description=description,
            seed=seed,
            classes=tuple(sorted(data.classes)),
            train=tuple(parts["train"]),
            validation=tuple(parts["validation"]),
            test=test,
        )
    return found


def _is_test(file: str) -> bool:
    return file.partition("/")[2].startswith("test")
