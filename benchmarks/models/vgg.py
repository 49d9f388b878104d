"""Plain convolutional networks, written as a list of channels."""

from collections import OrderedDict
from collections.abc import Sequence

from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from benchmarks.models.neurons import NeuronFactory
from sj_ext import register


@register("model", "vgg")
class VGG(nn.Module):
    """Convolution, batch norm and neuron for each number; average pooling for "A".

    The network of the masked-surrogate paper on event data is
    `channels=[64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512, "A"]` at 48x48:
    VGGSNN, with a fully connected layer of 4608 inputs. Batch statistics are those of
    all steps together, as in the host's multi-step layers. The last layer does not
    spike.

    Args:
        in_channels: Channels of the frames, C.
        classes: Number of logits, K.
        size: Height and width of the frames.
        neuron: Makes each neuron layer.
        channels: Output channels of each 3x3 convolution; "A" halves height and
            width.

    Raises:
        ValueError: If `channels` holds something else, or pools below one pixel.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: tuple[int, int],
        neuron: NeuronFactory,
        channels: Sequence[int | str] = (16, "A", 32, "A", 64, "A"),
    ) -> None:
        super().__init__()
        height, width = size
        stages: list[nn.Module] = []
        for entry in channels:
            if entry == "A":
                stages.append(layer.AvgPool2d(2))
                height, width = height // 2, width // 2
            elif type(entry) is int and entry > 0:
                stages.append(
                    nn.Sequential(
                        OrderedDict(
                            conv=layer.Conv2d(
                                in_channels, entry, 3, padding=1, bias=False
                            ),
                            bn=layer.BatchNorm2d(entry),
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
        return self.classifier(self.features(frames))
