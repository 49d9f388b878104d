"""The pruning study: searches that resume bit for bit, accounts, tables, verdicts."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.report.readme.pruning import pruning_table
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.workers import one_thread
from benchmarks.studies.pruning.arms import (
    ARMS,
    CLAIM,
    DENSE,
    GRADUAL,
    MAGNITUDE,
    RANDOM,
    WITH_ALL_SEEDS,
)
from benchmarks.studies.pruning.config import Trial, read
from benchmarks.studies.pruning.search import Search
from benchmarks.studies.pruning.summary import interval, ledgers, summarized, verdict
from benchmarks.studies.pruning.trials import do, study_data, trials
from tests.benchmarks.conftest import TIME_STEPS

SPARSITIES = [0.5, 0.9]


@pytest.fixture(scope="module")
def words(small_data, tmp_path_factory):
    settings = {
        "train.data.root": small_data.root,
        "train.data.split": small_data.split,
        "train.data.time_steps": TIME_STEPS,
        "train.model.kwargs.channels": "[4, A, 4]",
        "train.neuron.kwargs.v_threshold": 0.5,
        "train.optimization.epochs": 1,
        "train.optimization.batch_size": 8,
        "train.optimization.lr": 0.01,
        "pool": 4,
        "schedule": str(SPARSITIES),
        "reported": str(SPARSITIES),
        "rewind_epochs": 1,
        "round_epochs": 1,
        "gradual_epochs": 2,
        "share": 0.5,
        "probe_samples": 16,
        "score_samples": 8,
        "operation_samples": 4,
        "seeds": 2,
        "other_seeds": 1,
        "workers": 1,
        "output": tmp_path_factory.mktemp("prune"),
    }
    return [str(w) for k, v in settings.items() for w in (f"--{k}", v)]


@pytest.fixture(scope="module")
def config(words):
    return read(words)


@pytest.fixture(scope="module")
def study(config, words):
    assert main(["prune", *words]) == 0
    return config.folder, json.loads((config.folder / "pruning-cpu.json").read_text())


def finished(trial):
    frames, parts = study_data(trial.study)
    with one_thread():  # as `do` has it: sums depend on the number
        search = Search(trial, frames, parts)
        while not search.finished:
            search.advance()
    return search


def without_seconds(result):
    """Drop the one account that no two runs share."""
    found = json.loads(json.dumps(result))
    for outcome in found["outcomes"]:
        for cost in outcome["cost"].values():
            del cost["seconds"]
    return found


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return one == other


class KilledError(Exception):
    pass


@pytest.mark.parametrize("arm", [CLAIM, "fisher, KL rule", GRADUAL])
def test_a_search_killed_anywhere_ends_with_the_same_masks_and_figures(
    config, tmp_path, monkeypatch, arm
):
    config = replace(config, output=str(tmp_path), round_epochs=2)
    target = 0.9 if arm == GRADUAL else None
    trial = Trial(config, arm, 0, target)
    whole = finished(trial)
    folder = RunFolder(trial)
    saved = RunFolder.save_checkpoint
    pieces = 0

    def save_and_die(self, checkpoint):
        nonlocal pieces
        saved(self, checkpoint)
        pieces += 1
        raise KilledError

    # A process of its own for each piece of work, as it were: in rounds, between
    # them, and in final trainings.
    monkeypatch.setattr(RunFolder, "save_checkpoint", save_and_die)
    while not folder.is_complete:
        try:
            do(trial)
        except KilledError:
            torch.manual_seed(pieces)
    assert pieces >= 6
    assert without_seconds(folder.read_result()) == without_seconds(whole.result())
    last = folder.load_checkpoint()
    assert same(last["scheduler"]["masks"], whole.scheduler.masks)
    assert same(dict(last["network"]), dict(whole.net.state_dict()))


def test_recordings_are_resized_in_training_and_in_all_that_is_measured(
    config, tmp_path
):
    data = replace(config.train.data, resize=6)
    config = replace(
        config, output=str(tmp_path), train=replace(config.train, data=data)
    )
    search = finished(Trial(config, CLAIM, 0, None))
    (batch,) = search._batches(torch.arange(3), 3)
    assert batch.frames.shape == (TIME_STEPS, 3, 2, 6, 6)
    assert same(search._inputs(3)[0][0].shape, batch.frames.shape)


def test_every_arm_reaches_every_sparsity_with_as_many_weights(study, config):
    _, found = study
    for arm in ARMS:
        if arm == DENSE:
            continue
        rows = [row for row in found["rows"] if row["arm"] == arm]
        assert [row["sparsity"] for row in rows] == SPARSITIES
        for row in rows:
            wanted = config.seeds if arm in WITH_ALL_SEEDS else config.other_seeds
            assert row["seeds"] == wanted
    results = json.loads((config.folder / "searches.json").read_text())
    for result in results:
        for outcome in result["outcomes"]:
            layers = outcome["layers"].values()
            total = sum(layer["weights"] for layer in layers)
            pruned = total - sum(layer["remaining"] for layer in layers)
            near = min([0.0, *SPARSITIES], key=lambda s: abs(s - outcome["sparsity"]))
            assert pruned == round(near * total)


def test_the_first_account_is_what_a_hand_counts(study, config):
    _, found = study
    frames, parts = study_data(config)
    samples = len(parts["train"])
    row = next(row for row in found["rows"] if row["arm"] == MAGNITUDE)
    cost = row["cost_by_purpose"]
    # An epoch before the rewind point and one of the first round, forward and back.
    assert cost["training"]["sample_steps"] == 2 * TIME_STEPS * samples * (1 + 1)
    assert cost["final"]["sample_steps"] == 2 * TIME_STEPS * samples
    assert cost["scoring"]["sample_steps"] == cost["probing"]["sample_steps"] == 0
    assert frames.time_steps == TIME_STEPS


def test_a_search_at_fewer_steps_pays_for_its_probe_and_trains_to_the_end_at_full_T(
    study, config
):
    _, found = study
    samples = len(study_data(config)[1]["train"])
    row = next(row for row in found["rows"] if row["arm"] == CLAIM)
    cost = row["cost_by_purpose"]
    mean_steps = sum(row["time_steps"]) / len(row["time_steps"])
    assert mean_steps < TIME_STEPS
    assert cost["probing"]["sample_steps"] > 0
    assert cost["training"]["sample_steps"] == pytest.approx(
        2 * samples * (TIME_STEPS + mean_steps)
    )
    assert cost["final"]["sample_steps"] == 2 * TIME_STEPS * samples


def test_equal_cost_is_that_of_the_search_with_the_rule(study):
    name = "magnitude, full T, fewer epochs"
    results = json.loads((study[0] / "searches.json").read_text())
    costs = {
        r["arm"]: ledgers(r["outcomes"][-1]["cost"])["sample_steps"]
        for r in results
        if r["seed"] == 0
    }
    # To half an optimizer step a round.
    assert costs[name] == pytest.approx(costs[CLAIM], abs=2 * 8 * 2 * TIME_STEPS)


def test_random_masks_need_no_training_in_their_rounds(study):
    _, found = study
    rows = [row for row in found["rows"] if row["arm"] == RANDOM]
    one, other = (row["cost"]["sample_steps"] for row in rows)
    assert one == other


def test_theoretical_operations_fall_with_sparsity_and_steps_do_not(study):
    _, found = study
    rows = [row for row in found["rows"] if row["arm"] == MAGNITUDE]
    assert rows[1]["multiply_accumulates"] < 0.5 * rows[0]["multiply_accumulates"]
    assert rows[1]["cost"]["sample_steps"] > rows[0]["cost"]["sample_steps"]


def test_all_is_written_and_a_second_call_repeats_nothing(study, words, capsys):
    home, found = study
    assert {file.stem for file in (home / "plots").glob("*.png")} == {
        "accuracy-against-cost",
        "layers",
        "rules",
    }
    lines = (home / "table.csv").read_text().splitlines()
    assert len(lines) == 1 + len(found["rows"])
    assert "Which layers went" in (home / "report.html").read_text()
    capsys.readouterr()
    assert main(["prune", *words]) == 0
    assert " 0 of " in capsys.readouterr().out
    again = json.loads((home / "pruning-cpu.json").read_text())
    assert again["rows"] == found["rows"]


def test_the_readme_table_has_the_rows_at_90_percent_and_the_last_and_the_verdict(
    study,
):
    _, found = study
    text = pruning_table(found)
    table, *rest = text.split("\n\n")
    last = max(row["sparsity"] for row in found["rows"])
    shown = [row for row in found["rows"] if row["sparsity"] in (0.0, 0.9, last)]
    others = {row["sparsity"] for row in found["rows"]} - {0.0, 0.9, last}
    expected = shown if any(r["sparsity"] == 0.9 for r in shown) else found["rows"]
    assert len(table.splitlines()) == 2 + len(expected)
    assert not others or "All sparsities are in the result file" in text
    assert "rounds at the steps of the Fisher rule" in " ".join(rest[-1].split())
    assert all(len(line) <= 88 for part in rest for line in part.splitlines())


def test_more_seeds_go_on_with_the_same_searches(config):
    more = replace(config, seeds=3, workers=2, output="elsewhere")
    assert more.digest() == config.digest()
    assert replace(config, share=0.6).digest() != config.digest()
    names = [trial.name for trial in trials(more)]
    assert len(names) == len(set(names))


def outcome(sparsity, accuracy, steps=100):
    zero = {"backward": 0, "seconds": 1.0, "accumulates": 0, "multiply_accumulates": 0}
    return {
        "sparsity": sparsity,
        "test_accuracy": {"selected": accuracy, "last": accuracy},
        "cost": {"training": zero | {"forward": steps, "accumulates": steps}},
        "layers": {"0": {"weights": 10, "remaining": 1}},
        "accumulates": 1.0,
        "multiply_accumulates": 1.0,
    }


def searches(arm, accuracies, steps=100):
    return [
        {
            "arm": arm,
            "seed": seed,
            "time_steps": 4,
            "round_epochs": 1.0,
            "evidence": {},
            "outcomes": [outcome(0.9, accuracy, steps)],
        }
        for seed, accuracy in enumerate(accuracies)
    ]


REFERENCE = [0.90, 0.92, 0.94]


@pytest.mark.parametrize(
    ("claim", "steps", "said"),
    [
        ([0.901, 0.919, 0.940], 55, ["non-inferior at", "saves 45%", "is reached"]),
        ([0.88, 0.90, 0.921], 80, ["inferior by more than", "saves 20%", "short of"]),
        ([0.85, 0.97, 0.94], 60, ["not shown to be non-inferior"]),
    ],
)
def test_the_verdict_says_what_the_interval_says(claim, steps, said):
    results = searches(MAGNITUDE, REFERENCE) + searches(CLAIM, claim, steps)
    text = " ".join(verdict(summarized(results, [0.9])))
    assert all(words in text for words in said)


def test_the_verdict_says_where_the_test_has_no_power():
    results = searches(MAGNITUDE, REFERENCE)
    worse = searches(RANDOM, [0.80, 0.83, 0.83])
    alike = searches(RANDOM, [0.91, 0.90, 0.95])
    assert "is clearly worse at 90%" in verdict(summarized(results + worse, [0.9]))[0]
    assert "has no power" in verdict(summarized(results + alike, [0.9]))[0]


def test_the_interval_is_that_of_a_t_table():
    low, high = interval([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.303, standard error 1 / sqrt(3).
    assert (low, high) == pytest.approx((2 - 2.4842, 2 + 2.4842), abs=1e-3)
    assert interval([1.0]) is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("reported", "[0.7]", "Expected `reported` to hold some of `schedule`"),
        ("constant_steps", "9", "Expected `constant_steps` in 1 to 4"),
        ("seeds", "0", "Expected `seeds` of at least 1, got 0"),
        ("train.seed", "3", "Expected no key `train.seed`"),
    ],
)
def test_a_configuration_that_no_study_can_have_is_refused(
    words, capsys, key, value, message
):
    assert main(["prune", *words, f"--{key}", value]) == 2
    assert message in capsys.readouterr().err
