"""The cka task trains twins, compares them, and shows ceiling and floor."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks.__main__ import main
from benchmarks.data import load
from benchmarks.data.batches import batches as load_batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.splits import read_split
from benchmarks.models import feature_layers
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import ModelConfig, TrainConfig
from benchmarks.runs.progress import Reporter
from benchmarks.studies.cka import attacked, comparisons
from benchmarks.studies.cka.arms import arms
from benchmarks.studies.cka.attacked import KINDS, elsewhere
from benchmarks.studies.cka.config import CkaConfig, read
from benchmarks.studies.networks import trained_network, untrained_network
from benchmarks.tasks.train import train
from sj_ext.cka import CKAResult

from .conftest import TIME_STEPS

CONFIGS = Path(benchmarks.__file__).parent / "configs" / "cka"
LAYERS = 31  # of a pre-activation ResNet-8 with shortcuts
PLAIN = LAYERS - 6


@pytest.fixture(scope="module")
def words(small_data, tmp_path_factory):
    settings = {
        "train.data.root": small_data.root,
        "train.data.split": small_data.split,
        "train.data.time_steps": TIME_STEPS,
        "train.model.name": "preactivation_resnet",
        "train.model.kwargs.depth": 8,
        "train.model.kwargs.width": 0.25,
        "train.neuron.kwargs.v_threshold": 0.5,
        "train.optimization.epochs": 1,
        "train.optimization.batch_size": 8,
        "train.optimization.lr": 0.01,
        "train.device.accelerator": "cpu",
        "sweep.residual": "[true, false]",
        "attack": '{"name": "fgsm", "budget": 0.5}',
        "batch_size": 4,
        "resamples": 20,
        "output": tmp_path_factory.mktemp("cka"),
    }
    return [str(w) for k, v in settings.items() for w in (f"--{k}", v)]


@pytest.fixture(scope="module")
def config(words):
    return read(words)


@pytest.fixture(scope="module")
def finished(words, config):
    assert main(["cka", *words]) == 0
    (folder,) = (
        path
        for path in os.scandir(config.output)
        if path.name != "networks" and path.is_dir()
    )
    return Path(folder.path)


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_figures_are_written(finished):
    names = {file.stem for file in (finished / "plots").glob("*.png")}
    assert names == {
        "snn_against_ann_residual",
        "snn_against_ann_plain",
        "residual_against_plain",
        "time_against_depth",
        "clean_against_attacked_residual",
        "clean_against_attacked_plain",
    }
    assert (finished / "report.html").read_text().count("data:image/png;base64") == 6


def test_every_layer_has_its_ceiling_and_its_floor(finished):
    found = rows(finished / "similarity.csv")
    assert {(row["curve"], row["role"]) for row in found} == {
        ("SNN and ANN", "main"),
        ("two SNNs", "ceiling"),
        ("two ANNs", "ceiling"),
        ("untrained SNN and ANN", "floor"),
        ("SNN and ANN, permuted samples", "floor"),
    }
    assert len(found) == 5 * (LAYERS + PLAIN)
    changes = rows(finished / "time.csv")
    assert len({row["curve"] for row in changes}) == 6
    assert len(changes) == 6 * (LAYERS + PLAIN)


def test_the_figures_are_those_of_the_saved_results(finished):
    result = CKAResult.load(finished / "residual" / "snn-ann.npz")
    shown = [
        float(row["cka"])
        for row in rows(finished / "similarity.csv")
        if (row["arm"], row["curve"]) == ("residual", "SNN and ANN")
    ]
    np.testing.assert_array_equal(shown, result.cka.diagonal())
    assert len(rows(finished / "residual" / "snn-ann.csv")) == LAYERS**2


def test_the_summary_says_which_networks_on_what(finished, config):
    summary = json.loads((finished / "result.json").read_text())
    assert summary["environment"]["host"]
    assert [arm["label"] for arm in summary["arms"]] == ["residual", "plain"]
    for arm in summary["arms"]:
        assert len(arm["networks"]) == 4
        for name in arm["networks"]:
            assert (finished.parent / "networks" / name / "result.json").exists()
        assert abs(arm["mean_cka"]["SNN and ANN, permuted samples"]) < 0.5
        assert arm["mean_cka"]["two ANNs"] > 0.5


def test_different_seeds_are_compared_so_that_equal_weights_do_not_count():
    pairs = [c for c in comparisons.COMPARISONS.values() if c.y is not None]
    assert pairs
    assert all(pair.x.seed != pair.y.seed for pair in pairs)


def test_a_complete_comparison_computes_nothing_again(finished, words, capsys):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*.*")}
    assert main(["cka", *words]) == 0
    assert "already complete" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in finished.rglob("*.*")}


def test_a_killed_comparison_goes_on_with_what_is_missing(
    finished, config, words, tmp_path
):
    output = tmp_path / "again"
    shutil.copytree(config.output, output)
    folder = output / finished.name
    for lost in ("result.json", "plain/permuted.npz", "similarity.csv"):
        (folder / lost).unlink()
    kept = folder / "plain" / "snn-ann.npz"
    before = kept.stat().st_mtime_ns
    assert main(["cka", *words, "--output", str(output)]) == 0
    assert kept.stat().st_mtime_ns == before
    for file in ("similarity.csv", "time.csv"):
        assert (folder / file).read_bytes() == (finished / file).read_bytes()


def test_networks_are_those_that_training_selected(finished, config):
    (training, _), frames = arms(config)[0].snn, small_frames(config)
    net = trained_network(training, frames)
    test = read_split(training.split).indices(frames.names)["test"]
    (batch,) = load_batches(frames, test, len(test))
    (run,) = (finished.parent / "networks").glob(f"{training.name}-*")
    with np.load(run / "predictions.npz") as saved, torch.no_grad():
        expected = torch.from_numpy(saved["logits_selected"]).transpose(0, 1)
    torch.testing.assert_close(net(batch.frames).detach(), expected)


def test_an_untrained_network_has_the_first_weights_and_measured_statistics(config):
    training, frames = arms(config)[0].ann[0], small_frames(config)
    (batch,) = load_batches(frames, torch.arange(16), 16)
    state = torch.get_rng_state()
    net = untrained_network(training, frames, [batch.frames])
    again = untrained_network(training, frames, [batch.frames])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net.conv.weight, again.conv.weight)
    assert not net.training
    with torch.no_grad():
        normalized = net.bn(net.conv(batch.frames))
    moments = normalized.mean((0, 1, 3, 4)), normalized.var((0, 1, 3, 4))
    torch.testing.assert_close(moments[0], torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(moments[1], torch.ones(4), atol=1e-2, rtol=0)


def small_frames(config):
    return load(config.train.data.name, config.train.data.root, TIME_STEPS)


def test_twins_of_an_arm_differ_in_neuron_and_surrogate_alone(config):
    for arm in arms(config):
        for snn, ann in zip(arm.snn, arm.ann, strict=True):
            differing = {
                key for key in vars(snn) if getattr(snn, key) != getattr(ann, key)
            }
            assert differing == {"name", "neuron"}
            assert ann.neuron.name == "ReLU"


def test_a_sweep_makes_an_arm_of_each_combination():
    config = CkaConfig(
        train=TrainConfig(model=ModelConfig("preactivation_resnet")),
        sweep=read(
            ["--sweep.depth", "[8, 14]", "--sweep.time_steps", "[2, 3, 4]"]
        ).sweep,
    )
    found = arms(config)
    assert [arm.label for arm in found][:2] == ["depth 8, T = 2", "depth 8, T = 3"]
    assert len({arm.folder for arm in found}) == len(found) == 6
    last = found[-1].ann[1]
    assert (last.model.kwargs["depth"], last.data.time_steps) == (14, 4)


def test_comparisons_share_networks_whether_a_value_is_swept_or_not(config):
    swept = arms(config)[0].snn[0]
    fixed = read(
        [
            *("--train.model.kwargs", '{"depth": 8, "width": 0.25, "residual": true}'),
            *("--train.data.split", config.train.data.split),
            *("--train.data.time_steps", str(TIME_STEPS)),
            *("--train.model.name", "preactivation_resnet"),
        ]
    )
    other = arms(fixed)[0].snn[0]
    assert other.name == swept.name
    assert other.model.kwargs == swept.model.kwargs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "[0]"], "Expected `seeds` to be two different numbers"),
        (["--seeds", "[3, 3]"], "Expected `seeds` to be two different numbers"),
        (["--batch_size", "3"], "Expected `batch_size` of at least 4, got 3"),
        (["--resamples", "0"], "Expected `resamples` of at least 1, got 0"),
        (["--sweep.depth", "[]"], r"Expected `sweep.depth` to hold different values"),
        (["--sweep.depth", "[8, 8]"], r"Expected `sweep.depth` .* got \[8, 8\]"),
        (["--train.seed", "3"], r"Expected no key `train.seed`"),
        (["--train.optimization.epochs", "0"], "optimization.epochs"),
        (["--sweeps.depth", "[8]"], "sweeps.depth"),
        (["--sweep.depth", "[deep]"], "sweep.depth"),
        (
            ["--sweep.depth", "[8]", "--train.model.kwargs.depth", "8"],
            "Expected `depth` in `sweep` or in `train.model.kwargs`, got both",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_explained(arguments, message):
    with pytest.raises(ConfigError, match=message):
        read(arguments)


def test_a_written_configuration_reads_back_the_same(config, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    again = read(["--config", str(file), "--output", config.output])
    assert again == config
    assert again.digest() == config.digest()


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda f: f.name)
def test_shipped_configurations_are_valid(file):
    for arm in arms(read(["--config", str(file)])):
        assert {arm.snn[0].neuron.name, arm.ann[0].neuron.name} == {"LIFNode", "ReLU"}


def test_feature_layers_are_what_is_compared(finished, config):
    result = CKAResult.load(finished / "residual" / "snn-snn.npz")
    assert len(result.layers_x) == LAYERS
    net = trained_network(arms(config)[0].snn[0], small_frames(config))
    assert result.layers_x == tuple(feature_layers(net))


def test_each_layer_is_compared_with_itself_under_attack(finished):
    found = rows(finished / "attacked.csv")
    networks = [f"{arm}, {kind}" for arm in ("residual", "plain") for kind in KINDS]
    assert list(dict.fromkeys(row["arm"].lower() for row in found)) == networks
    assert {(row["curve"], row["role"]) for row in found} == {
        ("clean and attacked", "main"),
        ("the same changes elsewhere", "ceiling"),
        ("clean, permuted samples", "floor"),
    }
    assert len(found) == 2 * 3 * (LAYERS + PLAIN)
    for arm in json.loads((finished / "result.json").read_text())["arms"]:
        for kind, left in arm["accuracy_under_attack"].items():
            assert left["attacked"] <= left["clean"]
            means = arm["mean_cka_under_attack"][kind.upper()]
            # A spiking network of one epoch may not notice such changes at all.
            assert means["clean and attacked"] <= 1 - 1e-3 * (kind == "ann") + 1e-9
            assert (
                means["clean, permuted samples"] < means["the same changes elsewhere"]
            )


@pytest.mark.parametrize("stands_still", [True, False])
def test_what_is_attacked_is_what_the_network_sees_and_one_image_if_it_stands_still(
    words, tmp_path, monkeypatch, stands_still
):
    perturb = attacked.perturb
    load = comparisons.data.load_configured
    shapes = []

    def frames(settings):
        found = load(settings)
        if not stands_still:
            return found
        first = found.frames[:, :1].expand_as(found.frames)
        return EventFrames(first, found.labels, found.names, found.classes)

    def noted(model, x, *arguments, **more):
        shapes.append(tuple(x.shape[1:]))
        return perturb(model, x, *arguments, **more)

    monkeypatch.setattr(comparisons.data, "load_configured", frames)
    monkeypatch.setattr(attacked, "perturb", noted)
    more = ["--output", str(tmp_path), "--train.data.resize", "16"]
    # As many samples as steps could not be told from them.
    more += ["--batch_size", str(TIME_STEPS + 1)]
    # It refuses steps that differ.
    more += ["--train.model.kwargs.direct_coding", str(stands_still).lower()]
    config = read([*words, *more, "--sweep.residual", "[true]"])
    (arm,) = arms(config)
    train(arm.snn[0], Reporter.silent())
    attacked._compare("snn", arm, config, comparisons.Samples(arm, config), tmp_path)
    steps = () if stands_still else (TIME_STEPS,)
    assert set(shapes) == {(*steps, 2, 16, 16)}
    assert CKAResult.load(tmp_path / "attacked-snn.npz").layers_x


def test_the_ceiling_has_the_same_changes_at_other_places():
    x = torch.rand(3, 4, 2, 5, 5)
    new = x + 0.1 * torch.randn(3, 4, 2, 5, 5)
    moved = elsewhere(x, new, (-9.0, 9.0), seed=1)
    for before, after in zip((new - x).flatten(1), (moved - x).flatten(1), strict=True):
        torch.testing.assert_close(before.sort().values, after.sort().values)
    assert torch.equal(moved, elsewhere(x, new, (-9.0, 9.0), seed=1))
    assert not torch.allclose(moved, new)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ('{"name": "pgd"}', "`attack.budget` to be positive, got None"),
        ('{"name": "gp", "budget": 1}', "`attack`: .*'gp'"),
    ],
)
def test_an_attack_that_is_none_is_refused(words, attack, message):
    with pytest.raises(ConfigError, match=message):
        read([*words, "--attack", attack])
