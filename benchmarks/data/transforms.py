"""Augmentation of event frames: whole batches, one draw for all steps of a sample.

Frames are `[T, N, C, H, W]` counts as float, on any device. What is drawn follows from
the generator alone, one on the CPU, so that it is the same on every device (but for
single events of `EventDrop` and `EventMixup`, drawn on the frames' device).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Generator, Tensor
from torch.nn import functional

from benchmarks.data.autoaugment import AutoAugment
from benchmarks.runs.config import DataConfig

__all__ = [
    "PRESETS",
    "Crop",
    "Cutout",
    "EventDrop",
    "EventMixup",
    "Flip",
    "Mixed",
    "OneOf",
    "Resize",
    "Roll",
    "Rotate",
    "Shear",
    "Transform",
    "augmentation",
    "collate",
    "event_mixup",
    "input_transform",
]

Transform: TypeAlias = Callable[[Tensor, Generator], Tensor]
"""`[T, N, C, H, W]` and a generator to frames of the same N."""


@dataclass(frozen=True)
class Resize:
    """Bilinear to `size` (height, width), as the papers bring events to 48 x 48.

    Counts become fractions. As in `torch.nn.functional.interpolate`, pixel centres
    aligned, no smoothing beforehand.
    """

    size: tuple[int, int] = (48, 48)

    def __call__(self, frames: Tensor, generator: Generator | None = None) -> Tensor:
        """Resize `[T, N, C, H, W]`; nothing is drawn."""
        flat = functional.interpolate(
            frames.flatten(0, 1), self.size, mode="bilinear", align_corners=False
        )
        return flat.unflatten(0, frames.shape[:2])


@dataclass(frozen=True)
class Crop:
    """Crop of the old size, anywhere within `padding` empty pixels around."""

    padding: int = 4

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Crop `[T, N, C, H, W]`, every sample elsewhere."""
        return _shifted(frames, *_shifts(frames, self.padding, generator), wrap=False)


@dataclass(frozen=True)
class Roll:
    """Shift by up to `pixels` each way; what leaves comes in on the other side."""

    pixels: int = 5

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Roll `[T, N, C, H, W]`, every sample by a shift of its own."""
        return _shifted(frames, *_shifts(frames, self.pixels, generator), wrap=True)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Flip some samples of `[T, N, C, H, W]`."""
        chosen = torch.rand(frames.shape[1], generator=generator) < self.p
        return torch.where(_each(chosen, frames), frames.flip(-1), frames)


@dataclass(frozen=True)
class Rotate:
    """Turn about the middle by an angle uniform in +-`degrees`, to nearest pixels."""

    degrees: float = 15.0

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Rotate `[T, N, C, H, W]`, every sample by an angle of its own."""
        angle = _symmetric(frames.shape[1], generator) * math.radians(self.degrees)
        cos, sin = angle.cos(), angle.sin()
        return _mapped(frames, (cos, -sin, sin, cos))


@dataclass(frozen=True)
class Shear:
    """Shift rows sideways in proportion to their height, by up to `degrees`."""

    degrees: float = 15.0

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Shear `[T, N, C, H, W]`, every sample by an angle of its own."""
        angle = _symmetric(frames.shape[1], generator) * math.radians(self.degrees)
        one, zero = torch.ones_like(angle), torch.zeros_like(angle)
        return _mapped(frames, (one, angle.tan(), zero, one))


@dataclass(frozen=True)
class Cutout:
    """Empty a square of `length` pixels with its middle anywhere (DeVries, Taylor)."""

    length: int = 16

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Empty one square in each sample of `[T, N, C, H, W]`, at all steps."""
        n, (height, width) = frames.shape[1], frames.shape[-2:]
        y = torch.randint(height, (n, 1, 1), generator=generator)
        x = torch.randint(width, (n, 1, 1), generator=generator)
        inside = _within(torch.arange(height)[:, None], y, self.length)
        inside = inside & _within(torch.arange(width), x, self.length)
        return frames.masked_fill(inside[:, None].to(frames.device), 0)


@dataclass(frozen=True)
class EventDrop:
    """Drop events: at random, in a stretch of time, in a box, or none (EventDrop 2021).

    Each sample gets one of the four with equal probability. Of single events a share
    uniform in [0, `share`] goes, so counts stay whole; a stretch or the sides of a box
    take up to `share` of all steps, or of height and width.
    """

    share: float = 0.5

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Drop events of `[T, N, C, H, W]` counts."""
        steps, n, _, height, width = frames.shape
        kind = torch.randint(4, (n,), generator=generator)
        amount = torch.rand(n, generator=generator) * self.share
        place = torch.rand(3, n, generator=generator)
        kept = torch.where(kind == 1, 1 - amount, torch.ones(n))
        found = _thinned(frames, _each(kept, frames), generator)

        def stretch(size: int, axis: int) -> Tensor:
            length = (amount * size).round()
            begin = (place[axis] * (size - length + 1)).floor()
            at = torch.arange(size)
            return (at >= begin[:, None]) & (at < (begin + length)[:, None])

        time = (stretch(steps, 0) & (kind == 2)[:, None]).T[:, :, None, None, None]
        rows, columns = stretch(height, 1), stretch(width, 2)
        box = rows[:, :, None] & columns[:, None, :] & (kind == 3)[:, None, None]
        gone = time | box[None, :, None]
        return found.masked_fill(gone.to(frames.device), 0)


