"""Files of Fisher results: arrays without pickle, and a table."""

import csv
import os
from collections.abc import Iterator
from typing import Any

import torch

from sj_ext.files import load_tensors, replace_file, save_tensors
from sj_ext.fisher.result import FisherResult

_KIND = "FisherResult of format 1"
_TENSORS = (
    "total",
    "standard_error",
    "prefix_loss",
    "prefix_accuracy",
    "prefix_confidence",
)
_TABLES = ("per_layer", "per_parameter", "layer_standard_error")
_TUPLES = ("steps", "looped", "frozen")
_PLAIN = (
    "information_centroid",
    "centroid_standard_error",
    "samples",
    "units",
    "estimator",
    "labels",
    "probe",
    "execution",
)


def save(result: FisherResult, path: str | os.PathLike[str]) -> None:
    """Write `result` to `path`, replacing a former file only when complete."""
    tensors = {name: getattr(result, name) for name in _TENSORS}
    about: dict[str, Any] = {n: getattr(result, n) for n in (*_PLAIN, *_TUPLES)}
    for name in _TABLES:
        table = getattr(result, name)
        about[name] = list(table)
        tensors[name] = torch.stack(list(table.values()))
    save_tensors(path, _KIND, about, tensors)


def load(path: str | os.PathLike[str]) -> FisherResult:
    """Read a result that `save` wrote.

    Args:
        path: Of the file.

    Returns:
        The result.
    """
    about, tensors = load_tensors(path, _KIND)
    fields: dict[str, Any] = {name: about[name] for name in _PLAIN}
    fields |= {name: tuple(about[name]) for name in _TUPLES}
    fields |= {name: tensors[name] for name in _TENSORS}
    for name in _TABLES:
        fields[name] = dict(zip(about[name], tensors[name].unbind(), strict=True))
    return FisherResult(**fields)


def write_csv(result: FisherResult, path: str | os.PathLike[str]) -> None:
    """Write the table that `FisherResult.to_csv` describes."""
    with (
        replace_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(
            [
                "layer",
                "step",
                "information",
                "standard_error",
                "loss",
                "accuracy",
                "confidence",
            ]
        )
        table.writerows(_rows(result))


def _rows(result: FisherResult) -> Iterator[list[object]]:
    columns = [getattr(result, name).tolist() for name in _TENSORS]
    for t, *values in zip(result.steps, *columns, strict=True):
        yield ["total", t, *values]
    for name, information in result.per_layer.items():
        error = result.layer_standard_error[name].tolist()
        for row in zip(result.steps, information.tolist(), error, strict=True):
            yield [name, *row, "", "", ""]
