"""The robustness task trains, attacks, checks itself, reports, and goes on."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks import data
from benchmarks.__main__ import main
from benchmarks.data.frames import EventFrames
from benchmarks.report.readme.robustness import robustness_table
from benchmarks.runs.config import ConfigError
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter
from benchmarks.statistics.holm import holm
from benchmarks.studies.inputs import as_attacked, as_tested, bounds_of, repeats
from benchmarks.studies.networks import trained_network, trained_readout
from benchmarks.studies.robustness.config import read
from benchmarks.studies.robustness.summary import interval, summarized, verdict
from benchmarks.studies.robustness.trial import (
    accuracy,
    masked_gradients,
    test_batches,
)
from benchmarks.studies.robustness.trials import networks, trial_file
from benchmarks.tasks.robustness import attack
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
    took = result(finished)["wall_seconds"]
    assert took["training"] > 0
    assert took["attacks"] > 0
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
            for key in ("masked_gradients", "unmasked_gradients"):
                assert (key in one) is (arm == "masked + weighted")
            shares = np.mean(one["correct"], axis=1)
            np.testing.assert_allclose(shares, one["accuracy"])
            assert ("transfer" in one) is (arm != "base")


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
    ((x, target),) = test_batches(read_more(config), training, frames)
    x = as_attacked(model, x)
    trial = json.loads(trial_file(config, arm, seed).read_text())
    assert accuracy(model, x, target, 5) == pytest.approx(trial["test_accuracy"])


def read_more(config):
    config = read(["--config", str(config.folder / "config.yaml")])
    config.samples = config.batch_size = 10_000
    return config


def test_a_lost_trial_alone_is_done_again_and_is_the_same(finished, words, config):
    files = {network: trial_file(config, *network) for network in networks(config)}
    lost = files["masked + weighted", 0]
    before = json.loads(lost.read_text())
    times = {n: f.stat().st_mtime_ns for n, f in files.items() if f != lost}
    lost.unlink()
    assert main(["robustness", *words]) == 0
    again = json.loads(lost.read_text())
    took = {"cpu_seconds": 0, "wall_seconds": 0}
    assert before | took == again | took
    assert all(files[n].stat().st_mtime_ns == t for n, t in times.items())


def test_the_readme_says_what_the_study_found(finished):
    found = result(finished)
    found["environment"]["commit"] = found["environment"]["commit"] or "0" * 40
    text = robustness_table(found)
    assert "| masked + weighted |" in text
    assert "linf 1 and 2 queries, events 1 and no random search" in " ".join(
        text.split()
    )
    assert "through its own random" in " ".join(text.split())
    assert max(map(len, text.split("\n\n")[1].splitlines())) <= 88


def test_more_steps_are_tried_through_the_strongest_surrogate(finished, config):
    for network in networks(config):
        trial = json.loads(trial_file(config, *network).read_text())
        for name, settings in config.attacks.items():
            found = trial["attacks"][name]
            longer = found["more_steps"]
            number = settings.budgets.index(longer["budget"])
            assert longer["steps"] == 3 * settings.attack["steps"]
            # One budget: what is found there alone is what is found up to it.
            assert longer["before"] == min(found["by_probe"][number])
            assert longer["worst_before"] == found["accuracy"][number]
            assert longer["worst_after"] <= min(longer["worst_before"], longer["after"])


@pytest.mark.parametrize("norm", ["linf", "events"])
def test_an_attack_through_masks_does_not_depend_on_the_global_state(
    finished, config, norm
):
    training = config.training("masked + weighted", 0)
    frames = data.load_configured(training.data)
    readout = trained_readout(training)
    top = float(frames.frames.max())
    model = attackable(trained_network(training, frames), readout, bounds=(0, top))
    loaded = [
        (as_attacked(model, x), target)
        for x, target in test_batches(config, training, frames)
    ]
    drawn = []
    for state in (1, 2):
        torch.manual_seed(state)
        inputs = []
        model.register_forward_hook(lambda _, x, __, kept=inputs: kept.append(x[0]))
        masked_gradients(model, loaded, config, config.attacks[norm])
        model._forward_hooks.clear()
        drawn.append(inputs)
    assert len(drawn[0]) == len(drawn[1]) > 2
    assert all(map(torch.equal, *drawn))


def test_what_was_found_elsewhere_counts_as_the_worst_case_does(finished, config):
    for network in networks(config):
        trial = json.loads(trial_file(config, *network).read_text())
        for found in trial["attacks"].values():
            for key in ("transfer", "masked_gradients"):
                left = found.get(key, [])
                assert all(share <= found["clean_accuracy"] for share in left)
                assert left == sorted(left, reverse=True)


@pytest.fixture(scope="module")
def still(words, tmp_path_factory):
    """The same study of recordings whose first step is shown at all steps."""
    real = data.load_configured

    def images(settings):
        found = real(settings)
        first = found.frames[:, :1].expand_as(found.frames)
        return EventFrames(first, found.labels, found.names, found.classes)

    output = str(tmp_path_factory.mktemp("still"))
    more = ["--output", output, "--train.data.resize", "16"]
    attacks = {"linf": ATTACKS["linf"]}
    config = read([*words, *more, "--attacks", json.dumps(attacks)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(data, "load_configured", images)
        attack(config, Reporter.silent())
        yield config


def test_where_steps_are_equal_one_image_is_attacked_and_no_half_is_corrupted(still):
    frames = data.load_configured(still.train.data)
    assert repeats(frames) == TIME_STEPS
    for arm, seed in networks(still):
        trial = json.loads(trial_file(still, arm, seed).read_text())
        assert set(trial["corruptions"]) == {"noise, all steps", "blur, all steps"}
    # Samples, channels, and the size to which the training resizes.
    kept = torch.load(still.folder / "transfer-seed-0.pt", weights_only=True)
    assert kept["linf"].shape == (1, still.samples, 2, 16, 16)
    assert (still.folder / "plots" / "corruptions.png").exists()


def test_inputs_are_transformed_as_in_the_training_and_so_are_their_bounds(still):
    frames = data.load_configured(still.train.data)
    small = replace(still.train.data, resize=5)
    shown = [b.frames for b in as_tested(small, frames, torch.arange(len(frames)), 7)]
    assert shown[0].shape[2:] == (2, 5, 5)
    most = max(float(part.max()) for part in shown)
    assert bounds_of(small, frames) == (0.0, most)
    plain = replace(small, resize=None)
    assert bounds_of(plain, frames) == (0.0, float(frames.frames.max()))
    assert most < float(frames.frames.max())


def test_events_of_resized_recordings_are_refused(words, tmp_path):
    attacks = {"events": ATTACKS["events"]}
    more = ["--output", str(tmp_path), "--train.data.resize", "15", "--seeds", "[0, 1]"]
    config = read([*words, *more, "--attacks", json.dumps(attacks)])
    with pytest.raises(ValueError, match="Expected event counts, whole numbers"):
        attack(config, Reporter.silent())


SEEDS = (0, 1, 2)
SAMPLES = 50
THROUGH_MASKS = {"masked_gradients": [0.9], "unmasked_gradients": [0.8]}
TRAINED = {
    "base": {},
    "masked": {"surrogate.mask": {"name": "bernoulli", "p": 0.5}},
    "wide": {"optimization.lr": 0.5},
}


def a_trial(arm, seed, left, **more):
    right = round(left * SAMPLES)
    attack = {
        "correct": [[1] * right + [0] * (SAMPLES - right)],
        "vanished": [[0.0]],
        "last_above_best": 0.0,
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
        "samples": SAMPLES,
        "centroid": 5.0 + 0.1 * seed,
        "attacks": {"linf": attack},
        "corruptions": {},
    }


@pytest.fixture
def simple(words):
    attack = {"attack": {"name": "pgd"}, "budgets": [1.0], "queries": 7}
    arms = {"base": {}, "masked": TRAINED["masked"]}
    more = ["--attacks", json.dumps({"linf": attack}), "--arms", json.dumps(arms)]
    return read([*words, *more, "--seeds", "[0, 1, 2]"])


@pytest.mark.parametrize(
    ("left", "word"),
    [
        ((0.70, 0.72, 0.74), "more robust"),
        ((0.1, 0.12, 0.1), "less robust"),
        ((0.3, 0.7, 0.5), "told"),
    ],
)
def test_an_arm_is_more_robust_only_where_seeds_and_samples_say_so(simple, left, word):
    trials = [a_trial("base", s, 0.5) for s in SEEDS]
    trials += [a_trial("masked", s, left[s], **THROUGH_MASKS) for s in SEEDS]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert word in sentences
    survives = "An advantage over it survives" in sentences
    assert survives is (word == "more robust")
    assert ("That contradicts it." in sentences) is (word == "less robust")


def test_one_sample_that_all_seeds_agree_on_is_no_difference(simple):
    """Seeds see the same samples: that they agree says nothing of other samples."""
    trials = [a_trial("base", s, 0.5) for s in SEEDS]
    trials += [a_trial("masked", s, 0.52) for s in SEEDS]
    (found,) = summarized(trials, simple)["differences"]
    assert found["linf"]["mean"] == pytest.approx(0.02)
    assert found["linf"]["low"] < 0 < found["linf"]["high"]
    assert "masked 52.0% (+2.0 points" in " ".join(verdict(summarized(trials, simple)))


def test_p_values_of_all_attacks_are_one_family(simple):
    simple.arms = arms = dict(TRAINED)
    trials = [
        a_trial(arm, s, 0.5 + 0.1 * number)
        for number, arm in enumerate(arms)
        for s in SEEDS
    ]
    found = summarized(trials, simple)["differences"]
    raw = [one["linf"]["p_value"] for one in found]
    assert [one["linf"]["adjusted"] for one in found] == holm(raw)
    assert len(raw) == 2


def test_a_pair_of_other_arms_is_compared_where_it_is_asked_for(simple):
    simple.arms = dict(TRAINED)
    simple.contrasts = [["wide", "masked"]]
    left = {"base": 0.5, "masked": 0.5, "wide": 0.8}
    trials = [a_trial(arm, s, left[arm]) for arm in TRAINED for s in SEEDS]
    sentences = verdict(summarized(trials, simple))
    assert any(
        one.startswith("wide beside masked, at the same budgets: linf +30.0 points")
        and "more robust" in one
        for one in sentences
    )


@pytest.mark.parametrize(
    ("centroids", "word", "tests"),
    [((4.0, 4.2, 4.1), "earlier", True), ((4.5, 5.0, 5.6), "not told apart", False)],
)
def test_networks_whose_centroid_did_not_move_test_nothing(
    simple, centroids, word, tests
):
    name = "concentrated early"
    simple.arms = {"base": {}, name: {"optimization.lr": 0.5}}
    trials = [a_trial("base", s, 0.5) for s in SEEDS]
    trials += [a_trial(name, s, 0.5) | {"centroid": centroids[s]} for s in SEEDS]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert f"{name} {sum(centroids) / 3:.2f} (" in sentences
    assert f": {word}); each by itself." in sentences
    assert ("so that it tests nothing" in sentences) is not tests


@pytest.mark.parametrize("missing", ["base", "concentrated early"])
def test_without_a_centroid_the_claim_is_not_tested_and_all_else_is_told(
    simple, missing
):
    name = "concentrated early"
    simple.arms = {"base": {}, name: {"optimization.lr": 0.5}}
    trials = [
        a_trial(arm, s, 0.5) | ({"centroid": None} if arm == missing else {})
        for arm in simple.arms
        for s in SEEDS
    ]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert f"of {name} no centroid was measured, so that it tests nothing" in sentences
    assert "Information centroid" not in sentences


@pytest.mark.parametrize("reference", ["masked", "concentrated early"])
def test_any_arm_can_be_the_reference(simple, reference):
    simple.arms = {
        "base": {},
        "masked": TRAINED["masked"],
        "concentrated early": {"optimization.lr": 0.5},
    }
    simple.reference = reference
    trials = [
        a_trial(arm, s, 0.5, **(THROUGH_MASKS if arm == "masked" else {}))
        for arm in simple.arms
        for s in SEEDS
    ]
    assert f"{reference} keeps 50.0%" in verdict(summarized(trials, simple))[0]


def test_runs_that_are_alike_but_for_rounding_do_not_differ():
    found = interval(np.array([[0.1], [0.3 - 0.2], [0.1]]))
    assert found["p_value"] is None


def test_corruptions_and_vanished_gradients_are_told(simple):
    more = {"corruptions": {"noise, all steps": [0.9, 0.4]}}
    trials = [
        a_trial(arm, s, 0.5, vanished=[[0.25 * s]]) | more
        for arm in ("base", "masked")
        for s in SEEDS
    ]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert "Under the strongest noise, all steps, which nobody chooses: base 40.0%" in (
        sentences
    )
    assert (
        "Of the gradients 25.0% were zero for the whole of a sample, at most 50.0%"
        in (sentences)
    )


def test_an_attack_that_beats_the_gradients_is_reported(simple):
    found = (0.3, 0.7, 0.3)
    trials = [a_trial("base", s, 0.5, black_box=[found[s]]) for s in SEEDS]
    trials += [a_trial("masked", s, 0.5, transfer=[0.5]) for s in SEEDS]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert "Random search without gradients (7 queries) finds more" in sentences
    assert "in 2 of 3 cases, by at most 20.0 points" in sentences
    assert "of the same seed finds more than the gradient attacks in none of 3" in (
        sentences
    )


def test_a_network_that_two_surrogates_attack_alike_is_a_tie(simple):
    trials = []
    for arm in ("base", "masked"):
        for seed, other in ((0, 0.5), (1, 0.6), (2, 0.6)):
            one = a_trial(arm, seed, 0.5)
            one["attacks"]["linf"] |= {
                "probes": ["own", "ATan"],
                "by_probe": [[0.5, other]],
            }
            trials.append(one)
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert "own 4, ATan 0, tied 2" in sentences


def test_what_masks_alone_hide_is_told_from_what_the_surrogate_does(simple):
    trials = [a_trial("base", s, 0.5) for s in SEEDS]
    trials += [
        a_trial("masked", s, 0.3, masked_gradients=[0.6], unmasked_gradients=[0.45])
        for s in SEEDS
    ]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert (
        "seems to keep 60.0%; by the same attack without them 45.0%; the worst "
        "case through dense surrogates leaves 30.0%"
    ) in sentences


def test_more_steps_that_find_more_are_reported(simple):
    longer = {"before": 0.5, "worst_before": 0.4}
    found = [
        longer | {"after": 0.3, "worst_after": 0.3},
        longer | {"after": 0.6, "worst_after": 0.4},
        longer | {"after": 0.45, "worst_after": 0.4},
    ]
    trials = [
        a_trial(arm, s, 0.5, more_steps=found[s])
        for arm in ("base", "masked")
        for s in SEEDS
    ]
    sentences = " ".join(verdict(summarized(trials, simple)))
    assert "leaves -5.0 points beside what it left before (-20.0 to +10.0)" in sentences
    assert "worst case in 2 of 6 cases, by at most 10.0 points" in sentences


def test_of_figures_of_whole_runs_the_interval_is_that_of_student():
    found = interval(np.array([[0.1], [0.2], [0.6]]))
    assert found["mean"] == pytest.approx(0.3)
    half = 4.302653 * 0.2645751 / 3**0.5
    assert found["high"] - found["mean"] == pytest.approx(half, rel=0.02)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seeds", "[3]"], "`seeds` to be different numbers"),
        (["--probes", "[null]"], "at least four `probes`"),
        (
            ["--probes", '[null, null, {"name": "Erf"}, {"name": "Sigmoid"}]'],
            r"at least four `probes` that differ.*, got Erf.* for 'base'",
        ),
        (["--probes", '[{"name": "Nobody"}]'], "`probes`: .*'Nobody'"),
        (["--contrasts", '[["base", "base"]]'], "`contrasts` to be pairs of different"),
        (
            ["--contrasts", '[["masked + weighted", "base"]]'],
            "beside the reference, of masked",
        ),
        (
            [
                "--attacks",
                '{"a": {"attack": {"name": "fgsm"}, "budgets": [1], "restarts": 2}}',
            ],
            r"`attacks.a.restarts` to be 1 where nothing is drawn, got 2",
        ),
        (["--reference", "x"], "`reference` to be one of base"),
        (["--attacks", "{}"], "at least one of `attacks`"),
        (["--arms", '{"base": {"optimizer.lr": 1}}'], r"`arms.base`: Unknown key"),
        (["--train.seed", "3"], "no key `train.seed`"),
        (
            ["--attacks", '{"a": {"attack": {"name": "pgd"}, "budgets": [2, 1]}}'],
            r"`attacks.a.budgets` to increase",
        ),
        (
            ["--attacks", '{"a": {"attack": {"name": "events"}, "budgets": [1.5]}}'],
            r"`attacks.a.budgets`: Expected `budget` to be a whole number, got 1.5",
        ),
        (
            ["--attacks", '{"a": {"attack": {"name": "sparse"}, "budgets": [0.5]}}'],
            r"`attacks.a.budgets`: Expected `budget` to be a whole number, got 0.5",
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
