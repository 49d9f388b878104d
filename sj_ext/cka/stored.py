"""Features that lie anywhere, in a memory-mapped file say, and are read in rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sj_ext.cka.gram import small_integers

_ELEMENTS_AT_ONCE = 2**20
_ALL = slice(None)


class StoredLayer:
    """Features of all samples of a layer, with what centring takes of them.

    Two passes over the samples give the mean and the squared norms of the centred
    features; these, and one number more a sample, stay in memory.

    Args:
        array: Features [n, ...]: anything with a shape that slices along the first
            axis to what numpy or torch understands.
        name: Of the layer.
        device: Where the numbers are computed.

    Attributes:
        name: As given.
        samples: n.
        width: D, the number of features.
        squared_norms: |x_i - mean|^2, float64 [n].
        largest_integer: Largest absolute value where all features are integers from
            -127 to 127, else None.
        mean_products: x_i . mean - |mean|^2 / 2 of integers, float64 [n]: what two
            samples take off their product to become that of centred features; else
            zeros.

    Raises:
        ValueError: If a value is NaN or infinite.
    """

    def __init__(self, array: Any, name: str, device: torch.device) -> None:
        self.name = name
        self.samples = int(array.shape[0])
        self.width = math.prod(array.shape[1:])
        if isinstance(array, np.ndarray | Tensor):
            array = array.reshape(self.samples, self.width)
        self._array = array
        self._device = device
        self._measure()

    def rows(self, rows: slice, columns: slice = _ALL) -> Tensor:
        """Read samples.

        Args:
            rows: Which samples.
            columns: Which of their D features.

        Returns:
            [rows, columns], of the type that they are stored in.
        """
        part = self._array[rows]
        part = part.detach() if isinstance(part, Tensor) else np.asarray(part)
        part = part.reshape(part.shape[0], self.width)[:, columns]
        if not isinstance(part, Tensor):
            # A copy: what numpy maps for reading torch must not write to.
            part = torch.from_numpy(np.array(part, part.dtype.newbyteorder("=")))
        return part.to(self._device)

    def centred(self, rows: slice, columns: slice = _ALL) -> Tensor:
        """Read samples, less the mean of all.

        Args:
            rows: Which samples.
            columns: Which of their D features.

        Returns:
            Float64 [rows, columns]; exactly zero where the column is constant.
        """
        x = self.rows(rows, columns).double()
        # In two steps, so that constant columns become exact zeros.
        return x - self._first[columns] - self._mean[columns]

    def column_blocks(self, rows: int) -> list[slice]:
        """Divide the columns so that a block of so many rows stays small.

        Args:
            rows: Number of rows.

        Returns:
            Slices that cover all columns.
        """
        return blocks(self.width, _ELEMENTS_AT_ONCE // rows)

    def _measure(self) -> None:
        parts = blocks(self.samples, _ELEMENTS_AT_ONCE // max(1, self.width))
        self._first = self.rows(slice(0, 1))[0].double()
        total = torch.zeros_like(self._first)
        self.largest_integer: int | None = 0
        for part in parts:
            x = self.rows(part)
            total += (x.double() - self._first).sum(0)
            self._count(x)
        self._mean = total / self.samples
        norms, products = [], []
        mean = self._first + self._mean
        for part in parts:
            norms.append(self.centred(part).square().sum(1))
            if self.largest_integer is not None:
                x = self.rows(part).double()
                products.append(x @ mean - mean.dot(mean) / 2)
        self.squared_norms = torch.cat(norms)
        self.mean_products = (
            torch.cat(products) if products else torch.zeros_like(self.squared_norms)
        )
        if not torch.isfinite(self.squared_norms.sum()):
            raise ValueError(
                f"Expected the features of layer {self.name} to be finite, got NaN, "
                "infinity or values whose squares are."
            )

    def _count(self, x: Tensor) -> None:
        if self.largest_integer is None or not x.numel():
            return
        integers = small_integers(x)
        if integers is None:
            self.largest_integer = None
            return
        low, high = torch.aminmax(integers)
        largest = max(-int(low), int(high))
        # Beside zeros alone, numbers too small for that check to see could be all.
        unseen = largest == 0 and bool(x.any())
        self.largest_integer = None if unseen else max(self.largest_integer, largest)


def blocks(length: int, size: int) -> list[slice]:
    """Divide an axis.

    Args:
        length: Of the axis.
        size: Of the blocks, but for the last; at least 1 is taken.

    Returns:
        Slices that cover the axis.
    """
    size = max(1, size)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def stored_layers(
    features: Sequence[Any] | Mapping[str, Any],
    argument: str,
    device: torch.device,
) -> list[StoredLayer]:
    """Measure all layers of one side.

    Args:
        features: Arrays [n, ...], or a dict of them by name; else their names are
            their numbers.
        argument: Its name, for errors.
        device: Where the numbers are computed.

    Returns:
        The layers.

    Raises:
        ValueError: If there are none, or not the same number of samples in all.
    """
    if not isinstance(features, Mapping):
        features = {str(i): array for i, array in enumerate(features)}
    sizes = {name: int(array.shape[0]) for name, array in features.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            f"Expected `{argument}` to be layers of the same samples, got {sizes}."
        )
    return [StoredLayer(array, name, device) for name, array in features.items()]
