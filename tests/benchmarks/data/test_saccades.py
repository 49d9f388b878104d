import numpy as np
import pytest

from benchmarks.data.event_digits import FIELD
from benchmarks.data.pixel_array import PixelArray, PixelParameters
from benchmarks.data.saccades import Saccades


def place(time, saccades=None):
    return (saccades or Saccades()).displacement(time)


def test_three_saccades_of_100_ms_go_round_a_triangle():
    saccades = Saccades()
    assert saccades.times[0] == 0
    assert saccades.times[-1] == 300_000
    corners = [place(time) for time in (0, 100_000, 200_000, 300_000)]
    assert corners == [*saccades.corners, saccades.corners[0]]


def test_the_image_moves_fastest_in_the_middle_of_a_saccade():
    slow = place(2_000)[0] - place(0)[0]
    fast = place(51_000)[0] - place(49_000)[0]
    assert fast > 5 * max(slow, 1)


@pytest.mark.parametrize("time", [0, 33_000, 100_000, 177_000, 250_000])
def test_light_equals_bilinear_interpolation_in_floating_point(time):
    saccades = Saccades()
    images = np.random.default_rng(0).integers(0, 17, (3, 8, 8))
    light = saccades.luminance(images, time, 32, 32)
    x, y = place(time)
    padded = np.pad(images.astype(float), ((0, 0), (1, 1), (1, 1)))

    def coordinate(pixel, displacement):
        cells = ((pixel - 15.5) * 64 - displacement) / saccades.cell + 3.5
        return min(max(cells, -1.0), 8.0) + 1

    for row in range(32):
        for column in range(32):
            v, u = coordinate(row, y), coordinate(column, x)
            i, j = min(int(v), 8), min(int(u), 8)
            a, b = v - i, u - j
            value = (1 - a) * (
                (1 - b) * padded[:, i, j] + b * padded[:, i, j + 1]
            ) + a * ((1 - b) * padded[:, i + 1, j] + b * padded[:, i + 1, j + 1])
            expected = saccades.dark + saccades.contrast * value / saccades.white
            assert np.abs(light[:, row, column] - expected).max() <= 1


def test_a_full_image_fills_the_field_and_never_leaves_it():
    saccades = Saccades()
    white = np.full((1, 8, 8), 16)
    seen = np.zeros((32, 32), bool)
    for time in saccades.times:
        large = saccades.luminance(white, time, 64, 64)[0] > saccades.dark
        inner = large[16:48, 16:48]
        assert large.sum() == inner.sum()
        seen |= inner
    assert seen[:, 1:-1].any(axis=0).all()
    assert seen[1:-1].any(axis=1).all()


def test_a_blank_image_gives_background_events_only():
    silent = PixelArray(0, FIELD, PixelParameters(background=0))
    (events,) = Saccades().record(np.zeros((1, 8, 8), int), silent, [0])
    assert events["t"].size == 0
    (events,) = Saccades().record(np.zeros((1, 8, 8), int), PixelArray(0, FIELD), [0])
    assert 0 < events["t"].size < 200


def test_an_image_held_still_gives_background_events_only():
    still = Saccades(corners=((10, 10),) * 3)
    silent = PixelArray(0, FIELD, PixelParameters(background=0))
    (events,) = still.record(np.eye(8, dtype=int)[None] * 16, silent, [0])
    assert events["t"].size == 0


def test_the_leading_edge_of_a_bright_image_is_on_and_the_trailing_edge_off():
    to_the_right = Saccades(corners=((-200, 0), (200, 0)))
    bar = np.zeros((1, 8, 8), int)
    bar[:, :, 3:5] = 16
    silent = PixelArray(0, FIELD, PixelParameters(background=0))
    (events,) = to_the_right.record(bar, silent, [0])
    first = events["t"] < 100_000
    on, off = first & (events["p"] == 1), first & (events["p"] == 0)
    assert events["x"][on].mean() > events["x"][off].mean() + 3
    back_on = ~first & (events["p"] == 1)
    back_off = ~first & (events["p"] == 0)
    assert events["x"][back_on].mean() < events["x"][back_off].mean() - 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dark": 0}, "1 <= `dark` < `bright`"),
        ({"dark": 4096}, "1 <= `dark` < `bright`"),
        ({"sample": 3_000}, "`sample` to divide `saccade`"),
        ({"cell": 175}, "`cell` even"),
        ({"cell": 400}, r"below 2\*\*31"),
    ],
)
def test_impossible_saccades_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Saccades(**parameters)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((8, 8), int), r"`images` \[n, rows, columns\]"),
        (np.zeros((1, 8, 8)), "of integers, got float64"),
        (np.full((1, 8, 8), 17), r"`images` in 0\.\.16, got 17\.\.17"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        Saccades().record(images, PixelArray(0, FIELD), [0])
