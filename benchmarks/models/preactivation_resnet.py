"""Residual networks whose blocks begin with the neuron, for CIFAR-sized frames.

After He et al. 2016, "Identity Mappings in Deep Residual Networks", in the spiking form
of arXiv 2304.13098: neuron, convolution, batch norm, twice, and a sum.
"""

from collections import OrderedDict
from typing import Literal

from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from benchmarks.models.convolution import Norm, convolution
from benchmarks.models.direct_coding import computed_once
from benchmarks.models.neurons import NeuronFactory
from benchmarks.models.normalization import batch_norm as make_batch_norm
from sj_ext import register

_BASE_WIDTH = 16


class PreactivationBlock(nn.Module):
    """Neuron, convolution and batch norm, twice; the input is added to the result.

    Where the block changes the shape, the addend is the first neuron's output, pooled
    and projected. The sum is not in place: the addend may be recorded.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the result.
        stride: 2 halves height and width, odd ones rounded up.
        residual: Whether anything is added.
        neuron: Makes each neuron layer.
        norm: Makes each batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        residual: bool,
        neuron: NeuronFactory,
        norm: Norm = layer.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.neuron1 = neuron()
        self.conv1 = convolution(in_channels, channels, 3, stride)
        self.bn1 = norm(channels)
        self.neuron2 = neuron()
        self.conv2 = convolution(channels, channels, 3)
        self.bn2 = norm(channels)
        self.residual = residual
        if stride != 1 or in_channels != channels:
            # Made also where it is then dropped, so that one seed gives all other
            # layers the same values with and without residual connections.
            shortcut = _projection(in_channels, channels, stride, norm)
            self.shortcut = shortcut if residual else None
        else:
            self.shortcut = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: `[T, N, C, H, W]`.

        Returns:
            `[T, N, channels, H / stride, W / stride]`.
        """
        first = self.neuron1(x)
        out = self.bn1(self.conv1(first))
        out = self.bn2(self.conv2(self.neuron2(out)))
        if not self.residual:
            return out
        return out + (x if self.shortcut is None else self.shortcut(first))


@register("model", "preactivation_resnet")
class PreactivationResNet(nn.Module):
    """Three stages of `n` blocks; depth 6n + 2: 20, 38, 56, 110, 164.

    Stages have 16, 32 and 64 channels times the width, and the second and the third
    begin by halving height and width. With a spiking neuron and with ReLU it is the
    same network but for the neuron: parameters have the same names and, from the same
    seed, the same values. The last layer does not spike. An image goes in as T equal
    frames.

    Args:
        in_channels: Channels of the frames, C.
        classes: Number of logits, K.
        size: Height and width of the frames; any, as the last pooling is global.
        neuron: Makes each neuron layer.
        depth: Weight layers on the main path, projections not counted.
        width: Factor on the channels; 16 times it must be a whole number.
        residual: False removes the shortcuts and nothing else.
        batch_norm: Statistics `"pooled"` over all steps, as in the host's multi-step
            layers, or `"per_step"`.
        direct_coding: Whether frames are images that are equal at all steps: the first
            convolution and norm are then computed once.

    Raises:
        ValueError: If there is no network of that depth or width, or no such batch
            norm.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: tuple[int, int],
        neuron: NeuronFactory,
        depth: int = 20,
        width: float = 1,
        residual: bool = True,
        batch_norm: Literal["pooled", "per_step"] = "pooled",
        direct_coding: bool = False,
    ) -> None:
        super().__init__()
        norm = make_batch_norm(batch_norm)
        self.direct_coding = direct_coding
        if depth < 8 or depth % 6 != 2:
            raise ValueError(
                "Expected `depth` to be 6n + 2 with n >= 1, such as 20, 38, 56 or 110, "
                f"got {depth}."
            )
        channels = _BASE_WIDTH * width
        if channels < 1 or channels != int(channels):
            raise ValueError(
                f"Expected `width` to make {_BASE_WIDTH} * width a positive whole "
                f"number, got {width}."
            )
        blocks, channels = depth // 6, int(channels)

        def stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
            first = PreactivationBlock(
                in_channels, channels, stride, residual, neuron, norm
            )
            others = (
                PreactivationBlock(channels, channels, 1, residual, neuron, norm)
                for _ in range(blocks - 1)
            )
            return nn.Sequential(first, *others)

        self.conv = convolution(in_channels, channels, 3)
        self.bn = norm(channels)
        self.stage1 = stage(channels, channels, 1)
        self.stage2 = stage(channels, 2 * channels, 2)
        self.stage3 = stage(2 * channels, 4 * channels, 2)
        self.neuron = neuron()
        self.pool = layer.AdaptiveAvgPool2d(1)
        self.flatten = layer.Flatten()
        self.classifier = layer.Linear(4 * channels, classes)
        functional.set_step_mode(self, "m")

    def forward(self, frames: Tensor) -> Tensor:
        """Classify each step.

        Args:
            frames: `[T, N, C, H, W]`.

        Returns:
            Logits `[T, N, K]`.
        """
        if self.direct_coding:
            x = computed_once(frames, [self.conv, self.bn])
        else:
            x = self.bn(self.conv(frames))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.classifier(self.flatten(self.pool(self.neuron(x))))


def _projection(in_channels: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    """Make the shortcut of a block that changes the shape."""
    return nn.Sequential(
        OrderedDict(
            # Rounds odd sizes up, as the 3x3 convolution with stride 2 does.
            pool=layer.AvgPool2d(stride, ceil_mode=True),
            conv=convolution(in_channels, channels, 1),
            bn=norm(channels),
        )
    )
