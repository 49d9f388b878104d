"""The robustness task trains, attacks, checks itself, reports, and goes on."""

import csv
import json
from pathlib import Path

import pytest
import torch

import benchmarks
from benchmarks import data
from benchmarks.__main__ import main
from benchmarks.report.readme.robustness import robustness_table
from benchmarks.runs.config import ConfigError
from benchmarks.runs.folder import RunFolder
from benchmarks.studies.networks import trained_network, trained_readout
from benchmarks.studies.robustness.config import read
from benchmarks.studies.robustness.summary import interval, summarized, verdict
from benchmarks.studies.robustness.trial import accuracy, test_batches
from benchmarks.studies.robustness.trials import networks, trial_file
from sj_ext.attack import attackable

from .conftest import TIME_STEPS

test_batches.__test__ = False
CONFIGS = Path(benchmarks.__file__).parent / "configs" / "robustness"
WEIGHTED = {"name": "temporally_weighted", "kwargs": {"start_epoch": 1}}
ARMS = {
    "base": {},
    "masked + weighted": {
        "surrogate.mask": {"name": "bernoulli", "p": 0.5},
        "readout": WEIGHTED,
    },
}
ATTACKS = {
    "linf": {
        "attack": {"name": "pgd", "steps": 2},
        "budgets": [0.1],
        "queries": 2,
    },
    "events": {"attack": {"name": "events", "steps": 2}, "budgets": [8]},
}


@pytest.fixture(scope="module")
def words(small_data, tmp_path_factory):
    settings = {
        "train.data.root": small_data.root,
        "train.data.split": small_data.split,
        "train.data.time_steps": TIME_STEPS,
        "train.model.kwargs.channels": "[A, A, 4, A]",
        "train.neuron.kwargs.v_threshold": 0.5,
        "train.optimization.epochs": 1,
        "train.optimization.batch_size": 16,
        "train.optimization.lr": 0.01,
        "train.device.accelerator": "cpu",
        "arms": json.dumps(ARMS),
        "attacks": json.dumps(ATTACKS),
        "probes": json.dumps(
            [None, *({"name": n} for n in ("ATan", "Erf", "Sigmoid"))]
        ),
        "seeds": "[0, 1]",
        "noise": "[0.5]",
        "blur": "[1.0]",
        "samples": 4,
        "batch_size": 3,
        "output": tmp_path_factory.mktemp("robustness"),
    }
    return [str(w) for k, v in settings.items() for w in (f"--{k}", v)]


@pytest.fixture(scope="module")
def config(words):
    return read(words)


@pytest.fixture(scope="module")
def finished(words, config):
    assert main(["robustness", *words]) == 0
    return config.folder


def result(folder):
    return json.loads((folder / "robustness-cpu.json").read_text())


