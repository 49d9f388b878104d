"""A simulated DVS pixel array, in integer arithmetic alone.

A pixel emits an event whenever the logarithm of its luminance has moved by its
threshold since its last event (Lichtsteiner et al., IEEE JSSC 43(2), 2008, sec. II).
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.atis import Events

__all__ = ["LUMINANCE_LEVELS", "Field", "PixelArray", "PixelParameters"]

LUMINANCE_LEVELS = 4097
"""Luminances are integers in 1..4096, in units of the weakest light."""

_OCTAVE = 1024
# SeedSequence pads short keys with zeros, so the two kinds of stream need non-zero
# tags of their own to stay apart.
_PIXEL_STREAM, _RECORDING_STREAM = 1, 2


@dataclass(frozen=True)
class Field:
    """The rectangle of the sensor that looks at the scene; only it is read out.

    Attributes:
        top: First row, in pixels.
        left: First column, in pixels.
        height: Rows.
        width: Columns.
    """

    top: int
    left: int
    height: int
    width: int

    def crop(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Cut the field out of frames `[..., H, W]` of the whole sensor.

        Args:
            frames: Array whose last two axes are the sensor's rows and columns.

        Returns:
            A view `[..., height, width]`.
        """
        rows = slice(self.top, self.top + self.height)
        return frames[..., rows, self.left : self.left + self.width]


