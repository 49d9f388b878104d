"""`compare` pairs runs by split, seed and recording, and says what that shows."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from benchmarks.__main__ import main as run_benchmarks
from benchmarks.experiments.metrics import MissingError
from benchmarks.experiments.rows import add_rows
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.progress import Reporter
from benchmarks.statistics.arms import differing_settings, run_folders
from benchmarks.statistics.items import differences, read_run
from benchmarks.statistics.paired import paired_difference
from benchmarks.statistics.sentences import verdict
from benchmarks.tasks.compare import main
from sj_ext.registry import UnknownNameError
from tests.benchmarks.report import example

ROW = replace(
    example.ROW,
    experiment="attribution",
    split_checksum="a",
)


def compare(*words):
    text = io.StringIO()
    main([str(word) for word in words], Reporter(Console(file=text, highlight=False)))
    return text.getvalue()


@pytest.fixture
def table(tmp_path):
    """Write rows of an experiment; returns the file."""

    def make(*rows):
        add_rows(tmp_path / "experiments.csv", rows)
        return tmp_path / "experiments.csv"

    return make


def test_two_runs_are_compared_recording_by_recording(made_run):
    right = np.arange(200) >= 60
    better = made_run(np.arange(200) >= 20, name="better")
    # Two trainings: no p value, however many recordings tell them apart.
    said = compare(better, made_run(right, name="worse"))
    assert "1 paired run, 1 split, 200 test recordings" in said
    assert "+20.00 points" in said
    assert "Fewer than 3 paired runs give no p value" in said
    assert ", p " not in said
    assert "detected" not in said.split("Smallest detectable")[0]
    assert "One training seed" in said
    # Discordant in 40 of 200, always the same way: s^2 = 0.2 x 0.8 x 200 / 199.
    error = 100 * (0.2 * 0.8 / 199) ** 0.5
    low = float(re.search(r"interval \+([\d.]+)", said)[1])
    assert low == pytest.approx(20 - 1.972 * error, abs=0.15)


def test_equal_runs_show_no_difference_and_say_what_could_have_been_seen(made_run):
    items = np.arange(300)
    one, other = (
        [read_run(made_run(items % k != 0, name=f"of_{k}", seed=s)) for s in range(3)]
        for k in (11, 12)
    )
    found = paired_difference([100 * values for values in differences(one, other)])
    said = " ".join(verdict(found, "one", "other", "points"))
    assert "No difference is shown. That is not to say that there is none" in said
    assert re.search(r"less than \d\.\d\d points", said)


def test_arms_are_found_by_name_and_paired_by_seed_and_split(made_run, table, tmp_path):
    generator = np.random.default_rng(1)
    rows = []
    for arm, share in (("base", 0.5), ("MSG, p 0.5", 0.9)):
        for split in "abcd":
            for seed in (0, 1, 2):
                correct = generator.random(80) < share
                name = f"{arm[:3]}_{split}"
                path = made_run(correct, name=name, seed=seed, split=split)
                row = replace(
                    ROW,
                    arm=arm,
                    seed=str(seed),
                    split_checksum=split,
                    split=split,
                    measured=100 * correct.mean(),
                    digest=path.name.rpartition("-")[2],
                )
                rows.append(row)
    words = ("attribution:MSG, p 0.5", "attribution:base", "--results", table(*rows))
    said = compare(*words, "--runs", tmp_path / "runs")
    assert "12 paired runs, 4 splits, 320 test recordings" in said
    assert "attribution:MSG, p 0.5 is above attribution:base" in said
    assert "In deviations of the paired splits" in said
    of_rows = compare(*words, "--runs", tmp_path / "elsewhere")
    assert "12 paired runs, 4 splits\n" in of_rows
    assert "Only figures of whole runs are compared" in of_rows
    estimates = [
        re.search(r"base: (\+\d+\.\d\d) points", s)[1] for s in (said, of_rows)
    ]
    assert estimates[0] == estimates[1]


def test_what_the_arms_differ_in_is_printed(made_run):
    correct = np.arange(30) > 3
    one = made_run(correct, name="a", **{"optimization.lr": 0.5})
    other = made_run(correct, name="b", seed=0)
    settings = differing_settings([read_run(one)], [read_run(other)])
    assert list(settings) == ["optimization.lr"]
    assert "optimization.lr: 0.5 against" in compare(one, other)


def test_a_readout_that_is_no_weighted_mean_is_built_again(made_run):
    correct = np.arange(12) % 4 != 0
    run = read_run(made_run(correct, **{"readout.name": "max"}))
    assert (run.correct == correct).all()


def test_what_a_real_run_has_right_is_its_accuracy(small_run, tmp_path):
    assert run_benchmarks(["train", *small_run("optimization.epochs", 2)]) == 0
    (path,) = run_folders(tmp_path).values()
    for epoch in ("selected", "last"):
        run = read_run(path, epoch)
        result = json.loads((path / "result.json").read_text())
        assert run.accuracy == pytest.approx(result["test_accuracy"][epoch])


def test_runs_without_a_partner_are_left_out(made_run):
    correct = np.arange(20) > 3
    first = [read_run(made_run(correct, seed=s)) for s in (0, 1, 2)]
    second = [read_run(made_run(correct, name="b", seed=s)) for s in (1, 2, 3)]
    (pairs,) = differences(first, second)
    assert pairs.shape == (2, 20)
    assert not pairs.any()


def test_runs_that_do_not_match_are_refused(made_run):
    correct = np.arange(20) > 3
    one = read_run(made_run(correct))
    with pytest.raises(ConfigError, match="same split and seed"):
        differences([one], [read_run(made_run(correct, name="b", seed=1))])
    others = [f"other {i}" for i in range(20)]
    with pytest.raises(ConfigError, match="same recordings"):
        differences([one], [read_run(made_run(correct, name="c", names=others))])
    again = read_run(made_run(correct, name="d"))
    with pytest.raises(ConfigError, match="each seed once"):
        differences([one, again], [one])


def test_words_that_name_nothing_are_explained(made_run, table, tmp_path):
    run = made_run(np.arange(20) > 3)
    results = table(ROW, replace(ROW, size="full"), replace(ROW, experiment="other"))
    with pytest.raises(ConfigError, match="EXPERIMENT:ARM"):
        compare(run, "nothing", "--results", results)
    with pytest.raises(UnknownNameError, match="'attribution'"):
        compare(run, "atribution:base", "--results", results)
    with pytest.raises(UnknownNameError, match="base"):
        compare(run, "other:bose", "--results", results)
    with pytest.raises(ConfigError, match="--size"):
        compare(run, "attribution:base", "--results", results)
    with pytest.raises(ConfigError, match="no file"):
        compare(run, "attribution:base", "--results", tmp_path / "none.csv")
    (run / "predictions.npz").unlink()
    with pytest.raises(MissingError, match=r"none with predictions\.npz"):
        compare(run, run)


def test_differences_that_are_alike_but_for_rounding_do_not_vary():
    found = paired_difference([np.array([[0.1], [0.3 - 0.2], [0.1]])])
    assert not found.varies
    assert not found.testable
    assert found.interval == (found.estimate, found.estimate)
