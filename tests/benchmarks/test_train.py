"""A run writes all that is promised, survives being killed, and explains its errors."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from spikingjelly.activation_based.functional import reset_net
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.__main__ import main
from benchmarks.data import load
from benchmarks.data.batches import batches
from benchmarks.data.splits import read_split
from benchmarks.runs.config import read
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter
from benchmarks.tasks.train import train
from sj_ext.readout import TemporallyWeightedOutput
from tests.benchmarks.killing import killed


@pytest.fixture
def small_run(small_run):
    """The same, with a mask that drops more from the middle of the first epoch on."""
    rising = '{"attribute": "p", "end": 0.9, "begin_epoch": 0.5, "epochs": 2}'
    return partial(small_run, "surrogate.schedule", rising)


WINDOWS = (
    *("surrogate.mask", '{"name": "window"}', "surrogate.schedule", "null"),
    *("surrogate.calibrate_window.density", 0.2),
)
CONCENTRATED = (
    *("loss.name", "temporal_concentration", "loss.kwargs.direction", "late"),
    *("readout.kwargs.accuracy_from", "heldout", "readout.kwargs.start_epoch", 1),
)
ANN = (
    *("neuron.name", "ReLU", "neuron.kwargs", "{}"),
    *("surrogate.mask", "null", "surrogate.schedule", "null"),
)


@pytest.fixture
def trained(small_run):
    return train(read(small_run()), Reporter.silent())


def run_in_child(words, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )


def checkpoints_equal(first, second):
    """Compare all that learning changed, bit for bit."""
    keys = ("network", "readout", "optimizer", "scheduler", "rng")
    keys += ("mask_schedule", "windows")
    a, b = (torch.load(folder.path / "checkpoint.pt") for folder in (first, second))
    flat_a, flat_b = (
        torch.utils._pytree.tree_leaves([c[k] for k in keys]) for c in (a, b)
    )
    return len(flat_a) == len(flat_b) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
        for x, y in zip(flat_a, flat_b, strict=True)
    )


def test_a_run_writes_all_its_files(trained):
    written = {file.name for file in trained.path.iterdir()}
    assert {
        "config.yaml",
        "metrics.csv",
        "checkpoint.pt",
        "predictions.npz",
        "environment.json",
        "result.json",
    } <= written
    assert any(name.startswith("events.out.tfevents") for name in written)
    assert trained.path.name.endswith(trained.config.digest())
    config = yaml.safe_load((trained.path / "config.yaml").read_text())
    assert config["readout"]["kwargs"] == {"start_epoch": 2}


def test_metrics_have_a_row_an_epoch_with_density_and_readout_weights(trained):
    rows = trained.read_metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert 0 < row["gradient_density"] < 0.6
        assert 0 < row["firing_rate"] < 1
        assert row["samples_per_second"] > 0
        weights = [row[f"readout_weight_{t}"] for t in range(4)]
        assert sum(weights) / 4 == pytest.approx(1, abs=1e-6)
        deviation = max(abs(weight - 1) for weight in weights)
        assert row["readout_deviation"] == pytest.approx(deviation, abs=1e-6)
        assert 0 <= row["validation_accuracy_unweighted"] <= 1
    moved = [row["readout_deviation"] > 0 for row in rows]
    assert moved == [False, False, True, True]


@pytest.mark.parametrize("readout", ["rate", "last", "max"])
@pytest.mark.parametrize(
    "loss",
    [
        ("temporal_efficient_training", '{"lambda_": 0.1, "phi": 0.5}'),
        ("temporal_concentration", '{"strength": 0.5, "direction": "late"}'),
    ],
    ids=lambda loss: loss[0],
)
def test_one_key_each_chooses_readout_and_loss(small_run, readout, loss):
    words = small_run(
        *("readout.name", readout, "readout.kwargs", "{}"),
        *("loss.name", loss[0], "loss.kwargs", loss[1], "optimization.epochs", 1),
    )
    folder = train(read(words), Reporter.silent())
    assert "test_accuracy_unweighted" not in folder.read_result()
    assert "readout_deviation" not in folder.read_metrics()[0]
    found = folder.read_predictions()
    read_out = {
        "rate": lambda logits: logits.mean(1),
        "last": lambda logits: logits[:, -1],
        "max": lambda logits: logits.max(1),
    }[readout](found["logits_last"])
    accuracy = (read_out.argmax(1) == found["target"]).mean()
    assert folder.read_result()["test_accuracy"]["last"] == pytest.approx(accuracy)
    weight = found["readout_weight_last"]
    expected = {"rate": [1.0] * 4, "last": [0.0, 0.0, 0.0, 4.0], "max": [np.nan] * 4}
    np.testing.assert_allclose(weight, expected[readout])


def test_a_loss_with_less_in_it_is_smaller_and_trains_other_weights(small_run):
    one = ("optimization.epochs", 1, "readout.name", "rate", "readout.kwargs", "{}")
    plain, smooth, early = (
        train(read(small_run(*one, *more)), Reporter.silent())
        for more in (
            (),
            ("optimization.label_smoothing", 0.3),
            ("loss.name", "temporal_concentration"),
        )
    )
    assert not checkpoints_equal(plain, smooth)
    assert not checkpoints_equal(plain, early)
    losses = [run.read_metrics()[0]["train_loss"] for run in (plain, early)]
    assert losses[0] < losses[1], "the centroid is added to the cross-entropy"


def test_a_scheduled_mask_is_in_the_metrics_and_makes_derivatives_sparser(trained):
    rows = trained.read_metrics()
    p = [row["mask_p"] for row in rows]
    assert 0.5 <= p[0] < p[1] < 0.9
    assert p[2:] == [0.9, 0.9]
    assert rows[-1]["gradient_density"] < 0.5 * rows[0]["gradient_density"]


def test_each_layer_keeps_the_share_that_its_window_was_calibrated_for(small_run):
    folder = train(read(small_run(*WINDOWS)), Reporter.silent())
    result = folder.read_result()
    windows, layers = result["windows"], result["layers"]
    assert windows.keys() == layers.keys()
    assert len({window["half_width"] for window in windows.values()}) == len(layers)
    for window in windows.values():
        assert window["density"] == pytest.approx(0.2, abs=0.02)
    # The last epoch's distribution is another than that before training.
    assert 0.05 < result["gradient_density"] < 0.5


def test_windows_are_calibrated_in_any_precision(small_run):
    widths = [
        train(
            read(
                small_run(
                    *(*WINDOWS, "device.precision", precision),
                    *("optimization.epochs", 1),
                )
            ),
            Reporter.silent(),
        ).read_result()["windows"]
        for precision in ("32-true", "64-true", "bf16-mixed")
    ]
    for found in widths[1:]:
        for name, window in widths[0].items():
            assert found[name]["half_width"] == pytest.approx(
                window["half_width"], rel=0.05
            )


def test_relu_makes_the_same_network_an_ann(small_run):
    folder = train(read(small_run(*ANN)), Reporter.silent())
    rows, result = folder.read_metrics(), folder.read_result()
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert result["layers"] == result["windows"] == {}
    for metrics in (*rows, result):
        assert not {"gradient_density", "firing_rate", "mask_p"} & metrics.keys()
    snn = torch.load(train(read(small_run()), Reporter.silent()).path / "checkpoint.pt")
    ann = torch.load(folder.path / "checkpoint.pt")
    shapes = [
        {name: value.shape for name, value in found["network"].items()}
        for found in (snn, ann)
    ]
    assert shapes[0] == shapes[1]


def test_every_metric_can_be_computed_again_from_the_predictions(trained):
    found, result = trained.read_predictions(), trained.read_result()
    n = len(found["target"])
    assert found["logits_last"].shape == (n, 4, 10)
    assert len(found["names"]) == n
    for which in ("last", "selected"):
        weight = found[f"readout_weight_{which}"]
        output = np.einsum("t,ntk->nk", weight / 4, found[f"logits_{which}"])
        accuracy = (output.argmax(1) == found["target"]).mean()
        assert accuracy == pytest.approx(result["test_accuracy"][which])


def test_a_weighted_readout_is_judged_without_its_weights_too(trained):
    found, result = trained.read_predictions(), trained.read_result()
    for which in ("last", "selected"):
        answers = found[f"logits_{which}"].mean(1).argmax(1)
        accuracy = (answers == found["target"]).mean()
        unweighted = result["test_accuracy_unweighted"][which]
        assert unweighted == pytest.approx(accuracy)


def test_weights_can_follow_the_validation_part(small_run):
    more = ("readout.kwargs.momentum", 0.0, "readout.kwargs.start_epoch", 1)
    config = read(small_run(*more, "readout.kwargs.accuracy_from", "heldout"))
    frames = load(config.data.name, config.data.root, config.data.time_steps)
    part = read_split(config.split).indices(frames.names)["validation"]
    (batch,) = batches(frames, torch.as_tensor(part), len(part))
    expected, found = [torch.ones(4)], []

    def look(session):
        if session.epoch > 0:
            with torch.no_grad():
                logits = session.network.eval()(batch.frames)
            reset_net(session.network)
            right = (logits.argmax(-1) == batch.target).sum(1).float()
            expected.append(right / right.mean() if right.any() else expected[-1])
        found.append(session.readout.weight.clone())

    train(config, Reporter.silent(), look)
    torch.testing.assert_close(torch.stack(found), torch.stack(expected))
    assert (found[-1] != 1).any()


def test_the_selected_epoch_is_the_best_on_validation(trained):
    rows, result = trained.read_metrics(), trained.read_result()
    best = max(row["validation_accuracy"] for row in rows)
    assert result["validation_accuracy"] == best
    assert rows[result["selected_epoch"] - 1]["validation_accuracy"] == best


def test_the_environment_names_code_versions_data_and_seed(trained, small_data):
    environment = trained.read_environment()
    assert environment["host"] == environment["packages"]["spikingjelly"]
    assert environment["seed"] == 0
    assert environment["device"] == "cpu"
    split = json.loads(small_data.split.read_text())
    assert environment["split"] == split["checksum"]
    assert len(environment["data"]) == 64
    assert {"commit", "dirty", "python", "cpu", "threads"} <= environment.keys()


def test_the_checkpoint_loads_without_running_code(trained):
    checkpoint = torch.load(trained.path / "checkpoint.pt", weights_only=True)
    assert checkpoint["epoch"] == 4
    head = TemporallyWeightedOutput(T=4, start_epoch=2)
    head.load_state_dict(checkpoint["readout"])
    assert head.epoch == 4


def test_the_same_configuration_gives_the_same_weights(small_run, tmp_path):
    runs = [
        train(read(small_run("output", tmp_path / name)), Reporter.silent())
        for name in ("a", "b")
    ]
    assert checkpoints_equal(*runs)


def test_a_complete_run_is_not_run_again(trained, small_run, capsys):
    before = (trained.path / "checkpoint.pt").stat().st_mtime_ns
    train(read(small_run()), Reporter())
    assert "already complete" in capsys.readouterr().out
    assert (trained.path / "checkpoint.pt").stat().st_mtime_ns == before


def kill_in(words, place, times=1):
    """Train in a child that dies, unwarned, as soon as it comes to a place."""
    imports = """
