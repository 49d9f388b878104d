"""A recording becomes one picture that shows what was before the sensor."""

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks.__main__ import main
from benchmarks.data.aedat2 import write_aedat2
from benchmarks.data.atis import read_events
from benchmarks.data.picture import densest, draw, event_picture, read_recording

REAL = {
    "ncaltech101/Caltech101/Faces_easy/image_0001.bin": 67_445,
    "nmnist/Train/0/00002.bin": 5_028,
    "nmnist/sample_nmnist.bin": 4_325,
}
OBJECTS = ("Caixa", "Caneca", "Estilete", "Lapiseira", "Tesoura")


@pytest.fixture
def events():
    """A horizontal bar of ON events above one of OFF events, within a second."""
    x = np.tile(np.arange(20, 60), 10)
    n = len(x)
    return {
        "t": np.arange(n) * 2500,
        "x": x,
        "y": np.where(np.arange(n) % 2, 30, 50),
        "p": np.arange(n) % 2,
    }


def test_on_is_blue_off_is_red_and_nothing_is_white(events):
    picture = event_picture(events, (128, 128)).astype(int)
    red, _, blue = picture.transpose(2, 0, 1)
    assert (blue - red)[30, 21:60:2].min() > 50
    assert (red - blue)[50, 20:60:2].min() > 50
    drawn = (picture < 255).any(-1)
    assert np.argwhere(drawn).min(0).tolist() == [30, 20]
    assert np.argwhere(drawn).max(0).tolist() == [50, 59]
    assert drawn.sum() == 40


def test_the_densest_stretch_is_found(events):
    burst = {key: column[:5] for key, column in events.items()}
    burst["t"] = np.array([300_001, 300_002, 300_003, 300_004, 300_005])
    both = {key: np.concatenate([events[key], burst[key]]) for key in events}
    order = both["t"].argsort(kind="stable")
    both = {key: column[order] for key, column in both.items()}
    found = densest(both, 10)
    assert found["t"].tolist() == [300_000, *burst["t"]]
    assert len(densest(both, 10**9)["t"]) == len(both["t"])


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_are_read_to_the_last_event(real_data, name):
    events = read_events(real_data / name)
    assert len(events["t"]) == REAL[name] == (real_data / name).stat().st_size / 5
    assert (np.diff(events["t"].astype(np.int64)) >= 0).all()
    assert events["t"][-1] < 320_000


@pytest.mark.parametrize(
    "name",
    [*REAL, *(f"dvs128_objects/session{s}/{o}.aedat" for s in (1, 2) for o in OBJECTS)],
)
def test_a_picture_of_a_real_recording_shows_an_object(real_data, name):
    """Two halves of the events show the same, unlike events strewn at random."""
    events, size = read_recording(real_data / name)
    shown = densest(events, 100_000)
    halves = [
        255 - event_picture({k: v[n::2] for k, v in shown.items()}, size).mean(-1)
        for n in (0, 1)
    ]
    strewn = np.random.default_rng(0).permuted(halves[1].ravel())
    alike = np.corrcoef(halves[0].ravel(), halves[1].ravel())[0, 1]
    assert alike > 0.3
    assert alike > 10 * abs(np.corrcoef(halves[0].ravel(), strewn)[0, 1])


def test_the_command_writes_a_png_of_the_sensor(events, tmp_path, capsys):
    write_aedat2(tmp_path / "bars.aedat", events)
    words = ["--output", str(tmp_path / "out" / "bars.png"), "--enlarged", "2"]
    assert main(["data", "draw", str(tmp_path / "bars.aedat"), *words]) == 0
    assert "events of" in capsys.readouterr().out
    picture = imread(tmp_path / "out" / "bars.png")
    assert picture.shape[:2] == (256, 256)
    assert (picture[..., :3] < 1).any(-1).sum() == 4 * 40


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.bin", r"a\.bin.*empty"),
        (b"abc", "b.bin", r"b\.bin"),
        (b"", "c.txt", r"c\.txt"),
    ],
    ids=["empty", "cut", "kind"],
)
def test_what_cannot_be_drawn_is_named(tmp_path, content, name, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / name, tmp_path / "x.png")
    with pytest.raises(ValueError, match="`duration_ms` above 0"):
        draw(tmp_path / name, tmp_path / "x.png", duration_ms=0)
