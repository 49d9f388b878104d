"""The peer: minibatch CKA as released, written from its description.

Y. Li et al., arXiv 2304.13098: Gram matrices in float32, and for every pair of layers
HSIC_1 with a matrix product of its own behind each trace. What a layer needs by itself
(its kernel without the diagonal, its own HSIC) is computed once, in its favour.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def released_cka(features: Sequence[Tensor]) -> Tensor:
    """Compare all layers of a network with each other.

    Args:
        features: Of each of L layers, [n, D].

    Returns:
        CKA [L, L] in float32.
    """
    return released_pairs([x @ x.T for x in features])


def released_pairs(grams: Sequence[Tensor]) -> Tensor:
    """Compare all layers, given their Gram matrices.

    Args:
        grams: Of each of L layers, [n, n].

    Returns:
        CKA [L, L].
    """
    kernels = [gram - torch.diag(gram.diagonal()) for gram in grams]
    own = torch.stack([_hsic(kernel, kernel) for kernel in kernels])
    cross = [torch.stack([_hsic(a, b) for b in kernels]) for a in kernels]
    return torch.stack(cross) / torch.outer(own, own).sqrt()


def _hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    n = len(k)
    product = k @ l
    total = product.trace() + k.sum() * l.sum() / ((n - 1) * (n - 2))
    return (total - 2 * product.sum() / (n - 2)) / (n * (n - 3))
