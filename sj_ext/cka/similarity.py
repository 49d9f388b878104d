"""What a comparison of layers gives: matrices of numbers, all in float64 on the CPU."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Similarity(NamedTuple):
    """Matrices over the layers of two sides, Lx by Ly, and over their time steps.

    A row of the time-resolved matrices is a (layer, step), layers in order and the
    steps of each in order: Rx = sum(steps_x) rows.

    Attributes:
        concat: CKA of the layers [Lx, Ly]; their steps count as further features, or
            with `time="mean"` their mean is taken. NaN where a layer is constant.
        per_step: CKA of all pairs of steps [Rx, Ry]; None unless asked for. NaN where
            the layer is constant at that step.
        steps_x: Number of time steps T of each layer x.
        steps_y: Likewise y.
        rsa: Rank correlation of the pairwise distances [Lx, Ly]; None unless asked for.
        rsa_per_step: Likewise of all pairs of steps [Rx, Ry].
        constant_x: Names of the layers x with a self-HSIC of zero.
        constant_y: Likewise y.
    """

    concat: Tensor
    per_step: Tensor | None
    steps_x: list[int]
    steps_y: list[int]
    rsa: Tensor | None = None
    rsa_per_step: Tensor | None = None
    constant_x: tuple[str, ...] = ()
    constant_y: tuple[str, ...] = ()


def normalised(cross: Tensor, self_x: Tensor, self_y: Tensor) -> Tensor:
    """Divide products by the roots of the self-products; nothing is clamped.

    Args:
        cross: [Rx, Ry].
        self_x: [Rx].
        self_y: [Ry].

    Returns:
        [Rx, Ry]: cross / sqrt(self_x self_y), NaN where a self-product is zero.
    """
    # One root of the product: where it is a square, as on a diagonal, it is exact.
    ratio = cross / torch.outer(self_x, self_y).sqrt()
    zero = (self_x <= 0)[:, None] | (self_y <= 0)
    return ratio.masked_fill(zero, float("nan"))


def names_of_zeros(names: Sequence[str], self_products: Tensor) -> tuple[str, ...]:
    """List the layers whose self-product is zero.

    Args:
        names: Of the layers.
        self_products: Of shape [layers].

    Returns:
        Their names.
    """
    zeros = (self_products <= 0).tolist()
    return tuple(name for name, zero in zip(names, zeros, strict=True) if zero)
