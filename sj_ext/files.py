"""Writing files so that what stood there before is never lost, and arrays in them.

A file is written under a temporary name in the same folder and renamed over the
old one only when it is complete and on disk.
"""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to `path` at the end.

    If the block raises, or the process dies inside it, the former file at `path`
    is untouched.

    Args:
        path: The file to create or replace. Its folder is made where missing.

    Yields:
        A path in the same folder, to be written by the caller.

    Raises:
        OSError: If it cannot be written; the message names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"Could not write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8) to `path`, replacing the former file only when complete."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tensors(
    path: str | os.PathLike[str],
    kind: str,
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> None:
    """Write tensors and plain values to one `.npz` file, without pickle.

    Args:
        path: Of the file.
        kind: Says what the file holds; `load_tensors` asks for the same.
        about: What goes beside the tensors, as JSON can hold it.
        tensors: On any device.
    """
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    text = np.array(json.dumps({**about, "kind": kind}))
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, about=text, **arrays)


def load_tensors(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file that `save_tensors` wrote.

    Args:
        path: Of the file.
        kind: What it has to hold.

    Returns:
        What stands beside the tensors, and the tensors.

    Raises:
        ValueError: If the file is damaged or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = dict(file)
        about = json.loads(str(arrays.pop("about")))
        found = about.pop("kind")
    except (
        zipfile.BadZipFile,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        EOFError,
    ) as error:
        raise ValueError(
            f"Expected `path` to be a file with a {kind}, got {path}."
        ) from error
    if found != kind:
        raise ValueError(f"Expected {path} to hold a {kind}, got a {found}.")
    return about, {name: torch.from_numpy(array) for name, array in arrays.items()}


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