def test_it_writes_table_plots_and_report(finished, config):
    names = {file.stem for file in (finished / "plots").glob("*.png")}
    assert names == {"budget", "steps", "checks", "surrogates", "corruptions"}
    html = (finished / "report.html").read_text()
    assert html.count("data:image/png;base64") == len(names)
    with (finished / "robustness.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["arm"] for row in rows} == set(ARMS)
    assert {row["measure"] for row in rows} >= {
        "worst case",
        "through ATan(alpha=2.0)",
        "black box",
        "transfer",
        "masked gradients",
    }
    assert read(["--config", str(finished / "config.yaml")]).attacks == config.attacks


def test_the_worst_case_is_that_of_the_trials(finished, config):
    found = result(finished)
    for arm, seed in networks(config):
        trial = json.loads(trial_file(config, arm, seed).read_text())
        for name in ATTACKS:
            one = trial["attacks"][name]
            place = config.seeds.index(seed)
            in_summary = found["arms"][arm]["attacks"][name]["accuracy"][place]
            assert in_summary == one["accuracy"]
            assert all(
                left <= min(alone)
                for left, alone in zip(one["accuracy"], one["by_probe"], strict=True)
            )
            assert ("masked_gradients" in one) is (arm == "masked + weighted")
            assert ("transfer" in one) is (arm != "base")
    assert found["checks"]["curves_fall"] is True


def test_what_is_attacked_answers_as_the_trained_network_with_its_readout(
    finished, config
):
    arm, seed = "masked + weighted", 1
    training = config.training(arm, seed)
    frames = data.load(training.data.name, training.data.root, TIME_STEPS)
    readout = trained_readout(training)
    checkpoint = RunFolder(training).load_checkpoint()
    assert int(readout.epoch) == int(checkpoint["selected"]["readout"]["epoch"])
    model = attackable(trained_network(training, frames), readout, bounds=(0, 255))
    everything = test_batches(read_more(config), training, frames)
    x, target = (torch.cat(part) for part in zip(*everything, strict=True))
    trial = json.loads(trial_file(config, arm, seed).read_text())
    assert accuracy(model, x, target, 5) == pytest.approx(trial["test_accuracy"])


def read_more(config):
    config = read(["--config", str(config.folder / "config.yaml")])
    config.samples = 10_000
    return config


def test_a_lost_trial_alone_is_done_again_and_is_the_same(finished, words, config):
    files = {network: trial_file(config, *network) for network in networks(config)}
    lost = files["masked + weighted", 0]
    before = json.loads(lost.read_text())
    times = {n: f.stat().st_mtime_ns for n, f in files.items() if f != lost}
    lost.unlink()
    assert main(["robustness", *words]) == 0
    again = json.loads(lost.read_text())
    assert before | {"cpu_seconds": 0} == again | {"cpu_seconds": 0}
    assert all(files[n].stat().st_mtime_ns == t for n, t in times.items())


def test_the_readme_says_what_the_study_found(finished):
    found = result(finished)
    found["environment"]["commit"] = found["environment"]["commit"] or "0" * 40
    text = robustness_table(found)
    assert "| masked + weighted |" in text
    assert "through its own random" in " ".join(text.split())
    assert max(map(len, text.split("\n\n")[1].splitlines())) <= 88


def a_trial(arm, seed, left, **more):
    attack = {
        "probes": ["own"],
        "budgets": [1.0],
        "clean_accuracy": 1.0,
        "accuracy": [left],
        "by_probe": [[left]],
        "curve": [[1.0, left]],
        "raw_curve": [[[1.0, left]]],
        **more,
    }
    return {
        "arm": arm,
        "seed": seed,
        "test_accuracy": 0.9,
        "samples": 10,
        "attacks": {"linf": attack},
        "corruptions": {},
    }


@pytest.fixture
def simple(words):
    attacks = {"linf": {"attack": {"name": "pgd"}, "budgets": [1.0]}}
    arms = {"base": {}, "masked": {"surrogate.mask": {"name": "bernoulli", "p": 0.5}}}
    more = ["--attacks", json.dumps(attacks), "--arms", json.dumps(arms)]
    return read([*words, *more])


@pytest.mark.parametrize(
    ("left", "word"),
    [((0.70, 0.72), "more robust"), ((0.1, 0.12), "less robust"), ((0.3, 0.7), "told")],
)
def test_an_arm_is_more_robust_only_where_the_interval_says_so(simple, left, word):
    trials = [a_trial("base", s, 0.5) for s in (0, 1)]
    trials += [a_trial("masked", s, left[s], masked_gradients=[0.9]) for s in (0, 1)]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert word in sentences
    survives = "An advantage over it survives" in sentences
    assert survives is (word == "more robust")
    assert ("That contradicts it." in sentences) is (word == "less robust")


def test_an_attack_that_beats_the_gradients_is_reported(simple):
    trials = [a_trial("base", s, 0.5, black_box=[0.3 + 0.4 * s]) for s in (0, 1)]
    trials += [a_trial("masked", s, 0.5, transfer=[0.5]) for s in (0, 1)]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert "Random search without gradients finds more" in sentences
    assert "in 1 of 2 cases, by at most 20.0 points" in sentences
    assert "of the same seed finds more than the gradient attacks in none of 2" in (
        sentences
    )


def test_the_interval_is_that_of_student():
    found = interval([0.1, 0.2, 0.6])
    assert found["mean"] == pytest.approx(0.3)
    half = 4.302653 * 0.2645751 / 3**0.5
    assert found["high"] - found["mean"] == pytest.approx(half, rel=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seeds", "[3]"], "`seeds` to be different numbers"),
        (["--probes", "[null]"], "at least four `probes`"),
        (["--reference", "x"], "`reference` to be one of base"),
        (["--attacks", "{}"], "at least one of `attacks`"),
        (["--arms", '{"base": {"optimizer.lr": 1}}'], r"`arms.base`: Unknown key"),
        (["--train.seed", "3"], "no key `train.seed`"),
        (
            ["--attacks", '{"a": {"attack": {"name": "pgd"}, "budgets": [2, 1]}}'],
            r"`attacks.a.budgets` to increase",
        ),
        (
            ["--attacks", '{"a": {"attack": {"name": "nn"}, "budgets": [1]}}'],
            r"`attacks.a`.*name of a attack",
        ),
    ],
)
def test_what_no_study_can_have_is_refused_by_its_key(words, more, message):
    with pytest.raises(ConfigError, match=message):
        read([*words, *more])


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda f: f.stem)
def test_the_configurations_of_the_package_are_valid(file):
    config = read(["--config", str(file)])
    assert len(config.seeds) >= 3
    assert {"base", "masked", "masked + weighted"} <= set(config.arms)
