"""Residual networks whose blocks end with the neuron: ResNet-18, ResNet-19, SEW-ResNet.

Blocks after He et al. 2016, "Deep Residual Learning", in the spiking form of Zheng et
al. 2021 (the sum before the neuron) or of Fang et al. 2021, arXiv 2102.04159 (SEW: the
sum after it, of spikes).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from benchmarks.models.convolution import Norm, convolution
from benchmarks.models.direct_coding import computed_once
from benchmarks.models.neurons import NeuronFactory
from benchmarks.models.normalization import batch_norm as make_batch_norm
from sj_ext import register

__all__ = ["BasicBlock", "ResNet", "resnet18", "resnet19", "sew_resnet18"]


class BasicBlock(nn.Module):
    """Two convolutions, each with batch norm; the input is added to the result.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the result.
        stride: Of the first convolution.
        neuron: Makes each neuron layer.
        norm: Makes each batch norm.
        connect: `"before"` adds before the last neuron, `"after"` adds spikes after it
            (SEW, ADD).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        neuron: NeuronFactory,
        norm: Norm,
        connect: Literal["before", "after"],
    ) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, channels, 3, stride)
        self.bn1 = norm(channels)
        self.neuron1 = neuron()
        self.conv2 = convolution(channels, channels, 3)
        self.bn2 = norm(channels)
        self.neuron2 = neuron()
        self.connect = connect
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            parts: OrderedDict[str, nn.Module] = OrderedDict(
                conv=convolution(in_channels, channels, 1, stride), bn=norm(channels)
            )
            if connect == "after":
                parts["neuron"] = neuron()
            self.shortcut = nn.Sequential(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: `[T, N, C, H, W]`.

        Returns:
            `[T, N, channels, H / stride, W / stride]`.
        """
        out = self.bn2(self.conv2(self.neuron1(self.bn1(self.conv1(x)))))
        addend = x if self.shortcut is None else self.shortcut(x)
        if self.connect == "after":
            return self.neuron2(out) + addend
        return self.neuron2(out + addend)


@register("model", "resnet")
class ResNet(nn.Module):
    """A stem, stages of basic blocks that halve height and width, and a classifier.

    The last layer does not spike.

    Args:
        in_channels: Channels of the frames, C.
        classes: Number of logits, K.
        size: Height and width of the frames; any, as the last pooling is global.
        neuron: Makes each neuron layer.
        stem: `"7x7"`, with stride 2 and max pooling, as for ImageNet; or `"3x3"`.
        stem_channels: Channels of the stem.
        channels: Of each stage.
        blocks: Of each stage, as many numbers.
        connect: As in `BasicBlock`.
        batch_norm: `"pooled"` over steps or `"per_step"`.
        direct_coding: Whether frames are images that are equal at all steps: the stem's
            convolution and norm are then computed once.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: tuple[int, int],
        neuron: NeuronFactory,
        stem: Literal["7x7", "3x3"] = "7x7",
        stem_channels: int = 64,
        channels: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (2, 2, 2, 2),
        connect: Literal["before", "after"] = "before",
        batch_norm: Literal["pooled", "per_step"] = "pooled",
        direct_coding: bool = False,
    ) -> None:
        super().__init__()
        if stem not in ("7x7", "3x3"):
            raise ValueError(f"Expected `stem` to be 7x7 or 3x3, got {stem!r}.")
        if connect not in ("before", "after"):
            raise ValueError(
                f"Expected `connect` to be before or after, got {connect!r}."
            )
        if len(blocks) != len(channels) or not channels:
            raise ValueError(
                f"Expected as many `blocks` as the {len(channels)} `channels`, at "
                f"least one, got {list(blocks)}."
            )
        norm = make_batch_norm(batch_norm)
        self.direct_coding = direct_coding
        large = stem == "7x7"
        self.conv = convolution(
            in_channels, stem_channels, *((7, 2) if large else (3, 1))
        )
        self.bn = norm(stem_channels)
        self.neuron = neuron()
        self.pool: nn.Module = layer.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages = []
        before = stem_channels
        for number, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            strides = [2 if number else 1, *[1] * (count - 1)]
            inputs = [before, *[width] * (count - 1)]
            stages.append(
                nn.Sequential(
                    *(
                        BasicBlock(one, width, stride, neuron, norm, connect)
                        for one, stride in zip(inputs, strides, strict=True)
                    )
                )
            )
            before = width
        self.stages = nn.Sequential(*stages)
        self.average = layer.AdaptiveAvgPool2d(1)
        self.flatten = layer.Flatten()
        self.classifier = layer.Linear(before, classes)
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
        x = self.stages(self.pool(self.neuron(x)))
        return self.classifier(self.flatten(self.average(x)))


@register("model", "resnet18")
def resnet18(**kwargs: Any) -> ResNet:
    """Build a ResNet-18 with the 7x7 stem; arguments as `ResNet`."""
    return ResNet(**kwargs)


@register("model", "sew_resnet18")
def sew_resnet18(**kwargs: Any) -> ResNet:
    """Build a SEW-ResNet-18 that adds spikes; arguments as `ResNet`."""
    return ResNet(connect="after", **kwargs)


@register("model", "resnet19")
def resnet19(**kwargs: Any) -> ResNet:
    """Build the ResNet-19 of arXiv 2211.14406; arguments as `ResNet`."""
    # One fully connected layer, where others of this name have two.
    shape = {"stem": "3x3", "stem_channels": 128}
    stages = {"channels": (256, 512, 512), "blocks": (3, 3, 2)}
    return ResNet(**{**shape, **stages, **kwargs})
