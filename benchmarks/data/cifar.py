"""CIFAR-10 as frames: every image stands still for T time steps.

The images are read by torchvision from where it downloads them to; none come with the
project. Pixels stay 0..255: networks begin with a convolution and a batch norm.
"""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data.frames import EventFrames, Progress
from benchmarks.data.splits import Split, write_split

__all__ = ["DESCRIPTION", "load", "new_split", "prepare"]

DESCRIPTION = "CIFAR-10, each image shown for all time steps"

_NAME = "cifar10"
_VALIDATION_EVERY = 10


def prepare(
    root: str | os.PathLike[str],
    *,
    time_steps: int = 4,
    progress: Progress | None = None,
    per_class: int | None = None,
) -> Path:
    """Write the lists of train, validation and test images beside the images.

    With all images the lists would be a megabyte in the project; they follow from the
    order of the official files.

    Args:
        root: Folder that torchvision downloaded CIFAR-10 to.
        time_steps: Of no consequence: images are repeated when they are loaded.
        progress: Called once before and once after.
        per_class: None; there are no lists of a part of the images.

    Returns:
        The split file, for `data.split`.

    Raises:
        FileNotFoundError: The images are not in `root`, or not whole.
        ValueError: If `per_class` is given.
    """
    if per_class is not None:
        raise ValueError(
            f"Expected no `per_class` with {_NAME}, which is used whole, got "
            f"{per_class}."
        )
    if progress is not None:
        progress("list images", 0, 1)
    path = Path(root) / f"{_NAME}_split.json"
    write_split(new_split(load(root, 1)), path)
    if progress is not None:
        progress("list images", 1, 1)
    return path


def load(root: str | os.PathLike[str], time_steps: int) -> EventFrames:
    """Read all images.

    Args:
        root: Folder that torchvision downloaded CIFAR-10 to.
        time_steps: How often each image is repeated, T; it takes no more memory.

    Returns:
        `[60000, T, 3, 32, 32]`, training images first, named by class, official part
        and place in it, such as `cat/train_00029.png`.

    Raises:
        FileNotFoundError: The images are not in `root`, or not whole.
    """
    # Heavy, and most runs have no use for it.
    from torchvision.datasets import CIFAR10

    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    names: list[str] = []
    for part in ("train", "test"):
        try:
            official = CIFAR10(os.fspath(root), train=part == "train")
        except RuntimeError as error:
            raise FileNotFoundError(_missing(Path(root), error)) from error
        images.append(official.data)
        labels += official.targets
        names += [
            f"{official.classes[label]}/{part}_{place:05d}.png"
            for place, label in enumerate(official.targets)
        ]
        classes = tuple(official.classes)
    pixels = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2)
    return EventFrames(
        frames=pixels[:, None].expand(-1, time_steps, -1, -1, -1),
        labels=torch.tensor(labels, dtype=torch.int64),
        names=tuple(names),
        classes=classes,
    )


def new_split(data: EventFrames) -> Split:
    """List the official test images, and every tenth training image for validation.

    Args:
        data: All images, as `load` gives them.

    Returns:
        The lists; the tenth are counted in each class.
    """
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    seen = dict.fromkeys(data.classes, 0)
    for name in data.names:
        label, _, file = name.partition("/")
        if file.startswith("test"):
            parts["test"].append(name)
            continue
        seen[label] += 1
        last = seen[label] % _VALIDATION_EVERY == 0
        parts["validation" if last else "train"].append(name)
    return Split(
        name=_NAME,
        description=DESCRIPTION,
        seed=0,
        classes=tuple(sorted(data.classes)),
        **{part: tuple(found) for part, found in parts.items()},
    )


def _missing(root: Path, error: Exception) -> str:
    call = f"torchvision.datasets.CIFAR10({json.dumps(str(root))}, download=True)"
    return (
        f"CIFAR-10 is not in {root.absolute()} ({error}). Download it with: "
        f"python -c {shlex.quote(f'import torchvision; {call}')}"
    )