import torch
from benchmarks.runs.folder import RunFolder
from sj_ext import files
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
"""
    killed(["train", *words], place, times, imports)


def same_learning(reference, folder):
    """Compare two complete runs: weights and predictions bit for bit, and metrics."""
    timeless = [
        [{k: v for k, v in row.items() if "second" not in k} for row in rows]
        for rows in (reference.read_metrics(), folder.read_metrics())
    ]
    predictions = (reference.read_predictions(), folder.read_predictions())
    return (
        checkpoints_equal(reference, folder)
        and timeless[0] == timeless[1]
        and all(np.array_equal(a, predictions[1][k]) for k, a in predictions[0].items())
    )


_FULL = ("while the second checkpoint is renamed", "before the predictions")
KILLS = {
    "while the first checkpoint is written": ("(torch, 'save')", 1),
    "while the second checkpoint is renamed": ("(files, '_flush_to_disk')", 5),
    "between checkpoint and metrics of the last epoch": (
        "(RunFolder, 'write_metrics')",
        4,
    ),
    "before the predictions": ("(RunFolder, 'write_predictions')", 1),
    "before the result": ("(RunFolder, 'write_result')", 1),
}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, marks=pytest.mark.full) if m in _FULL else m for m in KILLS],
)
def test_a_run_killed_at_any_moment_resumes_bit_for_bit(
    trained, small_run, tmp_path, moment
):
    words = small_run("output", tmp_path / "killed")
    kill_in(words, *KILLS[moment])
    folder = train(read(words), Reporter.silent())
    assert same_learning(trained, folder)
    assert not list(folder.path.glob(".*.partial"))


@pytest.mark.full
def test_a_run_killed_again_and_again_resumes_bit_for_bit(trained, small_run, tmp_path):
    words = small_run("output", tmp_path / "killed")
    for _ in range(3):
        kill_in(words, "(RunFolder, 'write_metrics')", times=2)
    child = run_in_child(words)
    printed, _ = child.communicate()
    assert "resumed after epoch" in printed
    folder = RunFolder(read(words))
    assert same_learning(trained, folder)
    environment = folder.read_environment()
    done = [found["resumed_after"] for found in environment["earlier"]]
    assert done == sorted(done)
    assert environment["resumed_after"] >= done[-1] > 0


@pytest.mark.parametrize(
    "kind",
    [WINDOWS, ANN, CONCENTRATED],
    ids=["calibrated windows", "ANN", "concentrated, held-out accuracies"],
)
def test_other_runs_resume_bit_for_bit_and_calibrate_once(
    small_run, tmp_path, monkeypatch, capsys, kind
):
    reference = train(read(small_run(*kind)), Reporter.silent())
    config = read(small_run(*kind, "output", tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_metrics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, Reporter.silent())
    folder = train(config, Reporter())
    printed = capsys.readouterr().out
    assert "resumed after epoch 1" in printed
    assert "calibrating" not in printed
    assert same_learning(reference, folder)
    assert folder.read_result()["windows"] == reference.read_result()["windows"]


def interrupted(*args):
    raise KeyboardInterrupt


def test_every_epoch_is_on_the_board_after_a_resume(small_run):
    words = small_run()
    kill_in(words, "(RunFolder, 'write_metrics')", times=3)
    folder = train(read(words), Reporter.silent())
    accumulator = EventAccumulator(str(folder.path)).Reload()
    steps = [event.step for event in accumulator.Scalars("train_loss")]
    assert steps == [1, 2, 3, 4]


@pytest.mark.full
def test_two_processes_resume_to_the_same_weights(small_run, tmp_path):
    more = ("device.devices", 2, "optimization.batch_size", 4, "device.threads", 1)
    whole = small_run(*more, "output", tmp_path / "whole")
    killed = small_run(*more, "output", tmp_path / "killed")
    alone = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    printed, _ = (child := run_in_child(whole, **alone)).communicate(timeout=300)
    assert child.returncode == 0, printed
    folder = RunFolder(read(killed))
    child = run_in_child(killed, start_new_session=True, **alone)
    metrics = folder.path / "metrics.csv"
    while child.poll() is None and not metrics.exists():
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert not folder.is_complete
    printed, _ = (child := run_in_child(killed, **alone)).communicate(timeout=300)
    assert child.returncode == 0, printed
    assert printed.count("resumed after epoch") == 1
    assert same_learning(RunFolder(read(whole)), folder)


def test_two_processes_train_one_network(small_run):
    words = small_run(*WINDOWS, "device.devices", 2, "optimization.batch_size", 4)
    child = run_in_child(words, env={**os.environ, "OMP_NUM_THREADS": "1"})
    printed, _ = child.communicate(timeout=300)
    assert child.returncode == 0, printed
    folder = RunFolder(read(words))
    result, found = folder.read_result(), folder.read_predictions()
    assert folder.read_environment()["processes"] == 2
    assert len(set(found["names"])) == len(found["target"])
    accuracy = (
        np.einsum(
            "t,ntk->nk", found["readout_weight_last"] / 4, found["logits_last"]
        ).argmax(1)
        == found["target"]
    ).mean()
    assert accuracy == pytest.approx(result["test_accuracy"]["last"])
    assert printed.count("epoch 4/4") == 1, "only the first process prints"
    assert printed.count("calibrating") == 1
    for window in result["windows"].values():
        assert window["density"] == pytest.approx(0.2, abs=0.02)
    assert printed.count("test accuracy") == 1


@pytest.mark.parametrize("loss", ["cross_entropy", "temporal_concentration"])
def test_mixed_precision_trains(small_run, loss):
    words = ("device.precision", "bf16-mixed", "optimization.epochs", 1)
    folder = train(read(small_run(*words, "loss.name", loss)), Reporter.silent())
    assert folder.is_complete
    weights = torch.load(folder.path / "checkpoint.pt")["network"].values()
    assert all(w.dtype in (torch.float32, torch.int64) for w in weights)


def explained(capsys, words, task="train"):
    """Run a command that must fail; return what it says."""
    assert main([task, *words]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


def test_a_damaged_checkpoint_is_named(small_run, capsys):
    words = small_run("optimization.epochs", 1)
    folder = train(read(words), Reporter.silent())
    (folder.path / "result.json").unlink()
    checkpoint = folder.path / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    assert f"The checkpoint {checkpoint} is damaged" in explained(capsys, words)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        by_size = sorted(archive.infolist(), key=lambda info: info.file_size)
    # Headers are short: half the content further on is surely inside the content.
    inside = [f.header_offset + 128 + f.file_size // 2 for f in by_size[-2:]]
    for position in inside:
        flipped = bytes([whole[position] ^ 0xFF])
        checkpoint.write_bytes(whole[:position] + flipped + whole[position + 1 :])
        message = explained(capsys, words)
        assert f"The checkpoint {checkpoint} is damaged: " in message
    assert "Delete it to start the run afresh" in message


def test_a_checkpoint_of_something_else_is_named(small_run, capsys):
    words = small_run("optimization.epochs", 1)
    folder = RunFolder(read(words))
    folder.save_checkpoint({"weights": torch.zeros(3)})
    assert "was begun on another data" in explained(capsys, words)
    assert "Delete the folder" in explained(capsys, words)


def test_an_unreadable_result_is_named(trained, small_run, capsys):
    (trained.path / "result.json").write_text("")
    message = explained(capsys, small_run())
    assert f"{trained.path / 'result.json'} is damaged" in message


def test_a_full_disk_is_named(small_run):
    words = small_run("optimization.epochs", 1)
    script = (
        "import resource, sys; from benchmarks.__main__ import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "sys.exit(main(['train', *sys.argv[1:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert re.search(r"^error: .*Could not write .*checkpoint.pt", done.stderr, re.M)
    assert "Traceback" not in done.stderr


def test_a_checkpoint_of_an_older_version_is_named(small_run, capsys):
    words = small_run("optimization.epochs", 1)
    folder = train(read(words), Reporter.silent())
    (folder.path / "result.json").unlink()
    folder.save_checkpoint({**folder.load_checkpoint(), "format": 1})
    assert "it has format 1, not 2. Delete the folder" in explained(capsys, words)


def test_a_run_begun_on_other_data_is_not_resumed(small_run, capsys):
    words = small_run("optimization.epochs", 1)
    folder = train(read(words), Reporter.silent())
    (folder.path / "result.json").unlink()
    checkpoint = folder.load_checkpoint()
    folder.save_checkpoint({**checkpoint, "data": "0" * 64})
    assert "was begun on another data" in explained(capsys, words)


def test_a_second_process_is_kept_out_of_the_folder(small_run, capsys):
    words = small_run()
    with RunFolder(read(words)).locked():
        message = explained(capsys, words)
    assert "Another process is training in" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("data.root", "nowhere"), "python -m benchmarks data prepare event_digits"),
        (("data.time_steps", 7), "`time_steps`=7 are missing"),
        (
            ("data.name", "digits"),
            "Expected `name` to be one of .*, event_digits, .* got 'digits'",
        ),
        (("data.split", "nowhere"), "No split nowhere"),
        (("model.name", "vggg"), "Did you mean 'vgg'"),
        (("model.kwargs.channels", "[4, A, A, A, A, A, A]"), "at least one pixel"),
        (("model.kwargs.channels", "[4, B]"), "Expected `channels` to hold positive"),
        (("model.kwargs.depth", 3), "`model.kwargs` of vgg: .*'depth'"),
        (("neuron.name", "LIF"), "Did you mean 'LIFNode'"),
        (("neuron.kwargs.leak", 3), "`neuron.kwargs` of LIFNode: .*'leak'"),
        (("surrogate.schedule.attribute", "q"), "`surrogate.schedule.attribute`.* p, "),
        (("surrogate.schedule.end", 1.0), r"`surrogate.schedule`.*`p` in \[0, 1\)"),
        (("neuron.name", "ReLU"), "`neuron.kwargs` of ReLU to be empty, got .*thresh"),
        (
            ("neuron.name", "ReLU", "neuron.kwargs", "{}"),
            "`surrogate.mask` to be left at None with ReLU",
        ),
        (("surrogate.mask.q", 3), "`surrogate.mask`: .*'q'"),
        (("surrogate.base_kwargs.beta", 3), "`surrogate.base_kwargs` of .*'beta'"),
        (("device.accelerator", "gpu"), "`device` asks for what is not here"),
        (("optimization.lr", 1e30), "The training loss became .* in epoch"),
        (("surrogate.base", "Triangle"), "Available: ATan"),
        (("surrogate.mask.p", 2.0), r"Expected `p` in \[0, 1\), got 2.0"),
        (("readout.kwargs.start", 3), "`readout.kwargs` of temporally_weighted"),
        (("readout.name", "rat"), "Did you mean 'rate'"),
        (("loss.name", "entropy"), "Expected the name of a loss, got 'entropy'"),
        (("loss.kwargs.phi", 3), "`loss.kwargs` of cross_entropy: .*'phi'"),
        (("loss.kwargs.label_smoothing", 0.1), "`optimization.label_smoothing`"),
        (("optimization.label_smoothing", 2.0), r"smoothing` in \[0, 1\], got 2.0"),
        (
            ("loss.name", "temporal_concentration", "loss.kwargs.direction", "up"),
            "`direction` to be one of early, late",
        ),
        (("optimization.lrr", 3), "Did you mean `optimization.lr`"),
    ],
)
def test_a_mistake_is_explained_without_a_traceback(small_run, capsys, change, message):
    assert re.search(message, explained(capsys, small_run(*change)))


def test_an_unknown_task_is_answered_with_those_that_exist(capsys):
    message = explained(capsys, [], task="trian")
    assert "Did you mean 'train'" in message
    assert "quickstart" in message


def test_the_usage_lists_the_tasks(capsys):
    assert main(["--help"]) == 0
    assert "quickstart" in capsys.readouterr().out
