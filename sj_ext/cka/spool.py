"""Features of a whole set of samples, kept in files until they are compared at once."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sj_ext.cka.accumulator import Similarity
from sj_ext.cka.exact import exact_cka

Array = NDArray[Any]
Advance = Callable[[int], None]


class FeatureSpool:
    """Takes batches as `HsicSums` does, and compares all samples without minibatches.

    Features lie in one file a layer, which `compute` maps into memory. They vanish
    with `reset`, with the object, and with the process.
    """

    def __init__(
        self,
        layers_x: Sequence[str],
        layers_y: Sequence[str] | None,
        *,
        time: str,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._names = [list(names) for names in (layers_x, layers_y) if names]
        self._time = time
        self._parent = folder
        self.reset()

    def reset(self) -> None:
        """Remove all features."""
        if hasattr(self, "_remove"):
            self._remove()
        self._sides: list[list[LayerFile]] = []
        self.batches = 0

    @property
    def samples(self) -> int:
        """How many samples the files hold."""
        return self._sides[0][0].samples if self._sides else 0

    @property
    def passes(self) -> int:
        """How often `compute` goes through all samples."""
        return 2 if self._time == "per_step" else 1

    def update(
        self, features_x: Iterable[Tensor], features_y: Iterable[Tensor] | None = None
    ) -> None:
        """Append a batch.

        Args:
            features_x: A tensor `[T, n, ...]` for each layer of the first network.
            features_y: Likewise of the second; None where there is none.

        Raises:
            ValueError: If samples, steps, features or their type do not match, or
                values are not finite; nothing is appended then.
        """
        given = (features_x,) if features_y is None else (features_x, features_y)
        self._append([[self._rows(tensor) for tensor in side] for side in given])
        self.batches += 1

    def compute(self, advance: Advance | None = None) -> Similarity:
        """Compare all samples.

        Args:
            advance: Called with numbers of samples that sum to `passes` times all.

        Returns:
            CKA of the whole set, with names.
        """
        mapped = [
            {name: file.map() for name, file in zip(names, side, strict=True)}
            for names, side in zip(self._names, self._sides, strict=True)
        ]
        whole = exact_cka(*mapped, advance=advance)
        per_step = None
        if self._time == "per_step":
            steps = [
                {
                    f"{name}, step {t + 1}": array[:, t]
                    for name, array in side.items()
                    for t in range(array.shape[1])
                }
                for side in mapped
            ]
            per_step = exact_cka(*steps, advance=advance).concat
        T = [[array.shape[1] for array in side.values()] for side in mapped]
        return whole._replace(per_step=per_step, steps_x=T[0], steps_y=T[-1])

    def merge(self, other: "FeatureSpool") -> None:
        """Append all features of another spool; `other` keeps its own.

        Args:
            other: Of the same layers.
        """
        self._append([[file.map() for file in side] for side in other._sides])
        self.batches += other.batches

    def state_dict(self) -> dict[str, Any]:
        """Collect the features: as much memory as the files are long.

        Returns:
            Tensors `[n, T, D]` for each layer of each network.
        """
        features = [
            [torch.from_numpy(np.array(file.map())) for file in side]
            for side in self._sides
        ]
        return {"batches": self.batches, "features": features}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the features.

        Args:
            state: What `state_dict()` returned.
        """
        self.reset()
        self._append([[t.numpy() for t in side] for side in state["features"]])
        self.batches = state["batches"]

    def _append(self, sides: list[list[Array]]) -> None:
        if sides:
            self._check(sides)
        if not self._sides:
            folder = Path(tempfile.mkdtemp(prefix="cka-", dir=self._parent))
            self._remove = weakref.finalize(self, shutil.rmtree, folder, True)
            self._sides = [
                [LayerFile(folder / f"{'xy'[s]}{i}") for i in range(len(side))]
                for s, side in enumerate(sides)
            ]
        for files, arrays in zip(self._sides, sides, strict=True):
            for file, array in zip(files, arrays, strict=True):
                file.append(array)

    def _check(self, sides: list[list[Array]]) -> None:
        """Refuse a batch as a whole, before any of its layers is written."""
        samples = len(sides[0][0])
        for number, (arrays, names) in enumerate(zip(sides, self._names, strict=True)):
            for place, (array, name) in enumerate(zip(arrays, names, strict=True)):
                if len(array) != samples:
                    raise ValueError(
                        f"Expected the {samples} samples of {self._names[0][0]!r} at "
                        f"{name!r}, got {len(array)}."
                    )
                if not np.isfinite(array).all():
                    raise ValueError(
                        f"Expected finite features of {name!r}, got NaN or infinity."
                    )
                if self._sides:
                    self._sides[number][place].check(array, name)

    def _rows(self, features: Tensor) -> Array:
        """Bring `[T, n, ...]` to `[n, T, D]`; T is 1 where steps are averaged."""
        # numpy has no bfloat16.
        if features.dtype in (torch.float16, torch.bfloat16):
            features = features.float()
        if self._time == "mean":
            # CKA does not see the factor, and sums of spikes stay integers.
            features = features.sum(0, keepdim=True)
        rows = features.reshape(*features.shape[:2], -1).transpose(0, 1)
        return rows.contiguous().cpu().numpy()


class LayerFile:
    """Rows of one layer in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self.samples = 0
        self._path = path
        self._shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] | None = None

    def check(self, rows: Array, name: str) -> None:
        """Refuse rows that are not as those that are there.

        Args:
            rows: `[n, T, D]`.
            name: Of the layer, for the message.

        Raises:
            ValueError: If T, D or the type differ from those of earlier rows.
        """
        if self._shape is None:
            return
        if (rows.shape[1:], rows.dtype) != (self._shape, self._dtype):
            raise ValueError(
                f"Expected features [T, D] = {list(self._shape)} of {self._dtype} at "
                f"{name!r} in every batch, got {list(rows.shape[1:])} of {rows.dtype}."
            )

    def append(self, rows: Array) -> None:
        """Write rows behind those that are there.

        Args:
            rows: `[n, T, D]`, as `check` lets them pass.
        """
        self._shape, self._dtype = rows.shape[1:], rows.dtype
        with self._path.open("ab") as file:
            np.ascontiguousarray(rows).tofile(file)
        self.samples += len(rows)

    def map(self) -> Array:
        """Show the file as an array `[n, T, D]`, read as it is used."""
        assert self._shape is not None
        assert self._dtype is not None
        shape = (self.samples, *self._shape)
        return np.memmap(self._path, dtype=self._dtype, mode="r", shape=shape)
