"""What the residual networks are made of: convolutions, and makers of norms."""

from collections.abc import Callable

from spikingjelly.activation_based import layer
from torch import nn

__all__ = ["Norm", "convolution"]

Norm = Callable[[int], nn.Module]
"""Makes a batch norm of so many channels."""


def convolution(
    in_channels: int, channels: int, kernel: int, stride: int = 1
) -> nn.Module:
    """Make a convolution without bias that keeps height and width but for the stride.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the result.
        kernel: Height and width of the kernel, odd.
        stride: Of both axes.

    Returns:
        The layer, initialised after He et al. 2015.
    """
    made = layer.Conv2d(
        in_channels, channels, kernel, stride, padding=kernel // 2, bias=False
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made
