"""What training does with data: mixed events, no validation part, repeated runs."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import data
from benchmarks.__main__ import main
from benchmarks.data.aedat2 import write_aedat2
from benchmarks.data.batches import batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.sets import CIFAR10_DVS
from benchmarks.data.splits import read_split, write_split
from benchmarks.data.transforms import EventMixup
from benchmarks.report.readme.__main__ import rendered
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import CacheConfig, read
from benchmarks.runs.progress import Reporter
from benchmarks.tasks.train import train


@pytest.fixture
def frames():
    """Twelve samples of three classes, each with events of its own in one pixel."""
    counts = torch.zeros(12, 2, 2, 12, 1, dtype=torch.uint8)
    counts[torch.arange(12), :, :, torch.arange(12)] = 50
    labels = torch.arange(12) % 3
    return EventFrames(
        counts, labels, tuple(f"{n}/{n}" for n in range(12)), tuple("abc")
    )


def mixed(frames, epoch=0, seed=0):
    loader = batches(
        frames, torch.arange(12), 6, shuffle=True, seed=seed, mixup=EventMixup(1.0)
    )
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_mixed_targets_are_the_shares_of_the_events(frames):
    """Naively: each sample's own pixel tells whose events it holds, and how many."""
    for batch in mixed(frames):
        assert batch.target.shape == (6, 3)
        assert torch.allclose(batch.target.sum(1), torch.ones(6))
        held = batch.frames.sum((0, 2, 4)) / 200
        for sample, target, own in zip(held, batch.target, batch.index, strict=True):
            expected = torch.zeros(3)
            for pixel in range(12):
                expected[pixel % 3] += sample[pixel]
            assert torch.allclose(target, expected, atol=0.12)
            assert sample[own] > 0.5 or (sample > 0).sum() <= 2
        assert torch.equal(batch.frames, batch.frames.round())


def test_the_same_epoch_and_seed_mix_alike(frames):
    first, again, other = mixed(frames, 3), mixed(frames, 3), mixed(frames, 4)
    assert all(
        torch.equal(a.frames, b.frames) for a, b in zip(first, again, strict=True)
    )
    assert all(
        torch.equal(a.target, b.target) for a, b in zip(first, again, strict=True)
    )
    assert not torch.equal(first[0].target, other[0].target)


def test_gradients_are_those_of_both_labels_by_their_shares(frames):
    batch = mixed(frames)[0]
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    target = batch.target.double()
    loss = nn.functional.cross_entropy(logits, target)
    (found,) = torch.autograd.grad(loss, logits)
    expected = (logits.softmax(1) - target) / 6
    assert torch.allclose(found, expected.detach())


def test_a_run_mixes_its_training_part_alone_and_resumes(small_run, monkeypatch):
    plain = ("surrogate.mask", "null", "optimization.epochs", 3)
    words = small_run("data.mixup", 0.4, *plain)
    seen = Counter()
    update = "sj_ext.readout.TemporallyWeightedOutput.update"
    from sj_ext.readout import TemporallyWeightedOutput

    original = TemporallyWeightedOutput.update

    def watch(self, logits, target):
        seen[self.training, target.ndim] += 1
        original(self, logits, target)

    monkeypatch.setattr(update, watch)
    folder = train(read(words), Reporter.silent())
    assert set(seen) == {(True, 2), (False, 1)}
    rows = folder.read_metrics()
    assert all(0 <= row["train_accuracy"] <= 1 for row in rows)
    whole = torch.load(folder.path / "checkpoint.pt")

    class Killed(Exception):
        pass

    def kill(session):
        if session.epoch == 2:
            raise Killed

    for path in folder.path.iterdir():
        path.unlink()
    with pytest.raises(Killed):
        train(read(words), Reporter.silent(), after_epoch=kill)
    again = train(read(words), Reporter.silent())
    resumed = torch.load(again.path / "checkpoint.pt")
    for key, value in whole["network"].items():
        assert torch.equal(value, resumed["network"][key])


def test_a_run_without_mixing_is_another_one(small_run):
    plain, mixing = (read(small_run("data.mixup", m)) for m in ("null", 0.4))
    assert plain.digest() != mixing.digest()
    assert "mixup" not in json.dumps(sorted(vars(CacheConfig())))
    with pytest.raises(ConfigError, match=r"`data\.mixup` to be positive, got 0\.0"):
        read(small_run("data.mixup", 0.0))
    with pytest.raises(ConfigError, match=r"`data\.cache\.size` of at least 1"):
        read(small_run("data.cache.size", 0))


@pytest.fixture
def index90(tmp_path):
    """CIFAR10-DVS in its own format, two test and four training files a class."""
    root, rng = tmp_path / "dvs", np.random.default_rng(0)
    for place, label in enumerate(CIFAR10_DVS.classes):
        for number in (0, 1, 100, 101, 102, 103):
            made = {
                "t": np.sort(rng.integers(0, 10**6, 300)),
                "x": rng.integers(0, 128, 300),
                "y": rng.integers(12 * place, 12 * place + 12, 300),
                "p": rng.integers(0, 2, 300),
            }
            name = f"cifar10_{label}_{number}.aedat"
            write_aedat2(root / "extract" / label / name, made)
    data.prepare("cifar10_dvs", root, time_steps=2)
    names = data.load("cifar10_dvs", root, 2).names
    split = tmp_path / "index90.json"
    write_split(read_split("cifar10_dvs_index90").restricted(names), split)
    settings = {
        "data.name": "cifar10_dvs",
        "data.root": root,
        "data.split": split,
        "data.time_steps": 2,
        "data.cache": '{"split_by": "time", "size": 16, "compressed": true}',
        "output": tmp_path / "runs",
        "model.kwargs.channels": "[8, A, 8, A]",
        "neuron.kwargs.v_threshold": 0.5,
        "optimization.epochs": 3,
        "optimization.batch_size": 8,
        "device.accelerator": "cpu",
    }
    return [str(w) for k, v in settings.items() for w in (f"--{k}", v)]


