"""Batch norm in evaluation: an affine map of each channel."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sj_ext.fisher.rules.rule import Item, Rule, covers


# The base of all of them, the synchronised one and those of the host too.
@covers(nn.modules.batchnorm._BatchNorm)
class BatchNormRule(Rule):
    """y = weight (x - mean) / sqrt(var + eps) + bias, from running statistics.

    Args:
        module: A batch norm layer.

    Raises:
        ValueError: If it has no running statistics: then samples of a batch act on
            each other, and a gradient of one sample does not exist.
    """

    parameters = ("weight", "bias")
    module: nn.BatchNorm2d

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        if self.module.running_mean is None or self.module.running_var is None:
            raise ValueError(
                "Expected batch norm with running statistics, got "
                f"{module}: without them a sample's output depends on its batch."
            )

    def gradient(self, name: str, items: Sequence[Item]) -> Tensor:
        """Sum over places; see `Rule.gradient`."""
        if name == "bias":
            return torch.stack([_by_place(d).sum(2) for _, d in items]).sum(0)
        mean, var = self.module.running_mean, self.module.running_var
        assert mean is not None
        assert var is not None
        sums = [
            ((_by_place(x) - mean[:, None]) * _by_place(d)).sum(2) for x, d in items
        ]
        return torch.stack(sums).sum(0) * (var + self.module.eps).rsqrt()


def _by_place(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], -1)
