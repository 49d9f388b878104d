"""Plain convolutional networks, written as a list of channels."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from benchmarks.models.direct_coding import computed_once
from benchmarks.models.neurons import NeuronFactory
from benchmarks.models.normalization import batch_norm as make_batch_norm
from sj_ext import register


@register("model", "vgg")
class VGG(nn.Module):
    """Convolution, batch norm and neuron for each number; average pooling for "A".

    The network of the masked-surrogate paper on event data is
    `channels=[64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A"]` at 48x48:
    VGGSNN, with a fully connected layer of 4608 inputs. The last layer does not spike.

    Args:
        in_channels: Channels of the frames, C.
        classes: Number of logits, K.
        size: Height and width of the frames.
        neuron: Makes each neuron layer.
        channels: Output channels of each 3x3 convolution; "A" halves height and
            width, "G" at the end averages over all pixels.
        batch_norm: Statistics `"pooled"` over all steps, as in the host's multi-step
            layers, or `"per_step"`.
        direct_coding: Whether frames are images that are equal at all steps: what comes
            before the first neuron is then computed once.

    Raises:
        ValueError: If `channels` holds something else, or pools below one pixel; or
            there is no such batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: tuple[int, int],
        neuron: NeuronFactory,
        channels: Sequence[int | str] = (16, "A", 32, "A", 64, "A"),
        batch_norm: Literal["pooled", "per_step"] = "pooled",
        direct_coding: bool = False,
    ) -> None:
        super().__init__()
        norm = make_batch_norm(batch_norm)
        self.direct_coding = direct_coding
        height, width = size
        stages: list[nn.Module] = []
        for place, entry in enumerate(channels, start=1):
            if entry == "G" and place == len(channels):
                stages.append(layer.AdaptiveAvgPool2d(1))
                height = width = 1
            elif entry == "A":
                stages.append(layer.AvgPool2d(2))
                height, width = height // 2, width // 2
            elif type(entry) is int and entry > 0:
                stages.append(
                    nn.Sequential(
                        OrderedDict(
                            conv=layer.Conv2d(
                                in_channels, entry, 3, padding=1, bias=False
                            ),
                            bn=norm(entry),
                            neuron=neuron(),
                        )
                    )
                )
                in_channels = entry
            else:
                raise ValueError(
                    'Expected `channels` to hold positive integers and "A", got '
                    f"{entry!r}."
                )
        if min(height, width) < 1:
            raise ValueError(
                f"Expected `channels` to pool {size[0]}x{size[1]} frames to at least "
                f"one pixel, got {list(channels)}."
            )
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(
            layer.Flatten(), layer.Linear(in_channels * height * width, classes)
        )
        functional.set_step_mode(self, "m")

    def forward(self, frames: Tensor) -> Tensor:
        """Classify each step.

        Args:
            frames: `[T, N, C, H, W]`.

        Returns:
            Logits `[T, N, K]`.
        """
        if not self.direct_coding:
            return self.classifier(self.features(frames))
        # Poolings that come first have no state either.
        first = next(n for n, m in enumerate(self.features) if hasattr(m, "neuron"))
        stage: Any = self.features[first]
        still = [*self.features[:first], stage.conv, stage.bn]
        x = stage.neuron(computed_once(frames, still))
        return self.classifier(self.features[first + 1 :](x))


@register("model", "vggsnn")
def vggsnn(**kwargs: Any) -> VGG:
    """Build the VGGSNN of arXiv 2406.19645; arguments as `VGG`, but `channels`."""
    A = "A"
    channels = [64, 128, A, 256, 256, A, 512, 512, A, 512, 512, A]
    return VGG(channels=channels, **kwargs)


@register("model", "cifarnet")
def cifarnet(**kwargs: Any) -> VGG:
    """Build the CIFARNet of arXiv 2406.19645; arguments as `VGG`, but `channels`."""
    # Widths and the last pooling are the paper's; that height and width are halved
    # where the channels change, and that the last pooling is global, is our reading.
    A = "A"
    return VGG(channels=[256] * 4 + [A, 512, 512, A, 1024, 1024, "G"], **kwargs)
