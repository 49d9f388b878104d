"""The exact form at full size: a whole set of samples from memory-mapped files."""

import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.runs.workers import pool_of
from sj_ext.cka import exact_cka

_ROWS_AT_ONCE = 1000
_CHECKED = 1000


@dataclass(frozen=True)
class ExactSetting:
    """Real-valued features in files.

    Attributes:
        samples: n; all are compared with all.
        layers: L.
        width: D of each.
    """

    samples: int = 10_000
    layers: int = 20
    width: int = 1024

    @property
    def title(self) -> str:
        """Say in words what is compared."""
        return f"exact: {self.samples} samples x {self.layers} layers x D {self.width}"


def measure_exact(setting: ExactSetting, folder: Path) -> dict[str, Any]:
    """Compare all layers over all samples once, in a process of its own.

    Args:
        setting: Sizes.
        folder: Where the files are made, and deleted.

    Returns:
        `title`, `seconds` of float32 products, `error` of their CKA of the first 1000
        samples to that of float64 products, `peak_resident_bytes` of the whole process
        with libraries and mapped files, `floor_seconds` of the products of Gram
        matrices at the speed that float32 products of one tile have here, and the
        setting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        paths = _write(setting, Path(place))
        with pool_of(1) as pool:
            threads = torch.get_num_threads()
            seconds, peak = pool.submit(_run, paths, threads).result()
        error = _error(paths)
    return {
        "title": setting.title,
        "seconds": seconds,
        "error": error,
        "peak_resident_bytes": peak,
        "floor_seconds": _floor(setting),
        **asdict(setting),
    }


def _write(setting: ExactSetting, folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.npy" for i in range(setting.layers)]
    shape = (setting.samples, setting.width)
    for path in paths:
        stored = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, setting.samples, _ROWS_AT_ONCE):
            rows = stored[start : start + _ROWS_AT_ONCE]
            rows[:] = rng.standard_normal(rows.shape, dtype=np.float32)
        stored.flush()
    return paths


def _run(paths: list[Path], threads: int) -> tuple[float, int]:
    torch.set_num_threads(threads)
    features = [np.load(path, mmap_mode="r") for path in paths]
    exact_cka([one[:64] for one in features], dtype=torch.float32)
    start = time.perf_counter()
    exact_cka(features, dtype=torch.float32)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _error(paths: list[Path]) -> float:
    features = [np.load(path, mmap_mode="r")[:_CHECKED] for path in paths]
    found, expected = (
        exact_cka(features, dtype=dtype).concat
        for dtype in (torch.float32, torch.float64)
    )
    return float((found - expected).abs().max())


def _floor(setting: ExactSetting, tile: int = 1024) -> float:
    a, b = torch.randn(tile, setting.width), torch.randn(setting.width, tile)
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    tiles = setting.samples * (setting.samples + 1) / 2 / tile**2
    return setting.layers * tiles * sorted(seconds)[len(seconds) // 2]
