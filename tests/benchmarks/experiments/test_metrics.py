"""Figures come from stored logits as the run itself gave them."""

import numpy as np
import pytest
import torch

from benchmarks.experiments.metrics import METRICS, MissingError, TrainedRun, measure
from benchmarks.experiments.row_metrics import METRICS_OF
from benchmarks.runs.config import read
from benchmarks.runs.progress import Reporter
from benchmarks.tasks.train import train
from sj_ext.registry import UnknownNameError


@pytest.fixture
def trained(small_run):
    """Train with more keys, and open the run by its path."""

    def opened(*more):
        folder = train(read(small_run(*more)), Reporter.silent())
        return TrainedRun.at(folder.path)

    return opened


@pytest.mark.parametrize("readout", ["temporally_weighted", "rate", "max"])
def test_accuracies_are_those_of_the_run(trained, readout):
    kwargs = '{"start_epoch": 2}' if readout == "temporally_weighted" else "{}"
    more = ("readout.name", readout, "readout.kwargs.start_epoch", 2)
    if readout != "temporally_weighted":
        more = ("readout", f'{{"name": "{readout}", "kwargs": {kwargs}}}')
    run = trained(*more)
    found, result = measure(run), run.result
    accuracy = result["test_accuracy"]
    assert found["test_accuracy"] == pytest.approx(100 * accuracy["selected"])
    assert found["last_epoch_accuracy"] == pytest.approx(100 * accuracy["last"])
    unweighted = result.get("test_accuracy_unweighted", {}).get("selected")
    if unweighted is None:
        assert "unweighted_accuracy" not in found
    else:
        assert found["unweighted_accuracy"] == pytest.approx(100 * unweighted)


def test_best_on_test_is_the_best_epoch_and_looking_changes_nothing(trained):
    blind, seen = trained(), trained("test_every_epoch", "true")
    each = [row["test_accuracy"] for row in seen.folder.read_metrics()]
    best = measure(seen, ["best_on_test_accuracy"])["best_on_test_accuracy"]
    assert best == pytest.approx(100 * max(each))
    assert best >= measure(seen, ["test_accuracy"])["test_accuracy"]
    assert each[-1] == pytest.approx(seen.result["test_accuracy"]["last"])
    for which in ("selected", "last"):
        assert torch.equal(blind.logits[which], seen.logits[which])
    assert "best_on_test_accuracy" not in measure(blind)
    with pytest.raises(MissingError, match="`test_every_epoch: true`"):
        measure(blind, ["best_on_test_accuracy"])


def test_classes_count_alike_whatever_their_size(trained):
    run = trained()
    # Three samples of class 0, two of them right; one of class 1, wrong.
    run.target = torch.tensor([0, 0, 0, 1])
    answers = torch.tensor([0, 0, 1, 0])
    run.logits = {"selected": torch.eye(2)[answers].repeat(4, 1, 1)}
    run.weight = {"selected": torch.ones(4)}
    found = measure(run, ["test_accuracy", "mean_class_accuracy"])
    assert found["test_accuracy"] == pytest.approx(50)
    assert found["mean_class_accuracy"] == pytest.approx(100 / 3)


def test_steps_and_prefixes_are_judged_by_themselves(trained):
    run = trained()
    logits, target = run.logits["selected"].numpy(), run.target.numpy()
    found = measure(run, ["step_accuracy", "prefix_accuracy"])
    for t in range(len(logits)):
        step = (logits[t].argmax(1) == target).mean()
        prefix = (logits[: t + 1].mean(0).argmax(1) == target).mean()
        assert found["step_accuracy"][t] == pytest.approx(100 * step)
        assert found["prefix_accuracy"][t] == pytest.approx(100 * prefix)


def test_the_calibration_error_is_the_gap_of_confidence_and_accuracy(trained):
    run = trained()
    run.target = torch.zeros(4, dtype=torch.int64)
    # Always 75% sure of class 0, and always right.
    logits = torch.tensor([np.log(3.0), 0.0]).float().repeat(4, 4, 1)
    run.logits, run.weight = {"selected": logits}, {"selected": torch.ones(4)}
    assert measure(run, ["calibration_error"])["calibration_error"] == pytest.approx(25)
    expected = -np.log(0.75)
    assert measure(run, ["cross_entropy"])["cross_entropy"] == pytest.approx(expected)


def test_an_unknown_metric_is_answered_with_those_that_exist(trained):
    with pytest.raises(UnknownNameError, match="test_accuracy"):
        measure(trained(), ["test_acuracy"])
    assert "test_accuracy" in METRICS


def test_what_arms_can_be_compared_by_has_one_figure_a_run():
    lists = {"step_accuracy", "prefix_accuracy"}
    of_results = {"validation_accuracy", "gradient_density"}
    assert {*METRICS_OF["train"]} == ({*METRICS} - lists) | of_results