@dataclass(frozen=True)
class PixelParameters:
    """Physics of the pixels.

    Attributes:
        threshold: Mean contrast threshold, ON and OFF, in 1/1024 octave of luminance.
        mismatch: Standard deviation of the thresholds over pixels, in 1/1000 of the
            mean. ON and OFF thresholds of one pixel deviate independently.
        refractory: Dead time of a pixel after an event, in microseconds. Changes met
            in it move the pixel's reference but are not sent.
        background: Rate of events of a pixel without any change of light, in mHz. A
            pixel sends at most one of them in a recording.
    """

    threshold: int = 410
    mismatch: int = 30
    refractory: int = 500
    background: int = 250

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: A parameter is out of range.
        """
        limits = {"threshold": 16, "mismatch": 0, "refractory": 0, "background": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"Expected `{name}` to be at least {least}, "
                    f"got {getattr(self, name)}."
                )
        if self.mismatch > 150:
            raise ValueError(
                f"Expected `mismatch` to be at most 150, got {self.mismatch}: beyond, "
                "some pixel's threshold would reach zero."
            )


@dataclass(frozen=True)
class PixelArray:
    """A pixel array whose mismatch is fixed by a seed, as that of a real chip is.

    Attributes:
        seed: 0 to 2**32 - 1. It governs the mismatch and the noise of recordings.
        view: Where on the sensor the pixels sit; at most 65,536 of them.
        parameters: Physics of the pixels.
        thresholds: ON and OFF threshold of each pixel, `[2, pixels]`, in 1/1024
            octave.
    """

    seed: int
    view: Field
    parameters: PixelParameters = PixelParameters()
    thresholds: NDArray[np.int32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Draw the thresholds.

        Raises:
            ValueError: The seed or the number of pixels is out of range.
        """
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"Expected `seed` in 0..2**32 - 1, got {self.seed}.")
        pixels = self.view.height * self.view.width
        if not 1 <= pixels <= 2**16:
            raise ValueError(f"Expected `view` of 1 to 65536 pixels, got {pixels}.")
        object.__setattr__(self, "thresholds", self._draw_thresholds(2 * pixels))

    def _draw_thresholds(self, count: int) -> NDArray[np.int32]:
        # The raw stream of PCG64 is guaranteed to stay; Generator.normal is not. The
        # sum of twelve 16-bit numbers is normal enough, and its deviation is 2**16.
        words = np.random.PCG64([self.seed, _PIXEL_STREAM]).random_raw(3 * count)
        parts = words.reshape(count, 3, 1) >> np.array([0, 16, 32, 48], np.uint64)
        normal = (parts & np.uint64(0xFFFF)).astype(np.int64).sum(axis=(1, 2))
        normal -= 6 * 0xFFFF
        mean, mismatch = self.parameters.threshold, self.parameters.mismatch
        thresholds = mean + mean * mismatch * normal // (1000 << 16)
        return thresholds.astype(np.int32).reshape(2, -1)

    def record(
        self,
        luminance: Iterable[NDArray[np.integer]],
        times: Sequence[int],
        recordings: Sequence[int],
    ) -> list[Events]:
        """Look at `n` scenes at once and return what each made the pixels send.

        Between two samples the logarithm of the luminance is taken as linear in time.
        A recording depends on its own scene, the seed and its number alone, not on
        the others.

        Args:
            luminance: One array `[n, height, width]` for each time, values in
                1..4096.
            times: Increasing times of the samples in microseconds, from 0.
            recordings: A number for each of the `n` scenes, that chooses its noise.

        Returns:
            One mapping with arrays `t` (microseconds), `x`, `y` (sensor coordinates)
            and `p` (1 for ON) for each scene, in order of time.

        Raises:
            ValueError: Shapes, times or luminances do not fit.
        """
        if len(times) < 2 or times[0] != 0 or times[-1] >= 2**23:
            raise ValueError(
                "Expected `times` to hold two samples or more, from 0 to less than "
                f"2**23 us, got {len(times)} from {times[:1]} to {times[-1:]}."
            )
        samples = iter(luminance)
        before = self._logarithm(next(samples), len(recordings))
        noise = self._noise(recordings)
        on, off = self.thresholds
        # The history of a pixel is unknown: its reference may lie anywhere from which
        # the first light does not yet fire it.
        slack = (noise & np.uint64(0xFFFF)).astype(np.int64) * (on + off - 1) >> 16
        reference = before - on + 1 + slack.astype(np.int32)
        last = np.full(before.shape, -(2**23), np.int32)
        keys = [self._background(noise, times[-1])]
        steps = zip(times[:-1], times[1:], samples, strict=True)
        for start, stop, sample in steps:
            if stop <= start:
                raise ValueError(
                    f"Expected `times` to increase, got {start} before {stop}."
                )
            now = self._logarithm(sample, len(recordings))
            keys += self._cross(before, now, reference, last, start, stop)
            before = now
        return self._sort(np.concatenate(keys), len(recordings))

    def _logarithm(self, luminance: NDArray[np.integer], n: int) -> NDArray[np.int32]:
        shape = (n, self.view.height, self.view.width)
        if luminance.shape != shape:
            raise ValueError(
                f"Expected `luminance` of shape {shape}, got {luminance.shape}."
            )
        if n and not 1 <= luminance.min() <= luminance.max() < LUMINANCE_LEVELS:
            raise ValueError(
                f"Expected `luminance` in 1..{LUMINANCE_LEVELS - 1}, got "
                f"{luminance.min()}..{luminance.max()}."
            )
        return _logarithms()[luminance].reshape(n, -1)

    def _noise(self, recordings: Sequence[int]) -> NDArray[np.uint64]:
        pixels = self.view.height * self.view.width
        noise = np.empty((len(recordings), pixels), np.uint64)
        for row, number in zip(noise, recordings, strict=True):
            key = [self.seed, _RECORDING_STREAM, number]
            row[:] = np.random.PCG64(key).random_raw(pixels)
        return noise

    def _background(
        self, noise: NDArray[np.uint64], duration: int
    ) -> NDArray[np.int64]:
        chance = self.parameters.background * duration * 2**24 // 10**9
        # Bits 16 to 39 decide whether, bit 40 the polarity, bits 41 to 60 when.
        fires = (noise >> np.uint64(16)) & np.uint64(0xFFFFFF) < chance
        recording, pixel = np.nonzero(fires)
        words = noise[fires]
        polarity = (words >> np.uint64(40)).astype(np.int64) & 1
        fraction = (words >> np.uint64(41)).astype(np.int64) & 0xFFFFF
        return _key(recording, fraction * duration >> 20, pixel, polarity)

    def _cross(
        self,
        before: NDArray[np.int32],
        now: NDArray[np.int32],
        reference: NDArray[np.int32],
        last: NDArray[np.int32],
        start: int,
        stop: int,
    ) -> list[NDArray[np.int64]]:
        """Return the events between two samples; move `reference` and `last`."""
        on, off = self.thresholds
        change = now - reference
        recording, pixel = np.nonzero((change >= on) | (change <= -off))
        keys = []
        while recording.size:
            at = recording, pixel
            origin, target, level = before[at], now[at], reference[at]
            rising = target > level
            level = level + np.where(rising, on[pixel], -off[pixel])
            part = np.abs(level - origin).astype(np.int64) * (stop - start)
            when = start + part // np.abs(target - origin)
            sent = when - last[at] >= self.parameters.refractory
            last[at] = np.where(sent, when, last[at])
            reference[at] = level
            keys.append(_key(recording, when, pixel, rising)[sent])
            again = (target - level >= on[pixel]) | (target - level <= -off[pixel])
            recording, pixel = recording[again], pixel[again]
        return keys

    def _sort(self, keys: NDArray[np.int64], n: int) -> list[Events]:
        keys.sort()
        ends = np.searchsorted(keys, np.arange(1, n + 1, dtype=np.int64) << 40)
        pixel = (keys >> 1) & 0xFFFF
        columns = {
            "t": (keys >> 17) & 0x7FFFFF,
            "x": self.view.left + pixel % self.view.width,
            "y": self.view.top + pixel // self.view.width,
            "p": keys & 1,
        }
        arrays = {name: column.astype(np.uint32) for name, column in columns.items()}
        starts = [0, *ends[:-1]]
        return [
            {name: array[start:end] for name, array in arrays.items()}
            for start, end in zip(starts, ends, strict=True)
        ]


def _key(
    recording: NDArray[np.integer],
    time: NDArray[np.integer],
    pixel: NDArray[np.integer],
    polarity: NDArray[np.integer] | NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return events packed so that sorting orders by recording, then by time."""
    packed = recording.astype(np.int64) << 40 | time.astype(np.int64) << 17
    return packed | pixel.astype(np.int64) << 1 | polarity.astype(np.int64)


@functools.cache
def _logarithms() -> NDArray[np.int32]:
    """Return floor(1024 log2 n), exactly: the bit length of n**1024 less one."""
    values = [(n**_OCTAVE).bit_length() - 1 for n in range(1, LUMINANCE_LEVELS)]
    return np.array([0, *values], dtype=np.int32)
