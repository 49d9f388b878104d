"""The cache: equal to the host's frames; what is stale or damaged is built again."""

import pickle

import numpy as np
import pytest
import torch
from spikingjelly.datasets import utils

from benchmarks.data.cache import (
    FrameCache,
    cache_file,
    open_cache,
    recordings,
)
from benchmarks.data.compact import pack, unpack
from benchmarks.data.frames import DamagedDataError
from benchmarks.data.integrate import Binning, integrate

SENSOR = (30, 40)


def events(seed, n=600):
    rng = np.random.default_rng(seed)
    return {
        "t": np.sort(rng.integers(0, 10**6, n)),
        "x": rng.integers(0, SENSOR[1], n),
        "y": rng.integers(0, SENSOR[0], n),
        "p": rng.integers(0, 2, n),
    }


@pytest.fixture
def raw(tmp_path):
    for label in "ab":
        (tmp_path / "raw" / label).mkdir(parents=True)
        for number in range(3):
            np.savez(tmp_path / "raw" / label / f"{number}.npz", **events(number))
    return tmp_path / "raw"


def opened(raw, binning=None, **kwargs):
    binning = binning or Binning(5, "number", SENSOR)
    path = cache_file(raw.parent, "made", binning, kwargs.get("compressed", False))
    found, classes = recordings(raw)
    return open_cache(path, "made", found, classes, binning, **kwargs)


@pytest.mark.parametrize("split_by", ["number", "time"])
@pytest.mark.parametrize("compressed", [False, True])
def test_frames_equal_the_hosts(raw, split_by, compressed):
    cache = opened(raw, Binning(5, split_by, SENSOR), compressed=compressed)
    assert len(cache) == 6
    for index, (frames, label) in enumerate(cache):
        expected = utils.integrate_events_by_fixed_frames_number(
            events(index % 3), split_by, 5, *SENSOR
        )
        assert np.array_equal(frames, expected)
        assert label == index // 3
    batch, labels = cache.__getitems__([4, 1])
    assert torch.equal(batch, torch.stack([cache[4][0], cache[1][0]]))
    assert labels.tolist() == [1, 0]


def test_an_empty_slice_of_time_gives_an_empty_frame():
    t = np.array([0, 1, 2, 900, 1000])
    made = {"t": t} | {key: np.zeros(5, np.int64) for key in "xyp"}
    with pytest.raises(IndexError):
        utils.integrate_events_by_fixed_frames_number(made, "time", 5, *SENSOR)
    found = integrate(made, Binning(5, "time", SENSOR))
    assert found.sum((1, 2, 3)).tolist() == [3, 0, 0, 0, 2]


def test_a_smaller_size_adds_up_the_pixels(raw):
    whole = opened(raw).frames([0])[0]
    small = opened(raw, Binning(5, "number", SENSOR, (15, 20))).frames([0])[0]
    blocks = whole.unflatten(-1, (20, 2)).unflatten(-3, (15, 2))
    assert torch.equal(small, blocks.sum((-1, -3), dtype=torch.int64).to(small.dtype))


def test_many_events_in_one_pixel_are_kept_exactly(raw):
    made = {key: np.zeros(2000, np.int64) for key in "txyp"}
    np.savez(raw / "a" / "0.npz", **made)
    for compressed in (False, True):
        cache = opened(raw, compressed=compressed)
        assert cache.frames([0]).dtype == torch.int16
        assert cache.frames([0])[0, :, 0, 0, 0].tolist() == [400] * 5


def test_a_complete_cache_is_not_built_again_and_a_stale_one_is(raw):
    path = opened(raw).path
    time = path.stat().st_mtime_ns
    opened(raw)
    assert path.stat().st_mtime_ns == time
    np.savez(raw / "a" / "0.npz", **events(9))
    assert opened(raw).frames([0]).sum() == 600
    assert path.stat().st_mtime_ns != time


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("place", [0, 30, 5000, -1])
def test_a_damaged_cache_is_seen_and_built_again(raw, compressed, place):
    cache = opened(raw, compressed=compressed)
    expected, path = cache.frames(range(6)), cache.path
    content = bytearray(path.read_bytes())
    for damaged in (content[:-7], _flipped(content, place)):
        path.write_bytes(damaged)
        with pytest.raises(DamagedDataError, match="made_T5_number_30x40"):
            FrameCache(path)
        found = opened(raw, compressed=compressed).frames(range(6))
        assert torch.equal(found, expected)


def _flipped(content, place):
    changed = bytearray(content)
    changed[place] ^= 1
    return changed


def test_a_failed_build_leaves_the_former_file(raw):
    path = opened(raw).path
    before = path.read_bytes()
    (raw / "b" / "2.npz").write_bytes(b"cut")
    with pytest.raises(DamagedDataError, match=r"2\.npz"):
        opened(raw)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.partial"))


def test_another_process_maps_the_file_itself(raw):
    cache = opened(raw)
    text = pickle.dumps(cache)
    assert len(text) < 1000
    assert torch.equal(pickle.loads(text).frames([3]), cache.frames([3]))
    loader = torch.utils.data.DataLoader(cache, 4, collate_fn=lambda batch: batch)
    frames, labels = next(iter(loader))
    assert frames.shape == (4, 5, 2, *SENSOR)
    assert labels.shape == (4,)


@pytest.mark.parametrize("density", [0.0, 0.001, 0.3])
def test_packed_counts_come_back(density):
    rng = np.random.default_rng(1)
    counts = rng.poisson(density, (4, 2, 50, 60)) * rng.integers(1, 500)
    out = np.empty(counts.shape, np.int16)
    unpack(pack(counts), out)
    assert np.array_equal(out, counts)
