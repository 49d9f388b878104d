"""The fisher task follows information through training, with nulls, and resumes."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks.__main__ import main
from benchmarks.data import load
from benchmarks.data.batches import batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.label_noise import with_label_noise
from benchmarks.data.planted_steps import identical_steps
from benchmarks.data.splits import read_split
from benchmarks.models.build import build_network
from benchmarks.report import fisher as figures
from benchmarks.report.readme.through_training import _verdict, fisher_training
from benchmarks.runs.config import ConfigError
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter
from benchmarks.studies.fisher import runs as fisher_runs
from benchmarks.studies.fisher.config import FisherConfig, read
from benchmarks.studies.fisher.runs import MEASUREMENTS
from benchmarks.studies.fisher.study import _criterion
from benchmarks.studies.nulls import (
    stateless_readout,
    steps_are_equal,
    time_shuffled,
)
from benchmarks.tasks.train import train
from sj_ext.fisher import FisherResult, TemporalFisher

from .conftest import TIME_STEPS

CONFIGS = Path(benchmarks.__file__).parent / "configs" / "fisher"
EPOCHS = 2


@pytest.fixture(scope="module")
def words(small_data, tmp_path_factory):
    settings = {
        "train.data.root": small_data.root,
        "train.data.split": small_data.split,
        "train.data.time_steps": TIME_STEPS,
        "train.model.kwargs.channels": "[4, A, A, 8, A]",
        "train.neuron.kwargs.v_threshold": 0.5,
        "train.optimization.epochs": EPOCHS,
        "train.optimization.batch_size": 8,
        "train.optimization.lr": 0.01,
        "train.device.accelerator": "cpu",
        "sweep": '{"neuron.kwargs.tau": [2.0, 3.0]}',
        "every": 1,
        "samples": 12,
        "batch_size": 8,
        "released_batch_size": 4,
        "output": tmp_path_factory.mktemp("fisher"),
    }
    return [str(w) for k, v in settings.items() for w in (f"--{k}", v)]


@pytest.fixture(scope="module")
def config(words):
    return read(words)


@pytest.fixture(scope="module")
def finished(words, config):
    assert main(["fisher", *words]) == 0
    return config.folder


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_run_has_its_figures_and_all_runs_one(finished):
    names = {file.stem for file in (finished / "plots").glob("*.png")}
    kinds = ("profiles", "centroids", "bias", "answers", "layers")
    arms = ("tau-2.0", "tau-3.0")
    assert names == {f"{kind}_{arm}" for kind in kinds for arm in arms} | {"sweep"}
    html = (finished / "report.html").read_text()
    assert html.count("data:image/png;base64") == len(names)


def test_information_is_measured_before_training_and_after_every_epoch(finished):
    found = rows(finished / "centroids.csv")
    assert {row["measurement"] for row in found} == set(MEASUREMENTS)
    assert {row["epoch"] for row in found} == {"0", "1", "2"}
    total = [row for row in found if row["layer"] == "total"]
    assert len(total) == 2 * len(MEASUREMENTS) * 3
    for row in total:
        assert 1 <= float(row["centroid"]) <= TIME_STEPS
        assert float(row["error"]) >= 0


def test_layers_sum_to_the_total(finished):
    sums, totals = {}, {}
    for row in rows(finished / "profiles.csv"):
        key = (row["run"], row["measurement"], row["epoch"], row["step"])
        of = totals if row["layer"] == "total" else sums
        of[key] = of.get(key, 0.0) + float(row["information"])
    assert totals.keys() == sums.keys()
    for key, total in totals.items():
        assert total == pytest.approx(sums[key], rel=1e-9)


def trained_network(config, finished):
    """The network of the first run after its last epoch, with frames and test part."""
    training = replace(config.arms()[0].train, output=str(finished / "networks"))
    frames = load(training.data.name, training.data.root, TIME_STEPS)
    test = read_split(training.split).indices(frames.names)["test"]
    net = build_network(training, frames)
    net.load_state_dict(RunFolder(training).load_checkpoint()["network"])
    return net, frames, test


def test_the_last_profile_is_that_of_the_trained_network(finished, config):
    net, frames, test = trained_network(config, finished)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    loader = batches(frames, test[order[: config.samples]], config.batch_size)
    expected = TemporalFisher(net, labels="empirical").measure(loader, progress=False)
    found = FisherResult.load(
        finished / "tau-2.0" / "true-labels" / f"epoch-{EPOCHS:03d}.npz"
    )
    assert found.samples == min(config.samples, len(test))
    torch.testing.assert_close(found.total, expected.total, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(found.prefix_loss, expected.prefix_loss)


def test_the_network_before_training_spikes(finished):
    found = FisherResult.load(finished / "tau-2.0" / "network" / "epoch-000.npz")
    # A silent one has information in its last bias alone, the same in every step.
    for layer, information in found.per_layer.items():
        assert float(information.min()) > 0, layer
    assert float(found.total.std()) > 0


def test_the_released_procedure_is_the_squared_mean_gradient(finished, config):
    net, frames, test = trained_network(config, finished)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    net.train()  # The host's neurons differentiate in training only, on one release.
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    squares = []
    size = config.released_batch_size
    for batch in batches(frames, test[order[: config.samples]], size):
        loss = torch.nn.functional.cross_entropy(
            net(batch.frames)[:2].mean(0), batch.target
        )
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        squares.append(sum(float(g.double().square().sum()) for g in gradients))
        for module in net.modules():
            if hasattr(module, "surrogate_function"):
                module.reset()
    found = FisherResult.load(
        finished / "tau-2.0" / "released" / f"epoch-{EPOCHS:03d}.npz"
    )
    assert float(found.total[1]) == pytest.approx(np.mean(squares), rel=1e-5)


def test_being_followed_changes_nothing_in_the_training(finished, config, tmp_path):
    training = config.arms()[0].train
    followed = RunFolder(replace(training, output=str(finished / "networks")))
    alone = train(replace(training, output=str(tmp_path)), Reporter.silent())
    for key in ("network", "optimizer", "rng"):
        found, expected = (
            torch.utils._pytree.tree_leaves(run.load_checkpoint()[key])
            for run in (followed, alone)
        )
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_the_summary_has_the_environment_and_a_row_a_run(finished, config):
    summary = json.loads((finished / "result.json").read_text())
    assert summary["environment"]["host"]
    assert [row[0] for row in summary["rows"]] == ["tau = 2.0", "tau = 3.0"]
    for run in summary["runs"]:
        network = finished / "networks" / run["network"]
        assert (network / "result.json").exists()
        assert run["profiles"].keys() == MEASUREMENTS.keys()
        assert len(run["profiles"]["stateless"]["2"]["information"]) == TIME_STEPS


def test_the_readme_table_has_a_row_a_run_with_its_circumstances(finished):
    summary = json.loads((finished / "result.json").read_text())
    # Tests may run outside a checkout.
    summary["environment"]["commit"] = "0123456789" * 4
    text = fisher_training(summary)
    assert text.count("\n| tau = ") == 2
    assert f"after {EPOCHS} epochs, exact on 12 test samples" in " ".join(text.split())
    assert "commit 0123456789" in text
    assert max(map(len, text.split("\n\n", 1)[1].splitlines())) <= 88


def centroids(before, after, error=0.1):
    return {
        str(epoch): {"centroid": value, "centroid_standard_error": error}
        for epoch, value in ((0, before), (10, after), (9, 99.0))
    }


def test_the_verdict_counts_what_standard_errors_can_tell_apart():
    def run(network, shuffled, null):
        names = ("network", "time-shuffled", "stateless", "true-labels", "released")
        return {
            "profiles": {
                name: centroids(*ends)
                for name, ends in zip(
                    names, (network, shuffled, null, shuffled, null), strict=True
                )
            }
        }

    runs = [
        run((5.0, 4.0), (5.0, 5.0), (5.0, 2.0)),  # Falls, below both.
        run((5.0, 4.0), (5.0, 4.1), (5.0, 2.0)),  # Falls as shuffled input does.
        run((5.0, 4.8), (5.0, 5.0), (5.0, 4.9)),  # Within two errors of each.
        run((5.0, 6.0), (5.0, 5.0), (5.0, 6.0)),  # Rises.
    ]
    text = _verdict(runs)
    assert "network in 2 of 4 runs and raised it in 1" in text
    assert "time-shuffled input in 1 and above it in 1" in text
    assert (
        "true labels it was lowered in 1, as the released procedure has it in 2."
        in text
    )
    assert text.endswith("in 2.")


def test_the_verdict_counts_no_shuffled_input_where_steps_are_equal():
    def run(**more):
        names = ("network", "stateless", "true-labels", "released")
        return {"profiles": {**dict.fromkeys(names, centroids(5.0, 4.0)), **more}}

    still, moving = run(), run(**{"time-shuffled": centroids(5.0, 4.9)})
    text = _verdict([still, still])
    assert "network in 2 of 2 runs" in text
    assert "time-shuffled input in" not in text
    assert "what is said rests on the stateless one. With true" in text
    assert (
        "that on time-shuffled input in 1 and above it in 0 of the 1 whose steps differ"
    ) in _verdict([still, moving])


@pytest.fixture(scope="module")
def still(words, tmp_path_factory):
    """The same study of recordings whose first step is shown at all steps, small."""
    real = fisher_runs.data.load_configured

    def images(settings):
        found = real(settings)
        first = found.frames[:, :1].expand_as(found.frames)
        return EventFrames(first, found.labels, found.names, found.classes)

    output = str(tmp_path_factory.mktemp("still"))
    less = ["--train.optimization.epochs", "1", "--sweep", "{}"]
    less += ["--train.data.resize", "16"]
    words = [*words, *less, "--output", output]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fisher_runs.data, "load_configured", images)
        assert main(["fisher", *words]) == 0
    return read(words).folder


def test_images_that_stand_still_are_not_held_against_shuffled_ones(still):
    rest = {*MEASUREMENTS} - {"time-shuffled"}
    assert {row["measurement"] for row in rows(still / "centroids.csv")} == rest
    assert not list(still.rglob("time-shuffled"))
    summary = json.loads((still / "result.json").read_text())
    column = summary["columns"].index("time-shuffled, after")
    assert {row[column] for row in summary["rows"]} == {"none: equal steps"}
    html = " ".join((still / "report.html").read_text().split())
    assert "the claim rests on the stateless null alone" in html
    assert "same network on time-shuffled input" not in html


def test_networks_and_null_are_measured_on_frames_as_they_were_trained_on(still):
    for name in ("network", "stateless"):
        (file,) = still.rglob(f"{name}/epoch-001.npz")
        assert FisherResult.load(file).total.isfinite().all()
    # Frames of another size than 16, which is halved thrice, would not fit.
    (snapshot,) = still.rglob("snapshots/epoch-001.pt")
    state = torch.load(snapshot, weights_only=True)["network"]
    (classifier,) = (weight for weight in state.values() if weight.ndim == 2)
    assert classifier.shape[1] == 8 * 2 * 2


def test_recordings_are_held_against_shuffled_ones(finished):
    html = " ".join((finished / "report.html").read_text().split())
    assert "same network on time-shuffled input" in html
    assert "rests on the stateless null" not in html


def test_shuffling_equal_steps_gives_the_same_input():
    image = torch.rand(1, 5, 2, 8, 8).expand(TIME_STEPS, -1, -1, -1, -1)
    shuffled = time_shuffled(image, torch.Generator().manual_seed(0))
    assert torch.equal(shuffled, image)


@pytest.mark.parametrize("copied", [False, True])
def test_equal_steps_are_seen_in_a_view_and_in_a_copy(copied):
    frames = torch.randint(0, 9, (3, 1, 2, 4, 4)).expand(-1, 6, -1, -1, -1)
    frames = frames.clone() if copied else frames
    assert steps_are_equal(frames)
    assert steps_are_equal(frames[:, :1])
    if copied:
        frames[2, 5, 1, 3, 3] += 1
        assert not steps_are_equal(frames)


def test_a_report_says_which_runs_stand_still():
    def one(label, names):
        arm = fisher_runs.Arm({}, label, label, None)
        return fisher_runs.Followed(arm, None, {name: {} for name in names})

    rest = {*MEASUREMENTS} - {"time-shuffled"}
    text = _criterion([one("cifar10", rest), one("events", MEASUREMENTS)])
    assert "further than that of the same network on time-shuffled input" in text
    assert "All steps of the data of cifar10 are equal" in text


def test_the_profiles_of_a_run_stand_beside_their_centroids(finished):
    measured = {
        name: {
            epoch: FisherResult.load(
                finished / "tau-2.0" / name / f"epoch-{epoch:03d}.npz"
            )
            for epoch in range(EPOCHS + 1)
        }
        for name in MEASUREMENTS
    }
    network, shuffled, stateless, centroid, _ = figures.profiles(measured, "").axes
    assert len(network.containers) == len(stateless.containers) == EPOCHS + 1
    assert network.get_ylim() == shuffled.get_ylim()
    drawn = [lines[0].get_ydata() for lines in centroid.containers]
    for name, found in zip(
        ("network", "time-shuffled", "stateless"), drawn, strict=True
    ):
        expected = [one.information_centroid for one in measured[name].values()]
        assert list(found) == pytest.approx(expected)
    _, ratio = figures.bias(measured, "").axes
    levels = [line.get_ydata()[0] for line in ratio.lines[-2:]]
    released = measured["released"][0]
    assert levels == [1.0, released.units / released.samples]


def test_a_complete_study_computes_nothing_again(finished, words, capsys):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*.*")}
    assert main(["fisher", *words]) == 0
    assert "already complete" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in finished.rglob("*.*")}


def test_a_killed_study_goes_on_with_what_is_missing(finished, words, tmp_path):
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    lost = [
        "result.json",
        "profiles.csv",
        "tau-3.0/time-shuffled/epoch-001.npz",
        "tau-3.0/released/epoch-002.npz",
        "tau-2.0/stateless/epoch-001.npz",
    ]
    for name in lost:
        (folder / name).unlink()
    kept = folder / "tau-3.0" / "network" / "epoch-001.npz"
    before = kept.stat().st_mtime_ns
    assert main(["fisher", *words, "--output", str(tmp_path)]) == 0
    assert kept.stat().st_mtime_ns == before
    for file in ("profiles.csv", "centroids.csv"):
        assert (folder / file).read_bytes() == (finished / file).read_bytes()


def test_a_damaged_snapshot_is_named(finished, words, tmp_path, capsys):
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    (folder / "result.json").unlink()
    (folder / "tau-2.0" / "network" / "epoch-001.npz").unlink()
    (folder / "tau-2.0" / "snapshots" / "epoch-001.pt").write_bytes(b"PK")
    assert main(["fisher", *words, "--output", str(tmp_path)]) == 2
    assert "epoch-001.pt is missing or damaged" in capsys.readouterr().err


def test_time_shuffling_gives_each_sample_an_order_of_its_own():
    frames = torch.arange(6.0)[:, None, None] + 10 * torch.arange(50.0)[None, :, None]
    found = time_shuffled(frames, torch.Generator().manual_seed(0))
    assert torch.equal(found.sort(0).values, frames)
    orders = {tuple(column) for column in (found[..., 0] % 10).T.tolist()}
    assert len(orders) > 40


def test_the_stateless_readout_sees_one_step_at_a_time():
    net = stateless_readout(8, 3)
    x = torch.randn(5, 2, 2, 2, 2)
    changed = x.clone()
    changed[1] += 1
    same = (net(x) == net(changed)).flatten(1).all(1)
    assert same.tolist() == [True, False, True, True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--every", "0"], "Expected `every` of at least 1, got 0"),
        (["--samples", "1"], "Expected `samples` of at least 2, got 1"),
        (["--train.name", "x"], r"Expected no key `train.name`"),
        (["--sweep", '{"output": ["a"]}'], "Expected no key `output` in `sweep`"),
        (["--sweep", '{"seed": []}'], r"Expected `sweep.seed` to hold different"),
        (["--sweep", '{"seed": [1, 1]}'], r"`sweep.seed` .* got \[1, 1\]"),
        (["--sweep", '{"data.time_step": [4]}'], "Did you mean `data.time_steps`"),
        (["--sweep", '{"data.time_steps": ["four"]}'], "`sweep`.*data.time_steps"),
        (["--train.optimization.epochs", "0"], "optimization.epochs"),
        (["--evry", "3"], "Did you mean `every`"),
    ],
)
def test_a_configuration_that_cannot_be_is_explained(arguments, message):
    with pytest.raises(ConfigError, match=message):
        read(arguments)


def test_a_sweep_makes_a_run_of_each_combination_of_any_keys():
    sweep = {
        "data": [{"name": "event_digits"}, {"name": "cifar10", "root": "elsewhere"}],
        "neuron.kwargs.tau": [2.0, 4.0],
        "optimization.lr": [0.01, 0.1],
    }
    found = FisherConfig(sweep=sweep).arms()
    assert len({arm.folder for arm in found}) == len(found) == 8
    assert found[-1].label == "cifar10, tau = 4.0, lr 0.1"
    last = found[-1].train
    assert (last.data.name, last.data.root) == ("cifar10", "elsewhere")
    assert (last.neuron.kwargs["tau"], last.optimization.lr) == (4.0, 0.1)
    assert last.data.time_steps == FisherConfig().train.data.time_steps


def test_a_sweep_can_change_one_thing_at_a_time():
    sweep = {
        "data.time_steps": [4],
        "neuron.kwargs.tau": [1.5, 4.0],
        "optimization": [{"optimizer": "sgd", "lr": 0.1}],
    }
    config = FisherConfig(sweep=sweep, combine="one_at_a_time")
    labels = [arm.label for arm in config.arms()]
    assert labels == ["as configured", "T = 4", "tau = 1.5", "tau = 4.0", "sgd, lr 0.1"]
    base, shorter, *_, last = (arm.train for arm in config.arms())
    assert base.data == config.train.data
    assert replace(shorter, name=base.name, data=base.data) == base
    assert last.neuron == base.neuron
    assert last.optimization == replace(base.optimization, optimizer="sgd", lr=0.1)


def test_a_run_that_is_as_configured_anyway_is_not_tried_twice():
    sweep = {"data.time_steps": [10]}
    with pytest.raises(ConfigError, match="differ, got as configured; T = 10"):
        FisherConfig(sweep=sweep, combine="one_at_a_time")


def test_the_last_epoch_is_measured_whatever_the_interval():
    config = read(["--every", "4", "--train.optimization.epochs", "10"])
    assert config.epochs(config.arms()[0]) == [0, 4, 8, 10]


def test_a_written_configuration_reads_back_the_same(config, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    again = read(["--config", str(file), "--output", config.output])
    assert again == config
    assert again.digest() == config.digest()


@pytest.mark.full
def test_optimizer_and_label_noise_can_be_swept(words, capsys):
    sweep = {
        "optimization": [{"optimizer": "adamw"}, {"optimizer": "sgd", "lr": 0.1}],
        "data.label_noise": [0.0, 0.5],
    }
    more = ["--sweep", json.dumps(sweep), "--train.optimization.epochs", "1"]
    config = read([*words, *more])
    assert main(["fisher", *words, *more]) == 0
    summary = json.loads((config.folder / "result.json").read_text())
    curves = {tuple(run["profiles"]["network"]["1"]["loss"]) for run in summary["runs"]}
    assert len(curves) == 4
    for before in ("network", "stateless"):
        start = [run["profiles"][before]["0"]["loss"] for run in summary["runs"]]
        assert all(loss == start[0] for loss in start)


def test_label_noise_changes_the_share_it_says_and_nothing_else(config):
    training = config.arms()[0].train
    frames = load(training.data.name, training.data.root, TIME_STEPS)
    indices = torch.arange(0, len(frames), 2)
    found = with_label_noise(frames, indices, 0.5, seed=0)
    wrong = (found.labels != frames.labels).nonzero().flatten()
    assert len(wrong) == round(0.5 * len(indices))
    assert set(wrong.tolist()) <= set(indices.tolist())
    assert torch.equal(with_label_noise(frames, indices, 0.0, 0).labels, frames.labels)
    with pytest.raises(ValueError, match=r"Expected `share` in \[0, 1\], got 2"):
        with_label_noise(frames, indices, 2, seed=0)


def test_the_null_under_label_noise_is_trained_on_wrong_labels_of_clean_steps(
    words, monkeypatch, tmp_path
):
    """Its steps are drawn for the true class; the label noise is that of the network.

    Drawn for the wrong class they would teach it nothing wrong: the classes would only
    be mixtures, and the null no null of a network that learns wrong labels.
    """
    config = read([*words, "--sweep", '{"data.label_noise": [0.5]}'])
    (arm,) = config.arms()
    training = arm.train
    given = {}

    def note(net, frames, parts, settings, seed, after_epoch, loss, **more):
        given.update(frames=frames, parts=parts, seed=seed)

    monkeypatch.setattr(fisher_runs, "train_in_memory", note)
    file = tmp_path / "epoch-000.npz"
    with Reporter.silent().bar("", 1, "") as bar:
        fisher_runs._Measured(config, arm).stateless({0: file}, bar)
    clean = load(training.data.name, training.data.root, TIME_STEPS)
    parts = read_split(training.split).indices(clean.names)
    steps = identical_steps(clean, parts, training.seed)
    assert torch.equal(given["frames"].frames, steps.frames)
    wrong = given["frames"].labels != clean.labels
    assert int(wrong.sum()) == round(0.5 * len(parts["train"]))
    assert not wrong[parts["test"]].any()
    assert not wrong[parts["validation"]].any()
    # The network's own labels are these very ones.
    noisy = with_label_noise(clean, parts["train"], 0.5, training.seed)
    assert torch.equal(given["frames"].labels, noisy.labels)
    for part in parts.values():
        for label in clean.labels[part].unique():
            members = part[clean.labels[part] == label]
            theirs = {
                step.numpy().tobytes() for step in clean.frames[members].flatten(0, 1)
            }
            for step in given["frames"].frames[members].flatten(0, 1):
                assert step.numpy().tobytes() in theirs


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda f: f.name)
def test_shipped_configurations_are_valid(file):
    config = read(["--config", str(file)])
    for arm in config.arms():
        assert config.epochs(arm)[-1] == arm.train.optimization.epochs
        assert math.isfinite(arm.train.optimization.lr)
