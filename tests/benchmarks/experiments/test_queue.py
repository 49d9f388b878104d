"""A queue skips what is done, resumes what was killed, and gives the same table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.experiments import queue, work
from benchmarks.experiments.kinds import base, train
from benchmarks.experiments.queue import Options, jobs, run_experiment
from benchmarks.experiments.rows import TUNING, read_rows
from benchmarks.experiments.work import JobError
from benchmarks.runs.folder import FolderInUseError, RunFolder
from benchmarks.runs.progress import Reporter
from tests.benchmarks.killing import killed


def options(folder: Path, **changes):
    settings = {"runs": folder, "results": folder / "rows.csv", "workers": 1}
    return Options(**{**settings, **changes})


def words(path, folder):
    return [
        *("run", str(path), "--runs", str(folder)),
        *("--results", str(folder / "rows.csv"), "--workers", "1"),
    ]


def run_killed(path, folder, place, times):
    """Run in a child that dies, unwarned, as soon as it comes to a place again."""
    imports = """
from benchmarks.experiments import queue
from benchmarks.runs.folder import RunFolder
"""
    killed(words(path, folder), place, times, imports)


def test_a_queue_killed_again_and_again_gives_the_table_of_an_unbroken_one(
    write, tiny, tmp_path, monkeypatch
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_experiment(tiny(), options(whole), Reporter.silent())
    # In the second epoch of the second run, and then between a run's end and its rows.
    run_killed(write(), killed, "(RunFolder, 'write_metrics')", 4)

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queue, "add_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(tiny(seeds=[1]), options(killed), Reporter.silent())
    assert main(words(write(), killed)) == 0
    assert (killed / "rows.csv").read_text() == (whole / "rows.csv").read_text()


def test_what_is_done_is_not_done_again_and_gives_the_same_rows(
    tiny, tmp_path, monkeypatch
):
    rows = run_experiment(tiny(), options(tmp_path), Reporter.silent())
    text = (tmp_path / "rows.csv").read_text()
    (tmp_path / "rows.csv").unlink()
    monkeypatch.setattr("benchmarks.experiments.kinds.train.train", None)
    again = run_experiment(tiny(), options(tmp_path), Reporter.silent())
    assert again == rows
    assert (tmp_path / "rows.csv").read_text() == text


def test_experiments_share_runs_of_one_configuration(tiny, tmp_path, monkeypatch):
    run_experiment(tiny(), options(tmp_path), Reporter.silent())
    monkeypatch.setattr("benchmarks.experiments.kinds.train.train", None)
    other = tiny("other", arms={"only": {}}, reported=[])
    rows = run_experiment(other, options(tmp_path), Reporter.silent())
    assert {row.arm for row in rows} == {"only"}
    names = [row.experiment for row in read_rows(tmp_path / "rows.csv")]
    assert set(names) == {"tiny", "other"}


def test_rows_name_what_was_reported_and_where_they_come_from(tiny, tmp_path):
    rows = run_experiment(tiny(seeds=[0]), options(tmp_path), Reporter.silent())
    assert len({row.key for row in rows}) == len(rows)
    (row,) = (r for r in rows if (r.arm, r.metric) == ("MSG", "test_accuracy"))
    assert (row.reported, row.reported_deviation) == (83.3, 0.12)
    assert row.reported_source == "reported (second-hand), table 1"
    assert (row.size, row.epochs, row.seed, row.threads) == ("full", 2, "0", 1)
    (folder,) = (tmp_path / "train").glob(f"*-{row.digest}")
    assert (folder / "result.json").exists()
    (base,) = (r for r in rows if (r.arm, r.metric) == ("base", "test_accuracy"))
    assert (base.reported, base.reported_source) == (None, "")
    demo = run_experiment(tiny(), options(tmp_path, size="demo"), Reporter.silent())
    assert {row.reported for row in demo} == {None}, "a demo is of other data"


def test_shards_do_everything_once_between_them(tiny, tmp_path):
    parts = [
        run_experiment(tiny(), options(tmp_path, shard=(n, 3)), Reporter.silent())
        for n in (1, 2, 3)
    ]
    keys = [row.key for part in parts for row in part]
    assert len(keys) == len(set(keys))
    assert len({(row.arm, row.seed) for part in parts for row in part}) == 4
    table = read_rows(tmp_path / "rows.csv")
    assert sorted(keys) == [row.key for row in table]


def test_each_arm_takes_the_settings_that_validate_best(tiny, tmp_path, capsys):
    tuning = {
        "candidates": [{"optimization.lr": 1e-6}, {"optimization.lr": 0.02}],
        "seed": 100,
    }
    experiment = tiny(seeds=[0], tuning=tuning)
    rows = run_experiment(experiment, options(tmp_path), Reporter())
    assert capsys.readouterr().out.count("takes lr 0.02 (validation accuracy") == 2
    tried = [row for row in rows if row.metric == TUNING]
    assert [(row.arm, row.settings, row.seed) for row in tried] == [
        (arm, f"lr {lr}", "100") for arm in ("base", "MSG") for lr in (1e-6, 0.02)
    ]
    study = [row for row in rows if row.metric != TUNING]
    assert {(row.seed, row.settings) for row in study} == {("0", "lr 0.02")}
    assert {row.key for row in read_rows(tmp_path / "rows.csv")} == {
        row.key for row in rows
    }
    for row in study:
        (folder,) = (tmp_path / "train").glob(f"*-{row.digest}")
        assert "lr: 0.02" in (folder / "config.yaml").read_text()
    assert len(list((tmp_path / "train").glob("seed-100-*"))) == 4
    with pytest.raises(ValueError, match="without that of the tuning, 100"):
        run_experiment(experiment, options(tmp_path, seeds=(100,)), Reporter.silent())


def test_weights_that_start_in_the_second_epoch_have_moved_after_it(tiny, tmp_path):
    readout = {"name": "temporally_weighted", "kwargs": {"start_epoch": 1}}
    demo = {"minutes": 1, "seeds": [0], "by_arm": {"TWO": {"readout": readout}}}
    experiment = tiny(arms={"TWO": {}}, reported=[], demo=demo)
    run_experiment(experiment, options(tmp_path, size="demo"), Reporter.silent())
    (folder,) = (tmp_path / "train").iterdir()
    weight = RunFolder(None, folder).read_predictions()["readout_weight_last"]
    assert len(set(weight.tolist())) > 1


def test_workers_give_what_one_process_gives(tiny, tmp_path):
    alone = run_experiment(
        tiny(), options(tmp_path / "1", size="demo"), Reporter.silent()
    )
    several = run_experiment(
        tiny(), options(tmp_path / "2", size="demo", workers=2), Reporter.silent()
    )
    assert sorted(alone, key=lambda row: row.key) == sorted(
        several, key=lambda row: row.key
    )


def test_a_run_that_fails_is_named_and_stops_no_other(tiny, tmp_path, monkeypatch):
    original = train.train

    def diverges_once(config, reporter):
        if (config.seed, config.surrogate.mask) == (0, None):
            raise FloatingPointError("The training loss became nan.")
        return original(config, reporter)

    monkeypatch.setattr(train, "train", diverges_once)
    with pytest.raises(JobError, match=r"1 of 4 runs .* base, seed 0: The training"):
        run_experiment(tiny(), options(tmp_path), Reporter.silent())
    rows = read_rows(tmp_path / "rows.csv")
    done = {(row.arm, row.seed) for row in rows}
    assert done == {("base", "1"), ("MSG", "0"), ("MSG", "1")}


def test_a_run_waits_while_another_process_is_in_its_folder(
    tiny, tmp_path, monkeypatch
):
    calls, original = [], train.train

    def busy_once(config, reporter):
        calls.append(config.seed)
        if len(calls) == 1:
            raise FolderInUseError("another process")
        return original(config, reporter)

    monkeypatch.setattr(base, "_WAIT", 0.0)
    monkeypatch.setattr(train, "train", busy_once)
    experiment = tiny(arms={"base": {}}, seeds=[0], reported=[])
    run_experiment(experiment, options(tmp_path, size="demo"), Reporter.silent())
    assert calls == [0, 0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shard", "5/4"], "Expected `shard` from 1/4 to 4/4, got 5"),
        (["--shard", "half"], "Expected `shard` as i/n, such as 1/4, got 'half'"),
    ],
)
def test_what_cannot_run_is_explained(write, tmp_path, more, message, capsys):
    assert main([*words(write(), tmp_path), *more]) == 2
    assert message in capsys.readouterr().err


def test_processes_of_torchrun_share_the_runs(write, tiny, tmp_path):
    path, together = write(), tmp_path / "together"
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "benchmarks", *words(path, together)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    # It may begin when the other has already done some.
    assert done.stdout.count(" of 4 to do") == 1, "the first process tells"
    alone = run_experiment(tiny(), options(tmp_path / "alone"), Reporter.silent())
    assert (together / "rows.csv").read_text() == (
        tmp_path / "alone" / "rows.csv"
    ).read_text()
    folders = list((together / "train").iterdir())
    assert len(folders) == len({row.digest for row in alone}) == 4
    assert {RunFolder(None, f).read_environment()["processes"] for f in folders} == {1}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_another_process_has_begun_is_left_to_it(
    tiny, tmp_path, monkeypatch, workers
):
    first, *others = jobs(tiny(), options(tmp_path, size="demo"))
    queue = work.done("other", [first, *others], workers, Reporter.silent())
    with first.claimed() as ours:
        assert ours
        assert [next(queue) for _ in others] == others
        first.kind.run(first.config, Reporter.silent())
    monkeypatch.setattr("benchmarks.experiments.kinds.train.train", None)
    assert list(queue) == [first]


def test_training_on_all_devices_and_sharing_exclude_each_other(
    write, train_keys, tmp_path, monkeypatch, capsys
):
    device = {"accelerator": "cpu", "devices": 2}
    path = write(config={**train_keys, "device": device})
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(words(path, tmp_path)) == 2
    assert "Expected `device.devices` to be 1" in capsys.readouterr().err
    assert not (tmp_path / "train").exists()


@pytest.mark.full
def test_a_network_is_trained_on_several_devices_from_the_queue(
    tiny, train_keys, tmp_path
):
    device = {"accelerator": "cpu", "devices": 2, "threads": 1}
    config = {**train_keys, "device": device}
    experiment = tiny(config=config, arms={"base": {}}, reported=[])
    rows = run_experiment(experiment, options(tmp_path, size="demo"), Reporter.silent())
    assert {row.arm for row in rows} == {"base"}
    (folder,) = (tmp_path / "train").iterdir()
    assert RunFolder(None, folder).read_environment()["processes"] == 2


def test_a_study_of_several_devices_is_refused(tiny, train_keys, tmp_path):
    train = {**train_keys, "device": {"accelerator": "cpu", "devices": 2}}
    config = {"samples": 6, "sweep": {}, "train": train}
    demo = {"minutes": 1}
    changes = {"arms": {"base": {}}, "reported": [], "demo": demo}
    experiment = tiny(task="fisher", config=config, **changes)
    with pytest.raises(ValueError, match=r"`train.device.devices` .* to be 1, got 2"):
        run_experiment(experiment, options(tmp_path, size="demo"), Reporter.silent())


def test_a_damaged_table_is_refused_before_anything_runs(tiny, tmp_path):
    (tmp_path / "rows.csv").write_text("nothing\n")
    with pytest.raises(ValueError, match="to have the columns"):
        run_experiment(tiny(), options(tmp_path), Reporter.silent())
    assert not (tmp_path / "train").exists()


def test_the_list_has_a_line_for_each_experiment(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    (line,) = (x for x in printed.splitlines() if x.startswith("attribution"))
    assert line.split()[1:6] == ["2406.19645", "train", "11", "min", "54"]
    assert "minutes for all demos" in printed


def test_a_run_is_judged_again_from_its_folder(tiny, tmp_path, capsys):
    experiment = tiny(arms={"base": {}}, reported=[])
    run_experiment(experiment, options(tmp_path, size="demo"), Reporter.silent())
    (folder,) = (tmp_path / "train").iterdir()
    moved = folder.rename(tmp_path / "moved")
    assert main(["eval", str(moved), "--metric", "test_accuracy"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    accuracy = RunFolder(None, moved).read_result()["test_accuracy"]["selected"]
    assert line.split() == ["test_accuracy", f"{100 * accuracy:.4f}"]
    assert main(["eval", str(moved), "--metric", "best_on_test_accuracy"]) == 2
    assert "`test_every_epoch: true`" in capsys.readouterr().err
    assert main(["eval", str(tmp_path)]) == 2
    assert "the folder of a complete training run" in capsys.readouterr().err
