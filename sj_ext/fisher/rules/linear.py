"""Fully connected layers."""

import math

from torch import Tensor, nn

from sj_ext.fisher.rules.product import ProductRule, Sizes
from sj_ext.fisher.rules.rule import Item, covers


@covers(nn.Linear)
class LinearRule(ProductRule):
    """y = W x + b, at any number of tokens: `[N, ..., I]` to `[N, ..., O]`."""

    def columns(self, x: Tensor) -> Tensor:
        """Put the features second: `[N, I, L]`, L the number of tokens."""
        return x.reshape(len(x), -1, x.shape[-1]).mT

    def rows(self, d: Tensor) -> Tensor:
        """Put the features second: `[N, O, L]`."""
        return d.reshape(len(d), -1, d.shape[-1]).mT

    def sizes(self, item: Item) -> Sizes:
        """Give 1, O, I and the number of tokens."""
        *tokens, features = item.input.shape[1:]
        return Sizes(1, item.gradient.shape[-1], features, math.prod(tokens))
