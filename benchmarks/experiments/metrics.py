"""Figures of a training run from what it left in its folder, without training again.

A run stores the logits of every test sample and step with the epoch that was selected
on validation and with the last one, and what the readout weighted the steps with.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.runs.config import TrainConfig, read
from benchmarks.runs.folder import RunFolder
from benchmarks.tasks.train import build_readout
from sj_ext.readout import TemporallyWeightedOutput
from sj_ext.registry import UnknownNameError

__all__ = ["METRICS", "MissingError", "TrainedRun", "measure"]

Which = Literal["selected", "last"]


class MissingError(ValueError):
    """A run has not what a metric is made of; the message says what is missing."""


@dataclass
class TrainedRun:
    """A complete training run, as its folder has it.

    Attributes:
        folder: Its folder.
        result: Of `result.json`.
        target: Classes of the test samples, `[N]`.
        logits: Test logits `[T, N, K]` by epoch: `"selected"` and `"last"`.
        weight: Weight of each step, of mean 1, by epoch: `[T]`; NaN where the readout
            is no weighted mean.
    """

    folder: RunFolder
    result: Mapping[str, Any] = field(init=False)
    target: Tensor = field(init=False)
    logits: Mapping[str, Tensor] = field(init=False)
    weight: Mapping[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Read result and predictions."""
        self.result = self.folder.read_result()
        found = self.folder.read_predictions()
        self.target = torch.from_numpy(found["target"])
        epochs = ("selected", "last")
        self.logits = {
            which: torch.from_numpy(found[f"logits_{which}"]).transpose(0, 1)
            for which in epochs
        }
        self.weight = {
            which: torch.from_numpy(found[f"readout_weight_{which}"])
            for which in epochs
        }

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> "TrainedRun":
        """Open a run by the path of its folder, wherever that was moved to.

        Args:
            path: Of the folder.

        Returns:
            The run.

        Raises:
            MissingError: If the folder is none of a complete training run.
        """
        path = Path(path)
        for name in ("config.yaml", "result.json", "predictions.npz"):
            if not (path / name).exists():
                raise MissingError(
                    f"Expected {path} to be the folder of a complete training run, got "
                    f"none with {name}."
                )
        config = read(["--config", str(path / "config.yaml")])
        return cls(RunFolder(config, path))

    @property
    def config(self) -> TrainConfig:
        """Of the run."""
        config: Any = self.folder.config
        return config

    def outputs(self, which: Which = "selected") -> Tensor:
        """Read the logits out as the run did.

        Args:
            which: With the selected epoch's weights, or the last one's.

        Returns:
            `[N, K]`.
        """
        weight, logits = self.weight[which], self.logits[which]
        if weight.isnan().any():
            return build_readout(self.config).eval()(logits)
        return (weight[:, None, None] * logits).mean(0)

    def unweighted(self, which: Which = "selected") -> Tensor:
        """Read the logits out as if every step had the weight 1.

        Args:
            which: As in `outputs`.

        Returns:
            `[N, K]`.

        Raises:
            MissingError: If the readout has no weights that it learned.
        """
        if not isinstance(build_readout(self.config), TemporallyWeightedOutput):
            raise MissingError(
                f"Expected the readout of {self.folder.path} to have weights, got "
                f"{self.config.readout.name}."
            )
        return self.logits[which].mean(0)


def _accuracy(output: Tensor, target: Tensor) -> float:
    return 100 * float((output.argmax(1) == target).double().mean())


def _mean_class_accuracy(output: Tensor, target: Tensor) -> float:
    right = (output.argmax(1) == target).double()
    shares = [right[target == label].mean() for label in target.unique()]
    return 100 * float(torch.stack(shares).mean())


def _best_on_test(run: TrainedRun) -> float:
    if "best_on_test_accuracy" not in run.result:
        raise MissingError(
            f"Expected {run.folder.path} to be of a run with `test_every_epoch: true`, "
            "got one that was tested at its end alone."
        )
    return 100 * float(run.result["best_on_test_accuracy"])


def _calibration_error(output: Tensor, target: Tensor, bins: int = 15) -> float:
    confidence, answer = output.double().softmax(1).max(1)
    right = (answer == target).double()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64)
    gaps.index_add_(0, which, right - confidence)
    return 100 * float(gaps.abs().sum() / len(target))


def _steps(run: TrainedRun) -> list[float]:
    return [_accuracy(logits, run.target) for logits in run.logits["selected"]]


def _prefixes(run: TrainedRun) -> list[float]:
    sums = run.logits["selected"].cumsum(0)
    return [_accuracy(logits, run.target) for logits in sums]


METRICS: Mapping[str, Callable[[TrainedRun], float | list[float]]] = {
    "test_accuracy": lambda run: _accuracy(run.outputs(), run.target),
    "last_epoch_accuracy": lambda run: _accuracy(run.outputs("last"), run.target),
    "best_on_test_accuracy": _best_on_test,
    "mean_class_accuracy": lambda run: _mean_class_accuracy(run.outputs(), run.target),
    "unweighted_accuracy": lambda run: _accuracy(run.unweighted(), run.target),
    "cross_entropy": lambda run: float(
        torch.nn.functional.cross_entropy(run.outputs().double(), run.target)
    ),
    "calibration_error": lambda run: _calibration_error(run.outputs(), run.target),
    "step_accuracy": _steps,
    "prefix_accuracy": _prefixes,
}
"""By name. Shares are in percent. `test_accuracy`, mean over classes, without weights,
cross-entropy (nats), calibration error (15 bins) and the two lists (each step alone;
mean of the first t) are of the epoch that was selected on validation;
`best_on_test_accuracy` is that of the best epoch in hindsight, as the literature gives
it, and so optimistic."""


def measure(
    run: TrainedRun, names: Sequence[str] = ()
) -> dict[str, float | list[float]]:
    """Compute metrics of a run.

    Args:
        run: The run.
        names: Which; empty for all that it has.

    Returns:
        By name.

    Raises:
        UnknownNameError: If there is no metric of a name.
        MissingError: If a metric was asked for by name that the run has not.
    """
    for name in names:
        if name not in METRICS:
            raise UnknownNameError("a metric", name, sorted(METRICS))
    found: dict[str, float | list[float]] = {}
    for name in names or METRICS:
        try:
            found[name] = METRICS[name](run)
        except MissingError:
            if names:
                raise
    return found
