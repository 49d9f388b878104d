import math

import numpy as np
import pytest

from benchmarks.data.pixel_array import (
    LUMINANCE_LEVELS,
    Field,
    PixelArray,
    PixelParameters,
)

VIEW = Field(top=10, left=20, height=5, width=6)
SILENT = PixelParameters(background=0)


def record(luminance, parameters=SILENT, seed=0, recordings=(0,), step=1_000):
    """Show `[samples, n, height, width]`, one sample each `step` microseconds."""
    luminance = np.asarray(luminance)
    times = [index * step for index in range(len(luminance))]
    return PixelArray(seed, VIEW, parameters).record(luminance, times, recordings)


def still(samples, value=1000, n=1):
    return np.full((samples, n, VIEW.height, VIEW.width), value)


def ramp(start, stop, samples=21):
    """One pixel goes geometrically from start to stop, the others stay."""
    light = still(samples, start)
    light[:, 0, 2, 3] = np.round(np.geomspace(start, stop, samples))
    return light


def naive_events(array, light, times, recording):
    """The definition, event by event, of one scene without background."""
    on, off = (plane.tolist() for plane in array.thresholds)
    noise = np.random.PCG64([array.seed, 2, recording]).random_raw(len(on)).tolist()
    found = []
    for pixel, (y, x) in enumerate(np.ndindex(VIEW.height, VIEW.width)):
        log = [math.floor(1024 * math.log2(n) + 1e-9) for n in light[:, 0, y, x]]
        up, down = on[pixel], off[pixel]
        # Any reference from which the first light fires no event.
        reference = log[0] - up + 1 + (noise[pixel] % 2**16) * (up + down - 1) // 2**16
        assert -down < log[0] - reference < up
        last = -math.inf
        for k in range(1, len(log)):
            while not -down < log[k] - reference < up:
                p = int(log[k] > reference)
                reference += up if p else -down
                share = abs(reference - log[k - 1]) / abs(log[k] - log[k - 1])
                t = times[k - 1] + math.floor(share * (times[k] - times[k - 1]) + 1e-9)
                if t - last >= array.parameters.refractory:
                    found.append((t, VIEW.top + y, VIEW.left + x, p))
                    last = t
    return sorted(found)


def as_rows(events):
    return sorted(
        zip(*(events[name].tolist() for name in ("t", "y", "x", "p")), strict=True)
    )


def test_a_still_scene_gives_no_signal_events():
    (events,) = record(still(50))
    assert events["t"].size == 0


def test_a_still_scene_gives_background_events_at_the_rate_asked_for():
    parameters = PixelParameters(background=2_000)
    recordings = record(still(101, n=200), parameters, recordings=range(200))
    count = sum(events["t"].size for events in recordings)
    expected = 200 * VIEW.height * VIEW.width * 2.0 * 0.1
    assert abs(count - expected) < 4 * math.sqrt(expected)
    polarity = np.concatenate([events["p"] for events in recordings])
    assert abs(polarity.mean() - 0.5) < 4 * 0.5 / math.sqrt(count)
    times = np.concatenate([events["t"] for events in recordings])
    assert 45_000 < times.mean() < 55_000


@pytest.mark.parametrize(
    ("start", "stop", "polarity"), [(100, 1600, 1), (1600, 100, 0)]
)
def test_brightening_gives_on_events_and_darkening_off_events(start, stop, polarity):
    (events,) = record(ramp(start, stop))
    octaves = 4 * 1024 / SILENT.threshold
    assert abs(events["t"].size - octaves) <= 2
    assert set(events["p"].tolist()) == {polarity}
    assert set(events["x"].tolist()) == {20 + 3}
    assert set(events["y"].tolist()) == {10 + 2}


def test_the_number_of_events_depends_on_contrast_not_on_light():
    exact = PixelParameters(background=0, mismatch=0)
    (dim,) = record(ramp(50, 400), exact)
    (bright,) = record(ramp(500, 4000), exact)
    assert abs(dim["t"].size - bright["t"].size) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_events_equal_the_definition_event_by_event(seed):
    rng = np.random.default_rng(seed)
    light = rng.integers(1, LUMINANCE_LEVELS, (30, 1, VIEW.height, VIEW.width))
    times = np.cumsum([0, *rng.integers(400, 2_000, len(light) - 1)]).tolist()
    parameters = PixelParameters(threshold=205, background=0, refractory=300)
    array = PixelArray(seed, VIEW, parameters)
    (events,) = array.record(light, times, [9])
    expected = naive_events(array, light, times, 9)
    assert len(expected) > 1_000
    assert as_rows(events) == expected


