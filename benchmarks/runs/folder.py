"""The folder of a run: its files, their formats, and their safety.

config.yaml       the whole configuration, defaults included
environment.json  commit, versions, host, device, checksums of data and split, end
metrics.csv       one row an epoch
checkpoint.pt     all that resuming needs, and the validation-selected weights
predictions.npz   per-sample, per-step test logits
result.json       the figures; written last: a run that has it is complete
events.out.*      TensorBoard
"""

import csv
import errno
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.runs.locks import claimed
from sj_ext.files import replace_file, write_text


def now() -> str:
    """Give the time, UTC, to the second, as results note it when they have ended."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be resumed from; the message names the file."""


class FolderInUseError(RuntimeError):
    """Another process is training in the folder."""


class RunConfig(Protocol):
    """What a folder asks of a run's configuration, such as `TrainConfig`."""

    @property
    def name(self) -> str:
        """First part of the folder's name."""

    @property
    def output(self) -> str:
        """The folder that run folders are made in."""

    def digest(self) -> str:
        """Hash what determines the result."""

    def to_yaml(self) -> str:
        """Write all keys."""


class RunFolder:
    """One run's folder, named by the run and the hash of its configuration.

    Args:
        config: The run's configuration; the folder lies in its `output`.
        path: Of a folder that was moved, or written with another release of the host.
    """

    def __init__(self, config: RunConfig, path: Path | None = None) -> None:
        self.config = config
        self.path = path or Path(config.output) / f"{config.name}-{config.digest()}"

    def create(self) -> None:
        """Make the folder and write the configuration into it."""
        write_text(self.path / "config.yaml", self.config.to_yaml())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process out of the folder during the block.

        Yields:
            Nothing.

        Raises:
            FolderInUseError: If another process is at work in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with claimed(self.path / ".lock") as ours:
            if not ours:
                raise FolderInUseError(f"Another process is training in {self.path}.")
            # What a killed process was writing; nobody else is here to finish it.
            for left_over in self.path.glob(".*.partial"):
                left_over.unlink()
            yield

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended and its result is written."""
        return (self.path / "result.json").exists()

    def add_environment(
        self,
        environment: Mapping[str, Any],
        resumed_after: int,
        resumed: bool = False,
    ) -> None:
        """Write `environment.json`; what a resumed run began with is kept in it.

        Args:
            environment: Where this process runs.
            resumed_after: Epochs, or stages, that were done before.
            resumed: Whether anything was, where that is less than one.
        """
        earlier: list[Any] = []
        if (resumed_after or resumed) and (self.path / "environment.json").exists():
            former = self.read_environment()
            earlier = [*former.pop("earlier"), former]
        self._write_json(
            "environment.json",
            {**environment, "resumed_after": resumed_after, "earlier": earlier},
        )

    def add_end(self) -> None:
        """Note in `environment.json` when the run ended."""
        ended = {**self.read_environment(), "ended": now()}
        self._write_json("environment.json", ended)

    def read_environment(self) -> dict[str, Any]:
        """Read `environment.json` back."""
        return self._read_json("environment.json")

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write `metrics.csv`: a row an epoch, a column for each key of the first."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
        write_text(self.path / "metrics.csv", text.getvalue())

    def read_metrics(self) -> list[dict[str, float]]:
        """Read `metrics.csv` back: one dict an epoch."""
        with (self.path / "metrics.csv").open(newline="", encoding="utf-8") as file:
            return [
                {key: float(value) for key, value in row.items()}
                for row in csv.DictReader(file)
            ]

    def write_predictions(self, **arrays: np.ndarray) -> None:
        """Write `predictions.npz`."""
        with (
            replace_file(self.path / "predictions.npz") as temporary,
            temporary.open("wb") as file,
        ):
            np.savez_compressed(file, **arrays)

    def read_predictions(self) -> dict[str, np.ndarray]:
        """Read `predictions.npz` back."""
        with np.load(self.path / "predictions.npz") as arrays:
            return dict(arrays)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, after which the run is complete."""
        self._write_json("result.json", result)

    def read_result(self) -> dict[str, Any]:
        """Read `result.json` back."""
        return self._read_json("result.json")

    def save_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Write `checkpoint.pt`; the former one stays until this one is whole.

        Args:
            checkpoint: Tensors, numbers, texts, lists and dicts.

        Raises:
            OSError: If it cannot be written.
        """
        path = self.path / "checkpoint.pt"
        with replace_file(path) as temporary:
            try:
                torch.save(dict(checkpoint), temporary)
            except RuntimeError as error:  # torch's own word for a full disk
                raise OSError(errno.EIO, str(error)) from error

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read `checkpoint.pt`, with its checksums verified and no code executed.

        Returns:
            What was saved, or None where there is no checkpoint yet.

        Raises:
            CheckpointError: If the file is damaged.
            OSError: If it cannot be read.
            MemoryError: If it does not fit.
        """
        path = self.path / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            _verify_checksums(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, MemoryError):
            raise
        # A flipped bit surfaces as almost any error of zipfile or of torch.
        except Exception as error:
            raise CheckpointError(
                f"The checkpoint {path} is damaged: {error}. Delete it to start the "
                "run afresh."
            ) from error

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        write_text(self.path / name, json.dumps(content, indent=2) + "\n")

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(
                f"{path} is damaged: {error}. Delete the folder to start the run "
                "afresh."
            ) from error
        return content


def _verify_checksums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"bad checksum of {damaged}")
