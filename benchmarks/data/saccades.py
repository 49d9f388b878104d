"""Images moved in front of a simulated DVS pixel array along three saccades.

The motion is that of N-MNIST and N-Caltech101 (Orchard et al., Front. Neurosci. 9:437,
2015): along the sides of a triangle, 100 ms a side. All arithmetic is in integers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.atis import Events
from benchmarks.data.pixel_array import LUMINANCE_LEVELS, PixelArray

__all__ = ["Saccades"]


@dataclass(frozen=True)
class Saccades:
    """How images are enlarged, lit, moved and sampled.

    Attributes:
        cell: Width on the sensor of one pixel of an image, in 1/64 sensor pixel.
        corners: Displacements `(x, y)` of the image's centre from the centre of the
            field, in 1/64 sensor pixel, between which it moves in a closed round.
        saccade: Time from one corner to the next, in microseconds.
        sample: Time between two samples of the light, in microseconds.
        white: Value of an image at full light; 0 is darkness.
        dark: Luminance of darkness, in 1..4096.
        bright: Luminance of full light, in 1..4096, above `dark`.
    """

    cell: int = 176
    corners: tuple[tuple[int, int], ...] = ((-224, -192), (0, 192), (224, -192))
    saccade: int = 100_000
    sample: int = 2_000
    white: int = 16
    dark: int = 1024
    bright: int = 4096

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: A parameter is out of range.
        """
        if not 1 <= self.dark < self.bright < LUMINANCE_LEVELS:
            raise ValueError(
                f"Expected 1 <= `dark` < `bright` < {LUMINANCE_LEVELS}, got "
                f"{self.dark} and {self.bright}."
            )
        if self.sample < 1 or self.saccade % self.sample:
            raise ValueError(
                f"Expected `sample` to divide `saccade` ({self.saccade} us), "
                f"got {self.sample} us."
            )
        if self.cell % 2 or self.cell**2 * self.white * self.contrast >= 2**31:
            raise ValueError(
                "Expected `cell` even, and `cell`**2 * `white` * (`bright` - `dark`) "
                f"below 2**31, got {self.cell}, {self.white} and {self.contrast}."
            )

    @property
    def contrast(self) -> int:
        """Luminance of full light less that of darkness."""
        return self.bright - self.dark

    @property
    def times(self) -> range:
        """Times of the samples in microseconds, from 0 to the end of the round."""
        duration = len(self.corners) * self.saccade
        return range(0, duration + 1, self.sample)

    def displacement(self, time: int) -> tuple[int, int]:
        """Give the place of the image's centre at a time.

        The image starts each saccade slowly and brakes at its end (a cubic ease).

        Args:
            time: Microseconds since the start.

        Returns:
            `(x, y)` from the centre of the field, in 1/64 sensor pixel.
        """
        leg, part = divmod(time, self.saccade)
        start = self.corners[leg % len(self.corners)]
        stop = self.corners[(leg + 1) % len(self.corners)]
        eased = 3 * part**2 * self.saccade - 2 * part**3
        x, y = (
            a + (b - a) * eased // self.saccade**3
            for a, b in zip(start, stop, strict=True)
        )
        return x, y

    def luminance(
        self, images: NDArray[np.integer], time: int, height: int, width: int
    ) -> NDArray[np.int32]:
        """Give the light that falls on the pixels at a time, by bilinear interpolation.

        Args:
            images: `[n, rows, columns]`, values in 0..`white`.
            time: Microseconds since the start.
            height: Rows of the field.
            width: Columns of the field.

        Returns:
            `[n, height, width]`, values in `dark`..`bright`.
        """
        x, y = self.displacement(time)
        light = np.pad(images.astype(np.int32), ((0, 0), (2, 2), (2, 2)))
        first, weight = self._cells(images.shape[1], height, y)
        weight = weight[:, None]
        light = light[:, first] * (self.cell - weight) + light[:, first + 1] * weight
        first, weight = self._cells(images.shape[2], width, x)
        light = (
            light[:, :, first] * (self.cell - weight) + light[:, :, first + 1] * weight
        )
        light *= self.contrast
        light //= self.cell**2 * self.white
        light += self.dark
        return light

    def _cells(
        self, cells: int, pixels: int, displacement: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the padded cell left of each pixel's centre and the next's weight."""
        centre = 64 * np.arange(pixels) - 32 * (pixels - 1) - displacement
        place = centre + (cells - 1) * self.cell // 2
        first = np.clip(place // self.cell, -2, cells)
        return first + 2, (place % self.cell).astype(np.int32)

    def record(
        self,
        images: NDArray[np.integer],
        pixels: PixelArray,
        recordings: Sequence[int],
    ) -> list[Events]:
        """Record each image once round.

        Args:
            images: `[n, rows, columns]`, integers in 0..`white`.
            pixels: The array that looks at them.
            recordings: A number for each image, that chooses its noise.

        Returns:
            Events of each image; see `PixelArray.record`.

        Raises:
            ValueError: The images have another rank or values out of range.
        """
        if images.ndim != 3 or not np.issubdtype(images.dtype, np.integer):
            raise ValueError(
                "Expected `images` [n, rows, columns] of integers, got "
                f"{images.dtype} {images.shape}."
            )
        if images.size and not 0 <= images.min() <= images.max() <= self.white:
            raise ValueError(
                f"Expected `images` in 0..{self.white}, got "
                f"{images.min()}..{images.max()}."
            )
        view = pixels.view

        def light() -> Iterator[NDArray[np.int32]]:
            for time in self.times:
                yield self.luminance(images, time, view.height, view.width)

        return pixels.record(light(), self.times, recordings)
