"""The planted study reads profiles by fixed rules, counts, resumes, and says so."""

import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.report.readme.planted import planted_table
from benchmarks.studies.planted.rules import claims, guess, located, off_by
from benchmarks.studies.planted.trial import ESTIMATORS, NULL
from sj_ext.fisher import FisherResult
from sj_ext.fisher.centroid import information_centroid


def result(information, loss=None, error=0.1):
    total = torch.tensor(information, dtype=torch.float64)
    T = len(total)
    nothing = torch.zeros(T, dtype=torch.float64)
    return FisherResult(
        steps=tuple(range(1, T + 1)),
        total=total,
        per_layer={"layer": total},
        per_parameter={"layer.weight": total},
        standard_error=nothing,
        layer_standard_error={"layer": nothing},
        information_centroid=float(information_centroid(total)),
        centroid_standard_error=error,
        prefix_loss=torch.tensor(loss or [1.0] * T, dtype=torch.float64),
        prefix_accuracy=nothing,
        prefix_confidence=nothing,
        samples=8,
        units=8,
        estimator="per_sample",
        labels="model",
    )


def test_each_rule_names_the_step_that_it_says():
    found = located(result([1, 5, 4, 0.5], loss=[2.2, 2.1, 0.9, 0.8]), classes=10)
    assert found == {
        "prefix loss": 3,
        "change of I_t": 2,
        "peak of I_t": 2,
        "centroid": 2,
    }


def test_the_first_step_is_named_when_the_loss_falls_below_a_guess_at_once():
    assert located(result([1, 1], loss=[0.5, 0.4]), 10)["prefix loss"] == 1


def test_distance_is_counted_from_the_nearest_planted_step():
    assert [off_by(step, 3, 4) for step in range(1, 7)] == [2, 1, 0, 0, 1, 2]
    assert guess(6, 3, 4) == (pytest.approx(2 / 6), pytest.approx(1.0))


def test_concentration_is_claimed_beyond_the_error_only():
    flat, early, late = ([1, 1, 1], [4, 1, 1], [1, 1, 4])
    assert claims(result(flat), result(early), result(early)) == {
        "falls": True,
        "below shuffled": False,
    }
    assert claims(result(flat), result(early), result(flat))["below shuffled"]
    assert not claims(result(flat), result(late), result(flat))["falls"]
    assert not claims(result(flat), result(early, error=9.0), result(flat))["falls"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    words = ["fisher", "--planted", "--seeds", "1", "--workers", "1"]
    words += ["--epochs", "1", "--per-class", "6"]
    words += ["--root", str(folder / "data"), "--output", str(folder / "runs")]
    assert main(words) == 0
    (home,) = (folder / "runs").iterdir()
    return home, words


def summary(home):
    return json.loads((home / "fisher-planted-cpu.json").read_text())


def test_every_position_and_the_null_are_counted_for_every_estimator(study):
    home, _ = study
    found = summary(home)
    assert [(row["evidence"], row["estimator"]) for row in found["rows"]] == [
        (position, estimator)
        for position in ("2-3", "5-6", "8-9", NULL)
        for estimator in ESTIMATORS
    ]
    for row in found["rows"]:
        assert row["trials"] == 1
        assert set(row["claims"].values()) <= {0, 1}
        if row["evidence"] == NULL:
            assert "located" not in row
        else:
            assert row["guess"]["hits"] == pytest.approx(0.2)
            assert all(0 <= f["mean_distance"] <= 8 for f in row["located"].values())
    assert found["environment"]["host"]
    assert any("On the null" in sentence for sentence in found["verdict"])


def test_the_readme_table_has_a_line_for_each_row_and_the_verdict(study):
    home, _ = study
    found = summary(home)
    text = planted_table(found)
    assert text.count("\n| 2 to 3 |") == len(ESTIMATORS)
    assert "A random step would be inside" in text
    assert max(map(len, text.split("\n\n", 1)[1].splitlines())) <= 88


def test_the_figures_are_written(study):
    home, _ = study
    names = {file.stem for file in (home / "plots").glob("*.png")}
    assert names == {"profiles", "centroids"}


def test_a_killed_study_repeats_only_what_is_missing_and_finds_the_same(study):
    home, words = study
    lost, kept = home / "trial-5-6-seed-00.json", home / f"trial-{NULL}-seed-00.json"
    before, content = kept.stat().st_mtime_ns, lost.read_text()
    lost.unlink()
    assert main(words) == 0
    assert kept.stat().st_mtime_ns == before
    assert lost.read_text() == content


def test_no_trials_are_refused(capsys):
    assert main(["fisher", "--planted", "--seeds", "0"]) == 2
    assert "Expected `seeds` of at least 1, got 0" in capsys.readouterr().err
