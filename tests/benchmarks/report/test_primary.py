"""Arms are compared by the metric that answers an experiment's question."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.report.experiments.figures import draw
from benchmarks.report.experiments.latex import latex_tables
from benchmarks.report.experiments.metrics import unit, unit_of_difference
from benchmarks.report.experiments.page import section
from benchmarks.report.experiments.plots import plots_of
from benchmarks.report.experiments.summary import summarized
from benchmarks.report.experiments.tables import (
    main_table,
    other_table,
    sentences,
    signed_size,
)
from benchmarks.report.readme.experiments import experiments_tables
from tests.benchmarks.report import example

TAU = "neuron.kwargs.tau 4.0"


def made_up(experiment, arms, seeds=(0, 1, 2, 3, 4), size="full", splits="b"):
    """Rows of arms: the mean of each metric, plus a little that seeds differ by."""
    generator = np.random.default_rng(0)
    return [
        replace(
            example.ROW,
            experiment=experiment,
            size=size,
            arm=arm,
            metric=metric,
            measured=mean + 0.01 * generator.normal(),
            seed=str(seed),
            split_checksum=split,
        )
        for arm, means in arms.items()
        for metric, mean in means.items()
        for split in splits
        for seed in seeds
    ]


@pytest.fixture(scope="module")
def fisher():
    """Arms of one accuracy whose centroids are half a step apart."""
    means = {"test_accuracy": 90.0, "centroid_network_before": 2.5}
    return made_up(
        "fisher_time_constant",
        {
            "as configured": {**means, "centroid_network_after": 2.0},
            TAU: {**means, "centroid_network_after": 2.5},
        },
    )


@pytest.fixture(scope="module")
def study(fisher):
    """The same, brought together."""
    (found,) = summarized(fisher)
    return found


def test_a_fisher_study_compares_centroids_and_not_accuracies(study):
    comparison = study.arms[1].comparison
    assert comparison.metric == study.primary == "centroid_network_after"
    assert comparison.difference.estimate == pytest.approx(0.5, abs=0.03)
    assert comparison.adjusted < 0.001
    said = " ".join(sentences(study))
    assert "differs from its reference in centroid network after" in said
    assert f"{TAU} (+0.5" in said
    assert "steps)" in said
    assert "points" not in said


def test_only_whole_runs_are_said_to_be_resampled_where_items_are_not_known(
    fisher, study
):
    (cell,) = [c.cells[1] for c in main_table(study) if c.heading == "p (Holm)"]
    assert cell.note == "of runs"
    for text in (
        " ".join(section(study).said),
        latex_tables(study),
        experiments_tables(fisher).replace("\n", " "),
    ):
        assert ": seeds are resampled, test recordings are not" in text


def test_the_metric_is_named_wherever_the_comparison_stands(fisher, study):
    columns = {column.heading: column for column in main_table(study)}
    assert list(columns)[1:3] == [
        "centroid network after, steps",
        "selected on validation, %",
    ]
    compared = columns["difference, steps"]
    assert compared.group == "centroid network after, against as configured"
    headings = [column.heading for column in other_table(study)]
    assert "centroid network before" in headings
    assert "Differences are of centroid network after" in latex_tables(study)
    assert "Differences are of centroid network after" in experiments_tables(
        fisher
    ).replace("\n", " ")


def test_plots_and_figures_are_of_the_metric(study):
    arms, differences = plots_of(study)
    assert arms.x_label == "centroid network after, steps"
    assert differences.title == "Paired differences: centroid network after"
    assert differences.x_label == "steps"
    assert " steps, 95% interval" in differences.marks[0].tip
    panels = draw(study, 6.75).axes
    assert panels[0].get_xlabel() == "centroid network after, steps"
    assert panels[1].get_xlabel() == "paired difference to as configured, steps"


def test_a_difference_in_accuracy_is_no_answer_to_another_question():
    means = {"centroid_network_after": 2.0}
    rows = made_up(
        "fisher_time_constant",
        {
            "as configured": {**means, "test_accuracy": 70.0},
            TAU: {**means, "test_accuracy": 90.0},
        },
    )
    (found,) = summarized(rows)
    assert sentences(found)[0].startswith(
        "None of 1 compared arm differs from its reference in centroid network after"
    )
    # Rows of former days have no such figure: then nothing is claimed at all.
    (found,) = summarized([row for row in rows if row.metric == "test_accuracy"])
    assert sentences(found) == []
    assert plots_of(found)[0].x_label == "selected on validation, %"


@pytest.mark.parametrize(
    ("size", "budget"), [("full", "1.0"), ("demo", "0.02")], ids=["full", "demo"]
)
def test_robustness_compares_the_worst_case_at_one_budget_of_its_size(size, budget):
    worst = f"worst_case_linf_{budget}"
    rows = made_up(
        "msg_robustness",
        {
            "base": {"test_accuracy": 90.0, worst: 40.0},
            "masked": {"test_accuracy": 90.0, worst: 50.0},
        },
        size=size,
    )
    (found,) = summarized(rows)
    assert found.arms[1].comparison.metric == worst
    assert found.arms[1].comparison.difference.estimate == pytest.approx(10, abs=0.1)
    assert "in worst case linf" in " ".join(sentences(found))
    assert "points" in " ".join(sentences(found))


def test_intervals_of_shares_end_at_what_shares_can_be():
    rows = [
        replace(row, measured=measured)
        for row, measured in zip(
            made_up("msg_robustness", {"base": {"worst_case_linf_1.0": 0}}, (0, 1, 2)),
            (99.0, 100.0, 100.0),
            strict=True,
        )
    ]
    (found,) = summarized(rows)
    low, high = found.arms[0].figures["worst_case_linf_1.0"].interval
    assert 90 < low < 99
    assert high == 100
    (heading,) = (c for c in main_table(found) if "worst case" in c.heading)
    assert heading.group.endswith("%")


@pytest.mark.parametrize(
    ("metric", "of", "of_difference"),
    [
        ("worst_case_linf_0.02", "%", "points"),
        ("black_box_linf_0.02", "%", "points"),
        ("snn_accuracy_attacked", "%", "points"),
        ("relative_centroid_network_after", "%", "points"),
        ("centroid_network_after", "steps", "steps"),
        ("cross_entropy", "nats", "nats"),
        ("cka_snn_and_ann", "", ""),
    ],
)
def test_figures_have_their_unit_and_shares_differ_in_points(metric, of, of_difference):
    assert (unit(metric), unit_of_difference(metric)) == (of, of_difference)


def test_a_comparison_by_cka_of_both_seeds_at_once_claims_nothing():
    rows = made_up(
        "cka_depth",
        {
            "depth 20": {"cka_snn_and_ann": 0.4, "snn_test_accuracy": 90.0},
            "depth 38": {"cka_snn_and_ann": 0.9, "snn_test_accuracy": 50.0},
        },
        seeds=("0 1",),
    )
    (found,) = summarized(rows)
    assert sentences(found) == []
    assert not any(column.kind == "compared" for column in main_table(found))
    assert plots_of(found)[0].x_label == "CKA SNN and ANN"
    assert main_table(found)[1].heading == "CKA SNN and ANN"


def test_an_experiment_of_one_arm_claims_nothing(fisher):
    (found,) = summarized([row for row in fisher if row.arm == TAU])
    assert sentences(found) == []
    assert plots_of(found) == []
    assert "Differences" not in experiments_tables(found.rows)


def test_effects_are_of_splits_where_there_are_several():
    means = {"base": {"test_accuracy": 90.0}, "MSG": {"test_accuracy": 91.0}}
    for splits, of in (("b", "runs"), ("bcd", "splits")):
        (found,) = summarized(made_up("attribution", means, (0, 1, 2), splits=splits))
        (column,) = (c for c in main_table(found) if c.heading.startswith("effect"))
        assert column.heading == f"effect, deviations of {of}"
        assert column.cells[1].text
    (found,) = summarized(made_up("attribution", means, (0, 1), splits="bc"))
    (column,) = (c for c in main_table(found) if c.heading.startswith("effect"))
    assert column.cells[1].text == ""
    said = " ".join(sentences(found))
    assert "no effect size" in said
    assert ": splits and seeds are resampled, test recordings are not" in said


def test_differences_have_decimals_that_matter_and_points_two():
    assert signed_size(-0.0442, "test_accuracy") == "-0.04"
    assert signed_size(0.0442, "cka_snn_and_ann") == "+0.044"
    assert signed_size(0.5, "centroid_network_after") == "+0.50"
