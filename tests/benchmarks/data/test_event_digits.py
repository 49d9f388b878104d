import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.datasets.n_caltech101 import NCaltech101

from benchmarks import data
from benchmarks.__main__ import main
from benchmarks.data import DamagedDataError, digit_folder, event_digits
from benchmarks.data.atis import encode_events, read_events
from benchmarks.data.splits import read_split

REPOSITORY = Path(__file__).parents[3]
PER_CLASS = 2
TIME_STEPS = 4
FRAMES = f"frames_number_{TIME_STEPS}_split_by_number"
CACHE = f"event_digits_T{TIME_STEPS}.npz"


def prepare(root, **options):
    options = {"per_class": PER_CLASS, "time_steps": TIME_STEPS} | options
    return event_digits.prepare(root, **options)


def stages(root, **options):
    """The stages that a preparation goes through."""
    seen = []
    prepare(root, progress=lambda stage, *_: seen.append(stage), **options)
    return list(dict.fromkeys(seen))


ALL_STAGES = ["simulate events", "convert events", "build frames", "read frames"]


@pytest.fixture
def copy(prepared, tmp_path) -> Path:
    """A complete folder that a test may change."""
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


@pytest.fixture(scope="module")
def simulated():
    return dict(event_digits.simulate(per_class=PER_CLASS))