def test_events_lie_in_the_field_in_order_of_time():
    rng = np.random.default_rng(0)
    light = rng.integers(1, LUMINANCE_LEVELS, (30, 3, VIEW.height, VIEW.width))
    for events in record(light, PixelParameters(), recordings=[4, 5, 6]):
        assert events["t"].size > 100
        assert (np.diff(events["t"].astype(int)) >= 0).all()
        assert events["t"].max() <= 29_000
        assert set(events["x"].tolist()) <= set(range(20, 26))
        assert set(events["y"].tolist()) <= set(range(10, 15))


def test_a_pixel_is_dead_for_the_refractory_time():
    parameters = PixelParameters(background=0, refractory=700)
    rng = np.random.default_rng(0)
    light = rng.integers(1, LUMINANCE_LEVELS, (30, 1, VIEW.height, VIEW.width))
    (events,) = record(light, parameters)
    (all_events,) = record(light, PixelParameters(background=0, refractory=0))
    pixel = events["y"].astype(int) * 1000 + events["x"]
    for one in np.unique(pixel):
        assert np.diff(events["t"][pixel == one].astype(int)).min() >= 700
    assert 0 < events["t"].size < all_events["t"].size


def test_a_recording_does_not_depend_on_the_others_beside_it():
    rng = np.random.default_rng(0)
    light = rng.integers(1, LUMINANCE_LEVELS, (20, 3, VIEW.height, VIEW.width))
    together = record(light, PixelParameters(), recordings=[7, 8, 9])
    (alone,) = record(light[:, 1:2], PixelParameters(), recordings=[8])
    for name in alone:
        np.testing.assert_array_equal(alone[name], together[1][name])


def test_mismatch_is_of_the_size_asked_for_and_belongs_to_the_seed():
    view = Field(0, 0, 64, 64)
    array = PixelArray(3, view, PixelParameters(threshold=4000, mismatch=50))
    assert abs(array.thresholds.mean() - 4000) < 15
    assert abs(array.thresholds.std() - 200) < 10
    same = PixelArray(3, view, PixelParameters(threshold=4000, mismatch=50))
    other = PixelArray(4, view, PixelParameters(threshold=4000, mismatch=50))
    assert (array.thresholds == same.thresholds).all()
    assert (array.thresholds != other.thresholds).mean() > 0.9


def test_cropping_cuts_the_field_out_of_the_sensor():
    frame = np.arange(30 * 40).reshape(1, 30, 40)
    np.testing.assert_array_equal(VIEW.crop(frame), frame[:, 10:15, 20:26])


@pytest.mark.parametrize(
    ("light", "message"),
    [
        (still(3, 0), r"`luminance` in 1\.\.4096, got 0\.\.0"),
        (still(3, 4097), r"`luminance` in 1\.\.4096, got 4097\.\.4097"),
        (still(3, n=2), r"`luminance` of shape \(1, 5, 6\), got \(2, 5, 6\)"),
        (still(1), r"`times` to hold two samples or more"),
    ],
)
def test_light_that_does_not_fit_is_refused(light, message):
    with pytest.raises(ValueError, match=message):
        record(light)


def test_times_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match="`times` to increase, got 10 before 10"):
        PixelArray(0, VIEW).record(still(3), [0, 10, 10], [0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 3}, "`threshold` to be at least 16, got 3"),
        ({"mismatch": 200}, "`mismatch` to be at most 150, got 200"),
        ({"refractory": -1}, "`refractory` to be at least 0, got -1"),
    ],
)
def test_impossible_pixels_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        PixelParameters(**parameters)


def test_the_weakest_threshold_with_the_strongest_mismatch_stays_above_zero():
    parameters = PixelParameters(threshold=16, mismatch=150)
    assert PixelArray(0, Field(0, 0, 256, 256), parameters).thresholds.min() > 0


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"`seed` in 0\.\.2\*\*32 - 1, got -1"):
        PixelArray(-1, VIEW)
