"""Convolutions in one and two dimensions, as products of unfolded patches."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from sj_ext.fisher.rules.product import ProductRule, Sizes
from sj_ext.fisher.rules.rule import Item, covers


@covers(nn.Conv1d, nn.Conv2d)
class ConvolutionRule(ProductRule):
    """Groups, stride, padding (all modes) and dilation as `torch.nn.Conv2d` has them.

    One dimension is two of height 1.
    """

    module: nn.Conv1d | nn.Conv2d

    def columns(self, x: Tensor) -> Tensor:
        """Unfold the patches: `[N * groups, C/groups * k^2, L]`, L output pixels."""
        conv = self.module
        x = self._padded(x)
        kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
        if x.ndim == 3:
            x = x.unsqueeze(2)
            kernel, stride, dilation = ((1, *a) for a in (kernel, stride, dilation))
        patches = F.unfold(x, kernel, dilation, 0, stride)
        # Channels are the slower part of the unfolded axis, so groups split it.
        return patches.reshape(len(x) * conv.groups, -1, patches.shape[-1])

    def rows(self, d: Tensor) -> Tensor:
        """Flatten the pixels: `[N * groups, O/groups, L]`."""
        groups = self.module.groups
        return d.reshape(len(d) * groups, d.shape[1] // groups, -1)

    def sizes(self, item: Item) -> Sizes:
        """Give the groups, O and I of one of them, and the number of pixels."""
        conv = self.module
        outputs = conv.out_channels // conv.groups
        inputs = conv.in_channels // conv.groups * math.prod(conv.kernel_size)
        pixels = math.prod(item.gradient.shape[2:])
        return Sizes(conv.groups, outputs, inputs, pixels)

    def _padded(self, x: Tensor) -> Tensor:
        conv = self.module
        # torch's own record of both sides of each axis, whatever form `padding` has.
        sides = conv._reversed_padding_repeated_twice
        if not any(sides):
            return x
        if conv.padding_mode == "zeros":
            return F.pad(x, sides)
        return F.pad(x, sides, mode=conv.padding_mode)