def naive_frames(events, steps):
    """Count event by event into `[T, 2, 32, 32]`, the rest going to the last frame."""
    frames = np.zeros((steps, 2, 32, 32), int)
    size = len(events["t"]) // steps
    for k in range(len(events["t"])):
        step = min(k // size, steps - 1)
        x, y = int(events["x"][k]) - 104, int(events["y"][k]) - 74
        frames[step, int(events["p"][k]), y, x] += 1
    return frames


def test_the_simulation_gives_the_same_bytes_everywhere():
    files = {name: encode_events(e) for name, e in event_digits.simulate()}
    assert len(files) == 1797
    assert event_digits.checksum(files) == event_digits.EVENTS_SHA256
    counts = [len(content) // 5 for content in files.values()]
    assert min(counts) > 1_500
    assert max(counts) < 4_500


def test_another_seed_gives_other_events(simulated):
    other = dict(event_digits.simulate(seed=1, per_class=PER_CLASS))
    assert other.keys() == simulated.keys()
    for name in simulated:
        assert encode_events(other[name]) != encode_events(simulated[name])


def test_a_recording_is_the_same_in_a_reduced_set(simulated):
    smaller = dict(event_digits.simulate(per_class=1))
    assert len(smaller) == 10
    for name, events in smaller.items():
        assert encode_events(events) == encode_events(simulated[name])


def test_events_lie_in_the_field_and_within_300_ms(simulated):
    for events in simulated.values():
        assert events["x"].min() >= 104
        assert events["x"].max() < 136
        assert events["y"].min() >= 74
        assert events["y"].max() < 106
        assert (np.diff(events["t"].astype(int)) >= 0).all()
        assert events["t"].max() <= 300_000


def test_the_files_are_in_the_layout_of_ncaltech101(prepared, simulated):
    folder = prepared / "extract" / "Caltech101"
    files = sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*"))
    expected = [f"{d}/image_{k:04d}.bin" for d in range(10) for k in (1, 2)]
    assert files == expected == sorted(simulated)


def test_the_host_reads_exactly_the_events_written(prepared, simulated):
    dataset = NCaltech101(str(prepared), data_type="event")
    assert len(dataset) == len(simulated)
    for (path, _), (events, label) in zip(dataset.samples, dataset, strict=True):
        name = f"{Path(path).parent.name}/{Path(path).stem}.bin"
        assert int(name[0]) == label
        written = read_events(prepared / "extract" / "Caltech101" / name)
        for key in "txyp":
            np.testing.assert_array_equal(events[key], simulated[name][key])
            np.testing.assert_array_equal(written[key], simulated[name][key])


def test_frames_equal_events_counted_one_by_one(prepared, simulated):
    frames = data.load("event_digits", prepared, TIME_STEPS)
    assert frames.frames.shape == (20, TIME_STEPS, 2, 32, 32)
    assert frames.names == tuple(sorted(simulated))
    assert frames.classes == tuple("0123456789")
    for k, name in enumerate(frames.names):
        assert frames.labels[k] == int(name[0])
        expected = naive_frames(simulated[name], TIME_STEPS)
        np.testing.assert_array_equal(frames.frames[k].numpy(), expected)
        assert frames.frames[k].sum() == len(simulated[name]["t"])


def test_the_folders_of_the_host_stay(prepared):
    assert len(list((prepared / "events_np").glob("*/*.npz"))) == 20
    assert len(list((prepared / FRAMES).glob("*/*.npz"))) == 20
    assert not list(prepared.rglob("*.building"))
    assert not list(prepared.rglob("*.partial"))


def test_a_prepared_folder_is_recognised(copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.[bn][ip][nz]")}
    assert len(before) == 61
    assert stages(copy) == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_progress_counts_every_stage_to_its_end(tmp_path):
    calls = []
    prepare(tmp_path / "new", progress=lambda *call: calls.append(call))
    assert list(dict.fromkeys(stage for stage, *_ in calls)) == ALL_STAGES
    for stage in ALL_STAGES:
        done = [call[1] for call in calls if call[0] == stage]
        assert done == sorted(done)
        assert done[0] < done[-1] == 20
    assert {total for *_, total in calls} == {20}


def test_other_time_steps_stand_beside_in_the_same_folder(copy):
    assert stages(copy, time_steps=3) == ALL_STAGES[1:]
    three, four = (data.load("event_digits", copy, steps) for steps in (3, 4))
    assert torch.equal(three.frames.sum(1), four.frames.sum(1))
    assert (copy / FRAMES).is_dir()


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def test_a_damaged_cache_is_refused_then_built_again(copy, caplog):
    expected = data.load("event_digits", copy, TIME_STEPS).checksum
    damage(copy / CACHE)
    with pytest.raises(DamagedDataError, match=rf"{CACHE} is damaged.*prepare event_"):
        data.load("event_digits", copy, TIME_STEPS)
    with caplog.at_level(logging.WARNING):
        assert stages(copy) == ALL_STAGES[1:]
    assert f"{CACHE} is damaged" in caplog.text
    assert data.load("event_digits", copy, TIME_STEPS).checksum == expected


def test_a_damaged_event_file_is_written_again(copy, prepared, caplog):
    damaged = copy / "extract/Caltech101/3/image_0002.bin"
    damage(damaged)
    with caplog.at_level(logging.WARNING):
        assert stages(copy) == ALL_STAGES[:1]
    assert "incomplete or altered" in caplog.text
    original = prepared / "extract/Caltech101/3/image_0002.bin"
    assert damaged.read_bytes() == original.read_bytes()


def words_of(action, root, *more):
    return ["data", action, "event_digits", "--root", str(root), *map(str, more)]


def test_check_takes_the_time_steps_that_are_there_or_those_asked_for(copy, capsys):
    assert data.check("event_digits", copy) == []
    assert main(words_of("check", copy)) == 0
    assert main(words_of("check", copy, "--time-steps", TIME_STEPS)) == 0
    assert main(words_of("status", copy, "--time-steps", TIME_STEPS)) == 0
    assert "complete" in capsys.readouterr().out
    assert main(words_of("check", copy, "--time-steps", 7)) == 2
    assert "--time-steps 7" in capsys.readouterr().out
    assert main(words_of("status", copy, "--time-steps", 7)) == 0
    assert "complete" not in capsys.readouterr().out


def test_check_names_each_file_that_was_altered_or_lost(copy):
    folder = copy / "extract" / "Caltech101" / "3"
    altered, lost = sorted(folder.iterdir())
    damage(altered)
    lost.unlink()
    problems = data.check("event_digits", copy)
    assert len(problems) == 2
    assert problems[0].startswith(f"{altered} was altered")
    assert problems[1] == f"{lost} is missing"


def test_check_reads_converted_events_and_all_frames(copy):
    prepare(copy, time_steps=3)
    converted = next((copy / "events_np" / "5").iterdir())
    damage(converted)
    damage(copy / CACHE)
    problems = data.check("event_digits", copy)
    assert len(problems) == 2
    assert str(converted) in problems[0]
    assert str(copy / CACHE) in problems[1]
    # Of three steps alone, the frames are whole.
    assert len(data.check("event_digits", copy, time_steps=3)) == 1


def test_check_sees_frames_of_other_events(copy, tmp_path):
    other = prepare(tmp_path / "other", seed=1)
    shutil.copy(other, copy / CACHE)
    (problem,) = data.check("event_digits", copy)
    assert problem == f"{copy / CACHE} is of other events"


def test_a_lost_folder_of_event_files_is_one_problem(copy):
    shutil.rmtree(copy / "extract")
    (problem,) = data.check("event_digits", copy)
    assert problem.startswith(f"{copy / 'extract'} is missing")


WRONG_TYPE = '{"name": "event_digits", "format": 1, "seed": 0, "per_class": "x"}'


@pytest.mark.parametrize("content", ["", "[1]", '{"seed": "x"}', WRONG_TYPE])
def test_check_names_a_damaged_record(copy, content):
    (copy / "event_digits.json").write_text(content)
    (problem,) = data.check("event_digits", copy)
    assert str(copy / "event_digits.json") in problem


@pytest.mark.parametrize("action", ["status", "check"])
def test_options_of_a_preparation_are_refused_elsewhere(prepared, capsys, action):
    assert main(words_of(action, prepared, "--per-class", 2)) == 2
    assert "Expected --per-class with prepare only" in capsys.readouterr().err


def test_a_lost_event_file_is_written_again(copy):
    lost = copy / "extract/Caltech101/3/image_0002.bin"
    lost.unlink()
    assert stages(copy) == ALL_STAGES[:1]
    assert lost.exists()


def test_damaged_folders_of_the_host_are_built_again_with_the_cache(copy):
    expected = data.load("event_digits", copy, TIME_STEPS).checksum
    (copy / CACHE).unlink()
    shutil.rmtree(copy / "events_np" / "3")
    (copy / f"{FRAMES}.building").touch()
    damage(copy / FRAMES / "4" / "image_0001.npz")
    prepare(copy)
    assert data.load("event_digits", copy, TIME_STEPS).checksum == expected


def test_a_cache_of_other_events_is_refused_then_built_again(
    copy, tmp_path, monkeypatch
):
    expected = data.load("event_digits", copy, TIME_STEPS).checksum
    prepare(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / CACHE, copy / CACHE)
    assert stages(copy) == ALL_STAGES[1:]
    assert data.load("event_digits", copy, TIME_STEPS).checksum == expected
    monkeypatch.setattr(digit_folder, "FORMAT", 2)
    with pytest.raises(DamagedDataError, match="expected format 2, got 1"):
        data.load("event_digits", copy, TIME_STEPS)


def test_events_that_differ_from_the_known_ones_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(digit_folder, "EVENTS_SHA256", "0" * 64)
    few = dict(event_digits.simulate(per_class=1))
    monkeypatch.setattr(event_digits, "simulate", lambda *_: iter(few.items()))
    with pytest.raises(RuntimeError, match=r"checksum 0{64}, got [0-9a-f]{64}"):
        event_digits.prepare(tmp_path)
    assert not (tmp_path / "extract").exists()
    with pytest.raises(FileNotFoundError):
        event_digits.load(tmp_path)


def run_child(root, progress, wait=True):
    script = f"""
        import os, signal, time
        from benchmarks.data import event_digits

        {textwrap.indent(textwrap.dedent(progress), " " * 8).strip()}

        event_digits.prepare(
            {str(root)!r}, per_class={PER_CLASS}, time_steps={TIME_STEPS},
            progress=progress,
        )
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    child = subprocess.Popen(command, cwd=REPOSITORY)
    if wait:
        child.wait()
    return child


# The last stage has all that comes before it.
@pytest.mark.parametrize(
    "stage",
    [
        *(pytest.param(stage, marks=pytest.mark.full) for stage in ALL_STAGES[:-1]),
        ALL_STAGES[-1],
    ],
)
def test_a_killed_preparation_ends_right_on_the_second_call(tmp_path, prepared, stage):
    root = tmp_path / "root"
    done = 20 if stage == "read frames" else 1
    child = run_child(
        root,
        f"""
        def progress(stage, done, total):
            if stage == {stage!r} and done >= {done}:
                os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert child.returncode == -signal.SIGKILL
    with pytest.raises(FileNotFoundError, match="are missing"):
        data.load("event_digits", root, TIME_STEPS)
    prepare(root)
    expected = data.load("event_digits", prepared, TIME_STEPS).checksum
    assert data.load("event_digits", root, TIME_STEPS).checksum == expected
    assert not list(root.rglob("*.building"))
    assert not list(root.rglob("*.partial"))
    assert stages(root) == []


def test_a_preparation_killed_while_writing_the_cache_ends_right(tmp_path, prepared):
    root = tmp_path / "root"
    child = run_child(
        root,
        """
        import numpy as np

        def half(file, **arrays):
            file.write(bytes(1000))
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        def progress(stage, done, total):
            if stage == "read frames" and done == total:
                np.savez_compressed = half
        """,
    )
    assert child.returncode == -signal.SIGKILL
    assert list(root.glob(".event_digits*.partial"))
    assert not (root / CACHE).exists()
    prepare(root)
    expected = data.load("event_digits", prepared, TIME_STEPS).checksum
    assert data.load("event_digits", root, TIME_STEPS).checksum == expected
    assert not list(root.rglob("*.partial"))


def test_a_second_process_waits_for_the_first(tmp_path, prepared):
    root = tmp_path / "root"
    flag = tmp_path / "begun"
    child = run_child(
        root,
        f"""
        def progress(stage, done, total):
            if done == 1:
                open({str(flag)!r}, "w").close()
                time.sleep(0.3)
        """,
        wait=False,
    )
    deadline = time.monotonic() + 60
    while not flag.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stages(root) == ["wait for another process"]
    assert child.wait() == 0
    expected = data.load("event_digits", prepared, TIME_STEPS).checksum
    assert data.load("event_digits", root, TIME_STEPS).checksum == expected


def test_an_error_in_progress_leaves_nothing_that_passes_for_complete(tmp_path):
    def fail(stage, done, total):
        if stage == "build frames":
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        prepare(tmp_path, progress=fail)
    with pytest.raises(FileNotFoundError):
        event_digits.load(tmp_path, TIME_STEPS)
    prepare(tmp_path)
    assert len(event_digits.load(tmp_path, TIME_STEPS)) == 20


def test_missing_data_are_reported_with_place_and_command(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        data.load("event_digits", tmp_path / "nowhere")
    message = str(caught.value)
    assert "event_digits_T10.npz" in message
    command = f"python -m benchmarks data prepare event_digits --root {tmp_path}/nowhe"
    assert command in message


def test_missing_time_steps_are_reported_with_those_found(prepared):
    with pytest.raises(FileNotFoundError, match=rf"`time_steps`=5 .*found {CACHE}"):
        data.load("event_digits", prepared, time_steps=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_steps": 0}, "`time_steps` of at least 1, got 0"),
        ({"per_class": 0}, "`per_class` of at least 1, got 0"),
        ({"seed": -1}, r"`seed` in 0\.\.2\*\*32 - 1, got -1"),
        ({"seed": 2**32}, r"`seed` in 0\.\.2\*\*32 - 1, got 4294967296"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "prepared with seed 1, got .* with 0"),
        ({"per_class": None}, "prepared with per_class None, got .* with 2"),
    ],
)
def test_a_folder_of_other_settings_is_refused(prepared, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(prepared, **options)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    foreign = tmp_path / "extract" / "Caltech101" / "Faces" / "image_0001.bin"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"12345")
    with pytest.raises(FileExistsError, match="with extract in it"):
        prepare(tmp_path)
    assert foreign.read_bytes() == b"12345"
    assert [path.name for path in tmp_path.iterdir()] == ["extract"]


@pytest.mark.parametrize("place", ["extract/notes.txt", "extract/Mine/1.bin"])
def test_a_strange_file_beside_the_event_files_is_named_and_left(copy, place):
    strange = copy / place
    strange.parent.mkdir(exist_ok=True)
    strange.write_bytes(b"12345")
    shutil.rmtree(copy / "extract" / "Caltech101" / "3")
    with pytest.raises(FileExistsError, match=strange.name):
        event_digits.prepare(copy, per_class=PER_CLASS, time_steps=TIME_STEPS)
    assert strange.read_bytes() == b"12345"


@pytest.mark.parametrize("folder", ["events_np", "frames_number_3_split_by_number"])
def test_files_of_others_where_the_loader_works_are_set_aside(copy, folder):
    mine = copy / folder / "3" / "mine.npz"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"12345")
    event_digits.prepare(copy, per_class=PER_CLASS, time_steps=3)
    assert len(event_digits.load(copy, 3)) == 10 * PER_CLASS
    kept = copy / "set_aside" / f"{folder}.0" / "3" / "mine.npz"
    assert kept.read_bytes() == b"12345"


def test_a_strange_file_among_the_event_files_is_named_and_left(copy):
    strange = copy / "extract" / "Caltech101" / "3" / "mine.bin"
    strange.write_bytes(b"12345")
    with pytest.raises(FileExistsError, match=r"got Caltech101/3/mine\.bin"):
        prepare(copy)
    assert strange.exists()


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_damaged_record_is_refused_by_name(copy, content):
    (copy / "event_digits.json").write_text(content)
    with pytest.raises(ValueError, match=r"event_digits\.json is damaged"):
        prepare(copy)


def test_an_unknown_data_set_error_lists_what_exists(tmp_path):
    assert "event_digits" in data.available()
    with pytest.raises(ValueError, match=r"one of .*event_digits.*, got 'letters'"):
        data.load("letters", tmp_path)
    with pytest.raises(ValueError, match=r"one of .*event_digits.*, got 'letters'"):
        data.prepare("letters", tmp_path)


def test_the_record_says_that_the_events_are_simulated(prepared):
    record = json.loads((prepared / "event_digits.json").read_text())
    assert record["description"].startswith("Simulated events from real digits")
    assert record["seed"] == 0


@pytest.mark.full
def test_the_whole_set_takes_two_cores_90_s_and_2_gb_at_most(tmp_path):
    # Not the clock on the wall, which other work on the machine makes longer.
    start = time.process_time()
    data.prepare("event_digits", tmp_path)
    assert time.process_time() - start < 2 * 90
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20
    frames = data.load("event_digits", tmp_path)
    assert frames.frames.shape == (1797, 10, 2, 32, 32)
    indices = read_split("event_digits").indices(frames.names)
    assert sum(map(len, indices.values())) == 1797
    folder = tmp_path / "extract" / "Caltech101"
    events = sum(os.path.getsize(path) // 5 for path in folder.rglob("*.bin"))
    assert int(frames.frames.sum(dtype=torch.int64)) == events