@dataclass(frozen=True)
class OneOf:
    """Apply one of several transforms to each sample, each equally likely."""

    choices: Sequence[Transform]

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Transform `[T, N, C, H, W]`; no choice may change the size."""
        choice = torch.randint(
            len(self.choices), (frames.shape[1],), generator=generator
        )
        found = frames.clone()
        for number, transform in enumerate(self.choices):
            chosen = torch.nonzero(choice == number).flatten().to(frames.device)
            if len(chosen):
                found[:, chosen] = transform(frames[:, chosen], generator)
        return found


class Mixed(NamedTuple):
    """What `EventMixup` gives.

    Attributes:
        frames: `[T, N, C, H, W]` counts.
        partner: `[N]`, with which sample of the batch each was mixed.
        share: `[N]`, weight of a sample's own label; 1 - share is the partner's.
    """

    frames: Tensor
    partner: Tensor
    share: Tensor

    def target(self, labels: Tensor, classes: int) -> Tensor:
        """Give both labels of each sample by their shares.

        Args:
            labels: `[N]`, class indices of the samples before they were mixed.
            classes: Number of classes, K.

        Returns:
            `[N, K]`, where the labels lie; rows add up to 1.
        """
        share = self.share.to(labels.device)[:, None]
        own = functional.one_hot(labels, classes).to(share.dtype)
        return share * own + (1 - share) * own[self.partner.to(labels.device)]


@dataclass(frozen=True)
class EventMixup:
    """Keep some events of a sample and the complementary share of another's.

    Mixup (Zhang et al. 2018) of events rather than of values: counts stay whole, and
    the number of events that of one recording. The probability is
    Beta(`alpha`, `alpha`).
    """

    alpha: float = 0.5

    def __call__(self, frames: Tensor, generator: Generator) -> Mixed:
        """Mix a batch `[T, N, C, H, W]` of counts with itself in another order."""
        n = frames.shape[1]
        partner = torch.randperm(n, generator=generator)
        gamma = torch._standard_gamma(
            torch.full((2, n), self.alpha), generator=generator
        )
        share = gamma[0] / gamma.sum(0).clamp_min(torch.finfo(gamma.dtype).tiny)
        partner, share = partner.to(frames.device), share.to(frames.device)
        weight = share[:, None, None, None]
        own = _thinned(frames, weight, generator)
        other = _thinned(frames[:, partner], 1 - weight, generator)
        return Mixed(own + other, partner, share)


PRESETS: dict[str, tuple[Transform, ...]] = {
    # The recipe of the readout TWO: crop with padding 4, flip, rotation by 15 degrees.
    "two": (Crop(4), Flip(), Rotate(15)),
    # As released with TET (Deng et al. 2022), arXiv 2202.11946: flip with p = 0.5, then
    # roll by -5 to 5 pixels along each axis.
    "tet": (Flip(0.5), Roll(5)),
    # As released with NDA (Y. Li et al. 2022), arXiv 2203.06145, for CIFAR10-DVS: one
    # of roll, rotation and horizontal shear, each by up to so much. That code holds
    # Cutout and CutMix too, but applies neither.
    "nda": (OneOf((Roll(5), Rotate(30), Shear(30))),),
    # The same for N-Caltech101.
    "nda_n_caltech101": (OneOf((Roll(3), Rotate(15), Shear(15))),),
    "eventdrop": (EventDrop(0.5),),
    # Images of 32 x 32: crop and flip; with Cutout; and with the AutoAugment of many
    # recipes between them.
    "cifar_plain": (Crop(4), Flip()),
    "cifar": (Crop(4), Flip(), Cutout(16)),
    "cifar_autoaugment": (Crop(4), Flip(), AutoAugment(), Cutout(16)),
}
"""Augmentations by the paper that they follow; sizes are meant for 48 x 48 frames."""


def augmentation(name: str) -> Transform:
    """Find a preset.

    Args:
        name: One of `PRESETS`.

    Returns:
        All its transforms, one after the other.

    Raises:
        ValueError: There is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(
            f"Expected the name of an augmentation, one of {', '.join(PRESETS)}, got "
            f"{name!r}."
        )

    def apply(frames: Tensor, generator: Generator) -> Tensor:
        for transform in PRESETS[name]:
            frames = transform(frames, generator)
        return frames

    return apply