def test_the_papers_split_without_validation_takes_the_last_epoch(index90, capsys):
    folder = train(read(index90), Reporter())
    result = folder.read_result()
    assert result["validation_accuracy"] is None
    assert result["selected_epoch"] == result["epochs"] == 3
    assert result["test_accuracy"]["selected"] == result["test_accuracy"]["last"]
    assert all(np.isnan(r["validation_loss"]) for r in folder.read_metrics())
    assert len(folder.read_predictions()["target"]) == 20
    printed = " ".join(capsys.readouterr().out.split())
    assert "without a validation part" in printed
    assert "nan" not in printed
    json.loads((folder.path / "result.json").read_text(), parse_constant=pytest.fail)


def test_a_readout_that_needs_a_validation_part_is_refused_without_one(index90):
    words = ["--readout.name", "temporally_weighted"]
    words += ["--readout.kwargs.accuracy_from", "heldout"]
    with pytest.raises(ConfigError, match="has no validation part, got 'heldout'"):
        train(read([*index90, *words]), Reporter.silent())


def test_repeats_spread_over_seeds_and_splits(small_run, small_data, tmp_path, capsys):
    names = data.load("event_digits", small_data.root, 4).names
    for number in range(2):
        suffix = f"_{number}" if number else ""
        part = read_split(f"event_digits{suffix}").restricted(names)
        write_split(part, tmp_path / f"part{suffix}.json")
    words = small_run(
        *("data.split", tmp_path / "part.json"),
        *("optimization.epochs", 1, "surrogate.mask", "null"),
    )
    options = ["--seeds", "2", "--vary-split", "--workers", "1", "--name", "twice"]
    assert main(["repeat", *options, *words]) == 0
    assert "deviation" in capsys.readouterr().out
    path = tmp_path / "runs" / "twice-cpu.json"
    result = json.loads(path.read_text())
    runs = result["runs"]
    assert [run["split"] for run in runs] == ["part", "part_1"]
    assert runs[0]["split_checksum"] != runs[1]["split_checksum"]
    assert runs[0]["data_checksum"] == runs[1]["data_checksum"]
    shares = [run["test_last"] for run in runs]
    assert result["mean"]["test_last"] == pytest.approx(np.mean(shares))
    assert result["deviation"]["test_last"] == pytest.approx(np.std(shares, ddof=1))
    for run in runs:
        targets = read_split(tmp_path / f"{run['split']}.json").test
        counts = Counter(name.partition("/")[0] for name in targets)
        of_classes = zip(result["classes"], run["test_of_classes"], strict=True)
        right = sum(counts[label] * (share or 0) for label, share in of_classes)
        assert right / len(targets) == pytest.approx(run["test_last"])
    assert result["environment"]["seeds"] == [0, 1]
    # Nothing is trained again, and the table of the README can be written.
    before = path.stat().st_mtime_ns
    assert main(["repeat", *options, *words]) == 0
    assert path.stat().st_mtime_ns > before
    result["config"]["data"]["cache"] = {"size": 32}
    samples = [run["samples"]["train"] for run in runs]
    assert samples == [
        len(read_split(tmp_path / f"{run['split']}.json").train) for run in runs
    ]
    runs[1]["samples"]["train"] += 2
    table = rendered("objects-cpu", result)
    low, high = sorted(run["samples"]["train"] for run in runs)
    assert f"{low} to {high} windows" in " ".join(table.split())
    assert f"{result['mean']['test_last']:.1%}" in table
    assert "chance is 10%" in table


def test_repeats_miss_a_split_file_before_the_first_run(
    small_run, small_data, tmp_path, capsys
):
    names = data.load("event_digits", small_data.root, 4).names
    part = read_split("event_digits").restricted(names)
    write_split(part, tmp_path / "part.json")
    words = small_run("data.split", tmp_path / "part.json")
    assert main(["repeat", "--seeds", "2", "--vary-split", *words]) == 2
    assert "seed 1: No split" in (err := capsys.readouterr().err)
    assert "part_1.json is missing" in err
    assert not (tmp_path / "runs").exists()


def test_frames_of_other_classes_than_the_splits_are_refused(
    small_run, small_data, tmp_path, capsys
):
    names = data.load("event_digits", small_data.root, 4).names
    part = read_split("event_digits").restricted(names)
    other = replace(part, classes=(*part.classes, "test"))
    write_split(other, tmp_path / "other.json")
    assert main(["train", *small_run("data.split", tmp_path / "other.json")]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "Expected frames of the 11 classes of the split event_digits, got 10" in err
    assert "only one of both has test" in err


def test_repeats_refuse_more_splits_than_there_are(small_run, capsys):
    assert main(["repeat", "--seeds", "6", "--vary-split", *small_run()]) == 2
    assert "at most 5 `seeds`" in capsys.readouterr().err
    assert main(["repeat", "--seeds", "0", *small_run()]) == 2
    assert "`seeds` of at least 1, got 0" in capsys.readouterr().err
