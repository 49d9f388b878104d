"""Gradients add up the same over batches, over processes, and at once."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import read
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter
from benchmarks.tasks.train import train
from tests.benchmarks import without_norms

# Batch norm would see other batches; without it, the gradients are the same sums.
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
COMMAND = [*TORCHRUN, "-m", "tests.benchmarks.without_norms", "train"]


@pytest.fixture
def small_run(small_run):
    """Run it with SGD: AdamW makes large steps of what is rounding of small ones."""
    return partial(
        small_run,
        *("model.name", without_norms.NAME, "model.kwargs", "{}"),
        *("surrogate.mask", "null", "readout.kwargs.start_epoch", 1),
        *("optimization.optimizer", "sgd", "optimization.lr", 0.1),
        *("optimization.epochs", 3),
    )


def learned(folder):
    """Weights and predictions."""
    checkpoint = torch.load(folder.path / "checkpoint.pt")
    predictions = folder.read_predictions()
    return [
        *checkpoint["network"].values(),
        *(v for v in checkpoint["readout"].values() if isinstance(v, torch.Tensor)),
        torch.from_numpy(predictions["logits_last"]),
        torch.tensor([row["train_loss"] for row in folder.read_metrics()]),
    ]


def under_torchrun(words):
    """Run the same command with two processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*COMMAND, *words], env=environment, capture_output=True, text=True
    )


def test_accumulated_batches_are_one_large_batch(small_run):
    large = train(read(small_run("optimization.batch_size", 12)), Reporter.silent())
    words = small_run("optimization.batch_size", 4, "optimization.accumulate", 3)
    small = train(read(words), Reporter.silent())
    assert small.path != large.path
    for one, other in zip(learned(large), learned(small), strict=True):
        torch.testing.assert_close(one, other)


def test_two_processes_under_torchrun_learn_what_one_does(small_run):
    alone = train(read(small_run("optimization.batch_size", 12)), Reporter.silent())
    words = small_run(
        *("optimization.batch_size", 6, "optimization.accumulate", 2),
        *("device.threads", 1),
    )
    done = under_torchrun(words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 3/3") == 1, "only the first process prints"
    shared = ["--device.devices", "2", "--optimization.batch_size", "3"]
    two = RunFolder(read([*words, *shared]))
    assert two.read_environment()["processes"] == 2
    for one, other in zip(learned(alone), learned(two), strict=True):
        torch.testing.assert_close(one, other)
    names = [folder.read_predictions()["names"] for folder in (alone, two)]
    assert np.array_equal(*names)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("device.devices", 3),
            "number of processes that torchrun has started, 2, got 3",
        ),
        (
            ("optimization.batch_size", 5),
            "each of 2 processes as many samples, at least 2, got 5",
        ),
    ],
)
def test_what_processes_cannot_share_is_refused(
    small_run, monkeypatch, capsys, more, message
):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "2")
    assert main(["train", *small_run(*more)]) == 2
    assert message in capsys.readouterr().err


def test_tasks_of_several_networks_take_one_device(small_run):
    with pytest.raises(ConfigError, match=r"`device.devices` of a task .* got 2"):
        train(read(small_run("device.devices", 2)), Reporter.silent())


def test_other_tasks_than_training_and_queues_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["cka", "--config", "any.yaml"]) == 2
    said = capsys.readouterr().err
    assert "Expected one process for `cka`, got WORLD_SIZE=2" in said
    assert "`run` shares" in said


def test_the_learning_rate_falls_with_steps_not_with_batches(small_run):
    words = ("optimization.batch_size", 4, "optimization.accumulate", 100)
    folder = train(read(small_run(*words)), Reporter.silent())
    # One step an epoch: cosine over three.
    rates = [row["lr"] / 0.1 for row in folder.read_metrics()]
    assert rates == pytest.approx([1.0, 0.75, 0.25])


def test_less_than_a_batch_is_refused(small_run):
    with pytest.raises(ConfigError, match=r"`optimization.accumulate` of at least 1"):
        read(small_run("optimization.accumulate", 0))


def test_runs_without_the_newer_keys_keep_their_folders(small_run):
    plain = read(small_run()).digest()
    same = ("optimization.accumulate", 1, "test_every_epoch", "false")
    assert read(small_run(*same)).digest() == plain
    for more in (("optimization.accumulate", 2), ("test_every_epoch", "true")):
        assert read(small_run(*more)).digest() != plain
