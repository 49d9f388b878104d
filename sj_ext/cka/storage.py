"""Files of CKA results: arrays without pickle, and a table."""

import csv
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from sj_ext.cka.result import (
    MINIMUM_BATCHES,
    BatchSums,
    CKAResult,
    ComparedLayers,
    load_layers,
)
from sj_ext.files import load_tensors, replace_file, save_tensors

_KIND = "CKAResult of format 1"
_MATRICES = ("cka", "per_step", "rsa", "rsa_per_step")
_PLAIN = ("samples", "batches", "time", "estimator", "itself", "order_checked")


def save(result: CKAResult, path: str | os.PathLike[str]) -> None:
    """Write `result` to `path`, replacing a former file only when complete."""
    tensors = {
        name: getattr(result, name)
        for name in _MATRICES
        if getattr(result, name) is not None
    }
    if result.sums is not None:
        tensors |= {f"sums_{k}": v for k, v in result.sums._asdict().items()}
    about = {name: getattr(result, name) for name in _PLAIN}
    about |= {side: dataclasses.asdict(getattr(result, side)) for side in "xy"}
    save_tensors(path, _KIND, about, tensors)


def load(path: str | os.PathLike[str]) -> CKAResult:
    """Read a result that `save` wrote.

    Args:
        path: Of the file.

    Returns:
        The result.
    """
    about, tensors = load_tensors(path, _KIND)
    sums = (
        BatchSums(*(tensors[f"sums_{name}"] for name in BatchSums._fields))
        if "sums_xy" in tensors
        else None
    )
    others: dict[str, Any] = {name: about[name] for name in _PLAIN}
    others |= {name: tensors[name] for name in _MATRICES if name in tensors}
    x, y = load_layers(about["x"]), load_layers(about["y"])
    return CKAResult(x=x, y=y, sums=sums, **others)


def write_csv(result: CKAResult, path: str | os.PathLike[str]) -> None:
    """Write the table that `CKAResult.to_csv` describes."""
    with (
        replace_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(
            ["layer_x", "layer_y", "step_x", "step_y", "cka", "rsa", "low", "high"]
        )
        table.writerows(_rows(result))


def _rows(result: CKAResult) -> Iterator[list[object]]:
    low = high = None
    if result.sums is not None and len(result.sums.xy) >= MINIMUM_BATCHES:
        low, high = result.interval()
    yield from _pairs(
        [(name, "") for name in result.layers_x],
        [(name, "") for name in result.layers_y],
        (result.cka, result.rsa, low, high),
    )
    if result.per_step is not None:
        yield from _pairs(
            _step_names(result.x),
            _step_names(result.y),
            (result.per_step, result.rsa_per_step, None, None),
        )


def _pairs(
    names_x: list[tuple[str, Any]],
    names_y: list[tuple[str, Any]],
    matrices: tuple[Tensor | None, ...],
) -> Iterator[list[object]]:
    # Lists, since reading a tensor number by number is slow.
    lists = [None if matrix is None else matrix.tolist() for matrix in matrices]
    for i, (layer_x, step_x) in enumerate(names_x):
        for j, (layer_y, step_y) in enumerate(names_y):
            values = ["" if rows is None else rows[i][j] for rows in lists]
            yield [layer_x, layer_y, step_x, step_y, *values]


def _step_names(layers: ComparedLayers) -> list[tuple[str, Any]]:
    return [
        (name, t + 1)
        for name, T in zip(layers.names, layers.steps, strict=True)
        for t in range(T)
    ]
