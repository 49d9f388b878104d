"""Windows of the object recordings: cut by time, split by session and stretch."""

import numpy as np
import pytest

from benchmarks import data
from benchmarks.__main__ import main
from benchmarks.data.aedat2 import read_aedat2, write_aedat2
from benchmarks.data.integrate import Binning, integrate
from benchmarks.data.objects import WINDOW_US, object_splits, windows
from benchmarks.data.sets import DVS128_OBJECTS
from benchmarks.data.splits import read_split
from benchmarks.runs.config import CacheConfig

PARTS = ("train", "validation", "test")
NAMES = [f"dvs128_objects{number}" for number in ("", "_1", "_2", "_3", "_4")]


def recorded(seed, seconds):
    """A recording with 2,000 events a second, but for a pause in the fourth tenth."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, seconds * 10**6, seconds * 2000))
    t = np.append(t[(t < 300_000) | (t >= 400_000)], seconds * 10**6) + 77
    n = len(t)
    x, y = rng.integers(0, 128, (2, n))
    return {"t": t, "x": x, "y": y, "p": rng.integers(0, 2, n)}


@pytest.fixture
def root(tmp_path):
    for session in ("session1", "session2"):
        for number, label in enumerate(DVS128_OBJECTS.classes):
            path = tmp_path / "extract" / session / f"{label}.aedat"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_aedat2(path, recorded(number, 2))
    return tmp_path


def test_windows_hold_each_event_once_and_empty_ones_are_left_out(root):
    path = root / "extract" / "session1" / "Caixa.aedat"
    found = dict(windows(path))
    names = [name.as_posix() for name in found]
    assert names[:4] == [f"Caixa/session1_{n:04d}.npz" for n in (0, 1, 2, 4)]
    whole = read_aedat2(path)["t"].astype(np.int64)
    start = whole[0]
    kept = np.concatenate([events["t"] for events in found.values()])
    window = (whole - start) // WINDOW_US
    assert np.array_equal(kept, whole[(window != 3) & (window < 19)])
    assert (window == 3).sum() < 100
    for name, events in found.items():
        number = int(name.stem[-4:])
        assert ((events["t"] - start) // WINDOW_US == number).all()


@pytest.mark.parametrize("seed", range(5))
def test_sides_are_sessions_and_whole_stretches_of_time(seed):
    names = [
        f"{label}/session{session}_{number:04d}.npz"
        for label in DVS128_OBJECTS.classes
        for session in (1, 2)
        for number in range(53)
    ]
    split = list(object_splits(names).values())[seed]
    assert all("session2" in name for name in split.test)
    assert all("session1" in n for n in (*split.train, *split.validation))
    assert sum(len(getattr(split, part)) for part in PARTS) == len(names)
    for label in DVS128_OBJECTS.classes:
        numbers = [int(n[-8:-4]) for n in split.validation if n.startswith(label)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert 10 <= len(numbers) <= 11


def test_every_window_of_session_1_validates_in_one_of_the_five_splits():
    splits = [read_split(name) for name in NAMES]
    validated = [name for split in splits for name in split.validation]
    assert len(validated) == len(set(validated))
    assert set(validated) == {*splits[0].train, *splits[0].validation}
    assert len({split.test for split in splits}) == 1


def test_the_splits_are_those_of_the_real_recordings(real_data):
    files = (real_data / "dvs128_objects").glob("*/*.aedat")
    names = [name.as_posix() for path in files for name, _ in windows(path)]
    assert {n: read_split(n) for n in NAMES} == object_splits(names)


def test_frames_of_any_setting_are_those_of_the_windows(root):
    data.prepare("dvs128_objects", root, time_steps=4)
    assert data.check("dvs128_objects", root) == []
    found = data.load("dvs128_objects", root, 4, CacheConfig("time", 32))
    assert found.frames.shape[1:] == (4, 2, 32, 32)
    split = read_split(root / "dvs128_objects_2.json")
    assert len(split.indices(found.names)["test"]) == 5 * 18
    pieces = dict(windows(root / "extract" / "session2" / "Tesoura.aedat"))
    place = found.names.index("Tesoura/session2_0007.npz")
    events = next(e for n, e in pieces.items() if n.stem == "session2_0007")
    expected = integrate(events, Binning(4, "time", (128, 128), (32, 32)))
    assert np.array_equal(found.frames[place], expected)
    smaller = data.load("dvs128_objects", root, 4, CacheConfig("time", 32, True))
    assert smaller.checksum == found.checksum


def test_an_interrupted_preparation_goes_on_inside_a_recording(root):
    data.prepare("dvs128_objects", root, time_steps=2)
    raw, partial = root / "events_np", root / "events_np.partial"
    raw.rename(partial)
    missing = sorted(partial.rglob("*.npz"))[3:7]
    for path in missing:
        path.unlink()
    before = {path: path.stat().st_mtime_ns for path in partial.rglob("*.npz")}
    data.prepare("dvs128_objects", root, time_steps=2)
    for path, time in before.items():
        assert (raw / path.relative_to(partial)).stat().st_mtime_ns == time
    assert len(list(raw.rglob("*.npz"))) == len(before) + 4


def test_prepare_builds_the_frames_that_are_asked_for(root, capsys):
    words = ["data", "prepare", "dvs128_objects", "--root", str(root)]
    words += ["--time-steps", "3", "--size", "16", "--split-by", "time", "--compressed"]
    assert main(words) == 0
    (made,) = root.glob("*frames")
    assert made.name == "dvs128_objects_T3_time_16x16.cframes"
    assert made.name in capsys.readouterr().out
    words = ["data", "prepare", "event_digits", "--root", str(root), "--size", "16"]
    assert main(words) == 2
    assert "Expected no size with event_digits" in capsys.readouterr().err


def test_a_missing_recording_is_named(root, capsys):
    (root / "extract" / "session2" / "Caneca.aedat").unlink()
    assert main(["data", "check", "dvs128_objects", "--root", str(root)]) == 2
    assert "session2/Caneca.aedat is missing" in capsys.readouterr().out


def test_a_missing_window_is_named_though_others_of_its_recording_are_there(root):
    data.prepare("dvs128_objects", root, time_steps=2)
    lost = root / "events_np" / "Caixa" / "session1_0005.npz"
    lost.unlink()
    problems = data.check("dvs128_objects", root)
    assert f"{lost} is missing: prepare again" in problems
    data.prepare("dvs128_objects", root, time_steps=2)
    assert data.check("dvs128_objects", root) == []


def test_a_set_with_frames_of_one_kind_refuses_others(prepared):
    with pytest.raises(ValueError, match=r"no `data\.cache` with event_digits"):
        data.load("event_digits", prepared, 4, CacheConfig())