def input_transform(config: DataConfig, training: bool) -> Transform | None:
    """Put together what a run does with its frames.

    Counts are whole until they are resized, so events are dropped before; what moves
    pixels comes after, at the size that its paper has.

    Args:
        config: Of the run.
        training: Whether for the training part, which alone is augmented.

    Returns:
        The transform; None where frames stay as they are.
    """
    steps: list[Transform] = []
    if config.resize is not None:
        steps.append(Resize((config.resize, config.resize)))
    if training and config.augment is not None:
        place = 0 if config.augment == "eventdrop" else len(steps)
        steps.insert(place, augmentation(config.augment))
    if not steps:
        return None

    def apply(frames: Tensor, generator: Generator) -> Tensor:
        for step in steps:
            frames = step(frames, generator)
        return frames

    return apply


def event_mixup(config: DataConfig) -> EventMixup | None:
    """Make what mixes the training batches of a run.

    Args:
        config: Of the run.

    Returns:
        The mixing; None where samples stay by themselves.
    """
    return None if config.mixup is None else EventMixup(config.mixup)


def collate(samples: Sequence[tuple[object, int]]) -> tuple[Tensor, Tensor]:
    """Bring the host's samples to the time axis first.

    Args:
        samples: Frames `[T, ...]`, numpy or torch, each with its label.

    Returns:
        Frames `[T, N, ...]`, float32, and labels `[N]`.

    Raises:
        ValueError: Samples of different shapes.
    """
    frames = [torch.as_tensor(frame) for frame, _ in samples]
    shapes = {tuple(frame.shape) for frame in frames}
    if len(shapes) != 1:
        raise ValueError(f"Expected samples of one shape, got {sorted(shapes)}.")
    labels = torch.tensor([int(label) for _, label in samples])
    return torch.stack(frames, 1).float(), labels


def _each(values: Tensor, frames: Tensor) -> Tensor:
    """Shape `[N]` so that it broadcasts over `[T, N, C, H, W]`."""
    return values.to(frames.device)[:, None, None, None]


def _symmetric(n: int, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator) * 2 - 1


def _shifts(frames: Tensor, most: int, generator: Generator) -> tuple[Tensor, Tensor]:
    drawn = torch.randint(-most, most + 1, (2, frames.shape[1]), generator=generator)
    return drawn[0].to(frames.device), drawn[1].to(frames.device)


def _shifted(frames: Tensor, dy: Tensor, dx: Tensor, wrap: bool) -> Tensor:
    """Take pixel (y - dy, x - dx) to (y, x), by two gathers for the whole batch."""
    for axis, shift in ((-2, dy), (-1, dx)):
        size = frames.shape[axis]
        source = torch.arange(size, device=frames.device) - shift[:, None]
        lines = source % size
        index = (
            lines[None, :, None, :, None] if axis == -2 else lines[None, :, None, None]
        )
        moved = frames.gather(axis, index.expand(frames.shape))
        if not wrap:
            outside = (source < 0) | (source >= size)
            shape = (
                outside[None, :, None, :, None]
                if axis == -2
                else outside[None, :, None, None]
            )
            moved = moved.masked_fill(shape, 0)
        frames = moved
    return frames


def _mapped(frames: Tensor, matrix: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Read each pixel from where the matrix (xx, xy, yx, yy) takes it, nearest."""
    steps, n, channels, height, width = frames.shape
    y = torch.arange(height) - (height - 1) / 2
    x = torch.arange(width) - (width - 1) / 2
    xx, xy, yx, yy = (entry[:, None, None] for entry in matrix)
    from_x = (xx * x + xy * y[:, None] + (width - 1) / 2).round().long()
    from_y = (yx * x + yy * y[:, None] + (height - 1) / 2).round().long()
    outside = (from_x < 0) | (from_x >= width) | (from_y < 0) | (from_y >= height)
    place = (from_y.clamp(0, height - 1) * width + from_x.clamp(0, width - 1)).flatten(
        1
    )
    index = place.to(frames.device)[None, :, None].expand(steps, n, channels, -1)
    found = frames.flatten(-2).gather(-1, index).unflatten(-1, (height, width))
    return found.masked_fill(outside[None, :, None].to(frames.device), 0)


def _within(at: Tensor, middle: Tensor, length: int) -> Tensor:
    begin = middle - length // 2
    return (at >= begin) & (at < begin + length)


def _thinned(frames: Tensor, kept: Tensor, generator: Generator) -> Tensor:
    """Keep each event of whole counts with probability `kept`."""
    seed = int(torch.randint(2**62, (), generator=generator))
    own = torch.Generator(frames.device).manual_seed(seed)
    return torch.binomial(frames, kept.clamp(0, 1).expand_as(frames), generator=own)
