"""What layers that multiply by a matrix share: a gradient is a sum of outer products.

With x_l the input and d_l the output's gradient at place l (a token, a pixel of a
convolution, a time step), the gradient is G = sum_l d_l x_l^T, and its norm can be
had without G:

    ||G||^2 = sum_{l,m} (d_l . d_m) (x_l . x_m)
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sj_ext.fisher.rules.rule import Item, Rule


class Sizes(NamedTuple):
    """Of the factors of one item.

    Attributes:
        groups: Into which inputs and outputs are split.
        outputs: O, of one group.
        inputs: I, of one group.
        places: L.
    """

    groups: int
    outputs: int
    inputs: int
    places: int


class ProductRule(Rule):
    """Weight and bias of a layer whose output is a matrix times its input."""

    parameters = ("weight", "bias")
    module: nn.Linear | nn.Conv1d | nn.Conv2d

    @abstractmethod
    def columns(self, x: Tensor) -> Tensor:
        """Lay the input out: `[N, ...]` to `[N * groups, I, L]`."""

    @abstractmethod
    def rows(self, d: Tensor) -> Tensor:
        """Lay the output's gradient out: `[N, ...]` to `[N * groups, O, L]`."""

    @abstractmethod
    def sizes(self, item: Item) -> Sizes:
        """Measure an item."""

    def gradient(self, name: str, items: Sequence[Item]) -> Tensor:
        """Sum outer products; see `Rule.gradient`."""
        if name == "bias":
            return self._bias(items)
        first, *others = items
        total = self._outer(first)
        for item in others:
            total.baddbmm_(self.rows(item.gradient), self.columns(item.input).mT)
        return total.reshape(len(first.input), *self.module.weight.shape)

    def numel_per_sample(self, name: str, items: Sequence[Item]) -> int:
        """Count the columns of all items and the gradient, or the two Gram matrices."""
        if name == "bias":
            return 1
        size, L = self.sizes(items[0]), self._places(items)
        both = size.outputs + size.inputs
        if self._prefers_gram(items):
            return size.groups * (L * both + 2 * L * L)
        longest = max(self.sizes(item).places for item in items)
        return size.groups * (size.outputs * size.inputs + longest * both)

    def squared_norm(self, name: str, items: Sequence[Item]) -> Tensor | None:
        """Multiply the two Gram matrices where they are cheaper than G."""
        if name == "bias" or not self._prefers_gram(items):
            return None
        x = torch.cat([self.columns(item.input) for item in items], 2)
        d = torch.cat([self.rows(item.gradient) for item in items], 2)
        products = torch.bmm(x.mT, x) * torch.bmm(d.mT, d)
        return products.reshape(len(items[0].input), -1).sum(1, dtype=torch.float64)

    def _outer(self, item: Item) -> Tensor:
        return torch.bmm(self.rows(item.gradient), self.columns(item.input).mT)

    def _bias(self, items: Sequence[Item]) -> Tensor:
        n = len(items[0].input)
        sums = [self.rows(item.gradient).sum(2).reshape(n, -1) for item in items]
        return torch.stack(sums).sum(0)

    def _places(self, items: Sequence[Item]) -> int:
        return sum(self.sizes(item).places for item in items)

    def _prefers_gram(self, items: Sequence[Item]) -> bool:
        # Multiplications: L^2 (O + I) for the Gram matrices, L O I for G.
        size = self.sizes(items[0])
        both = size.outputs + size.inputs
        return self._places(items) * both < size.outputs * size.inputs
