"""Features that stand for those of layers: correlated, and of several widths."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["real", "spikes", "offset"]
_CPU = torch.device("cpu")
_LATENT = 16
_WIDTHS = (4, 4, 2, 1)
_MEAN = 0.5
_OFFSET = 10.0


@dataclass(frozen=True)
class Setting:
    """The layers of one network on one batch.

    Attributes:
        kind: "real" values, "spikes", or "offset": rectified, plus ten.
        layers: L.
        samples: n.
        width: Largest number of features of a layer, all steps together. Of four
            layers in a row two have a quarter of it, and one half.
        T: Time steps.
        device: Where the features lie.
    """

    kind: Kind = "real"
    layers: int = 40
    samples: int = 256
    width: int = 16384
    T: int = 4
    device: torch.device = _CPU

    @property
    def widths(self) -> list[int]:
        """Features of each layer in one step."""
        widths = [self.width // (part * self.T) for part in _WIDTHS]
        return [max(1, widths[i % len(widths)]) for i in range(self.layers)]

    @property
    def title(self) -> str:
        """Say in words what is compared."""
        wide = {width * self.T for width in self.widths}
        return (
            f"{self.kind}: L = {self.layers}, n = {self.samples}, T = {self.T}, "
            f"D {min(wide)}-{max(wide)}"
        )


class Features:
    """The features of all layers of a setting, in both layouts.

    Args:
        setting: Says which.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @cached_property
    def stepwise(self) -> list[Tensor]:
        """Of each layer float32 [T, n, D / T], as ours takes them."""
        generator = torch.Generator().manual_seed(0)
        T, n = self.setting.T, self.setting.samples
        latent = torch.randn(T, n, _LATENT, generator=generator) + torch.randn(
            n, _LATENT, generator=generator
        )
        features = []
        for width in self.setting.widths:
            # Of the batch's own and of noise, so that no two layers are alike.
            weight = torch.randn(_LATENT, width, generator=generator) / _LATENT**0.5
            x = torch.randn(T, n, width, generator=generator).add_(latent @ weight)
            features.append(_finished(x, self.setting.kind).to(self.setting.device))
        return features

    @cached_property
    def concatenated(self) -> list[Tensor]:
        """Of each layer a copy [n, D], as the others take them."""
        return [x.transpose(0, 1).flatten(1) for x in self.stepwise]

    @cached_property
    def integers(self) -> list[Tensor]:
        """Of each layer int8 [n, D]."""
        return [x.to(torch.int8) for x in self.concatenated]


def _finished(x: Tensor, kind: Kind) -> Tensor:
    if kind == "spikes":
        return (x > 1.5).float()
    if kind == "offset":
        return x.relu_().add_(_OFFSET)
    return x.add_(_MEAN)
