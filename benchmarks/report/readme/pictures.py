"""The README's pictures, drawn from the results beside which they lie."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.report import fisher
from benchmarks.report.pruning import accuracy_against_cost
from benchmarks.report.robustness import against_budget
from sj_ext.files import replace_file
from sj_ext.fisher import FisherResult

LARGEST = 150_000
"""Bytes of a picture."""


def write_pictures(results: Path) -> list[Path]:
    """Draw the pictures whose results are there.

    Args:
        results: Folder of the results, and of the pictures.

    Returns:
        The pictures.
    """
    written = []
    for name, (source, draw) in PICTURES.items():
        if (results / source).exists():
            picture = drawn(draw, results / source)
            with replace_file(results / name) as temporary:
                temporary.write_bytes(picture)
            written.append(results / name)
    return written


def drawn(draw: Callable[[Mapping[str, Any]], Figure], source: Path) -> bytes:
    """Draw a picture.

    Args:
        draw: What draws the content of a result file.
        source: The file.

    Returns:
        PNG with a palette, which is enough for lines and words.

    Raises:
        ValueError: If it is larger than a picture of the README may be.
    """
    figure = draw(json.loads(source.read_text(encoding="utf-8")))
    plain, small = io.BytesIO(), io.BytesIO()
    figure.savefig(plain, format="png", dpi=100)
    with Image.open(plain) as image:
        # Of the figure's ground nothing shines through.
        image.convert("RGB").quantize(256).save(small, "png", optimize=True)
    if small.tell() > LARGEST:
        raise ValueError(
            f"Expected the picture of {source.name} to have at most {LARGEST:,} bytes, "
            f"got {small.tell():,}."
        )
    return small.getvalue()


def _pruning(result: Mapping[str, Any]) -> Figure:
    return accuracy_against_cost(result["rows"])


def _through_training(result: Mapping[str, Any]) -> Figure:
    (run,) = result["runs"]
    return fisher.profiles(_profiles(run, result), _title(run))


def _released_bias(result: Mapping[str, Any]) -> Figure:
    (run,) = result["runs"]
    return fisher.bias(_profiles(run, result), _title(run))


def _title(run: Mapping[str, Any]) -> str:
    T = len(next(iter(run["profiles"]["network"].values()))["information"])
    return f"event digits, T = {T}"


def _profiles(
    run: Mapping[str, Any], result: Mapping[str, Any]
) -> dict[str, dict[int, FisherResult]]:
    """Bring stored profiles into the form that measurements have."""
    return {
        name: {
            int(epoch): _result(name, found, result["released_batch_size"])
            for epoch, found in profiles.items()
        }
        for name, profiles in run["profiles"].items()
    }


def _result(name: str, found: Mapping[str, Any], batch: int) -> FisherResult:
    released = name == "released"

    def tensor(key: str) -> torch.Tensor:
        values = [torch.nan if value is None else value for value in found[key]]
        return torch.tensor(values, dtype=torch.float64)

    error = found["centroid_standard_error"]
    return FisherResult(
        steps=tuple(range(1, len(found["information"]) + 1)),
        total=tensor("information"),
        per_layer={},
        per_parameter={},
        standard_error=tensor("standard_error"),
        layer_standard_error={},
        information_centroid=found["centroid"],
        centroid_standard_error=torch.nan if error is None else error,
        prefix_loss=tensor("loss"),
        prefix_accuracy=tensor("accuracy"),
        prefix_confidence=tensor("confidence"),
        samples=found["samples"],
        units=found["samples"] // (batch if released else 1),
        estimator="batch_mean" if released else "per_sample",
        labels="empirical" if released or name == "true-labels" else "model",
    )


PICTURES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Figure]]] = {
    "fisher-released-bias.png": ("fisher-training-cpu.json", _released_bias),
    "fisher-through-training.png": ("fisher-training-cpu.json", _through_training),
    "pruning-cpu.png": ("pruning-cpu.json", _pruning),
    "robustness-cpu.png": ("robustness-cpu.json", against_budget),
}
"""What draws each, and from which file."""
