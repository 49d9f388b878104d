"""Studies run in the same queue, and their figures become rows like those of runs."""

import importlib
import json
import statistics

import pytest

from benchmarks.experiments.kinds import kind_of
from benchmarks.experiments.queue import Options, jobs, run_experiment
from benchmarks.experiments.row_metrics import can_have
from benchmarks.experiments.rows import read_rows
from benchmarks.runs.progress import Reporter

ROBUSTNESS = "benchmarks.tasks.robustness"
ATTACK = {"attack": {"name": "pgd", "norm": "linf", "steps": 1}, "budgets": [0.1]}
STUDIES = {
    "fisher": {"seeds": [0, 1], "config": {"samples": 6, "sweep": {}}},
    "cka": {
        "seeds": [0, 1],
        "config": {"resamples": 2, "batch_size": 5, "sweep": {"residual": [True]}},
    },
    "robustness": {
        "seeds": [0, 1],
        "config": {"samples": 4, "attacks": {"linf": ATTACK}},
    },
    "prune": {
        "seeds": [0],
        "config": {
            "schedule": [0.5],
            "reported": [0.5],
            "rewind_epochs": 1,
            "round_epochs": 1,
            "other_seeds": 0,
            "probe_samples": 8,
            "score_samples": 8,
        },
    },
}


@pytest.fixture
def study(tiny, train_keys, tmp_path):
    """Run a study of a task in one process; give its rows and its folder."""

    def done(task):
        train = {**train_keys, "optimization": {"epochs": 1, "batch_size": 8}}
        if task == "cka":
            train["model"] = {
                "name": "preactivation_resnet",
                "kwargs": {"depth": 8, "width": 0.125},
            }
        settings = STUDIES[task]
        config = {**settings["config"], "train": train}
        changes = {"seeds": settings["seeds"], "reported": [], "arms": {"base": {}}}
        experiment = tiny(task=task, config=config, demo={"minutes": 1}, **changes)
        options = Options(runs=tmp_path, results=tmp_path / "rows.csv", workers=1)
        rows = run_experiment(experiment, options, Reporter.silent())
        assert [row.metric for row in rows if not can_have(task, row.metric)] == []
        assert read_rows(tmp_path / "rows.csv") == sorted(
            (type(row)(**{**vars(row), **rounded(row)}) for row in rows),
            key=lambda row: row.key,
        )
        for job in jobs(experiment, options):
            assert kind_of(task).is_done(job.config)
            assert job.config.digest() in {row.digest for row in rows}
        again = run_experiment(experiment, options, Reporter.silent())
        assert again == rows
        return rows, tmp_path / task

    return done


def rounded(row):
    keys = ("measured", "deviation")
    return {
        k: None if getattr(row, k) is None else float(f"{getattr(row, k):.8g}")
        for k in keys
    }


@pytest.mark.parametrize(
    ("task", "module"),
    [("prune", "benchmarks.studies.pruning.study"), ("robustness", ROBUSTNESS)],
)
def test_a_study_killed_between_two_files_goes_on(study, task, module, monkeypatch):
    writer = importlib.import_module(module)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_write_report", raises)
        with pytest.raises(KeyboardInterrupt):
            study(task)
    rows, folder = study(task)
    assert rows
    result = json.loads(only(folder, f"tiny-*/{writer.RESULT}").read_text())
    assert result["ended"][:10] == rows[0].date
    # A result of other seeds is none of this study's.
    (path,) = folder.glob(f"tiny-*/{writer.RESULT}")
    path.write_text(json.dumps({**result, "seeds": [7, 8]}))
    again, _ = study(task)
    assert [row.key for row in again] == [row.key for row in rows]
    assert json.loads(path.read_text())["seeds"] == result["seeds"]


def raises(*args, **kwargs):
    raise KeyboardInterrupt


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def test_a_fisher_study_gives_centroids_of_each_seed(study):
    rows, folder = study("fisher")
    assert {row.seed for row in rows} == {"0", "1"}
    for row in rows:
        result = json.loads(only(folder, f"*-{row.digest}/result.json").read_text())
        (run,) = result["runs"]
        if row.metric == "test_accuracy":
            expected = 100 * run["test_accuracy"]["selected"]
            assert row.measured == pytest.approx(expected)
        if row.metric == "centroid_time_shuffled_after":
            expected = run["profiles"]["time-shuffled"]["1"]["centroid"]
            assert row.measured == pytest.approx(expected)
        if row.metric == "relative_centroid_network_after":
            centroid = run["profiles"]["network"]["1"]["centroid"]
            assert row.measured == pytest.approx(100 * (centroid - 1) / (4 - 1))
    metrics = {row.metric for row in rows}
    assert {
        "relative_centroid_network_after",
        "centroid_network_before",
        "centroid_stateless_after",
    } <= metrics


def test_a_comparison_gives_means_over_its_two_seeds(study):
    rows, folder = study("cka")
    assert {row.seed for row in rows} == {"0 1"}
    (arm,) = json.loads(only(folder, "tiny-*/result.json").read_text())["arms"]
    found = {row.metric: row for row in rows}
    accuracy = [100 * share for share in arm["test_accuracy"]["snn"]]
    row = found["snn_test_accuracy"]
    assert row.measured == pytest.approx(statistics.fmean(accuracy))
    assert row.deviation == pytest.approx(statistics.stdev(accuracy))
    assert found["cka_snn_and_ann"].measured == pytest.approx(
        arm["mean_cka"]["SNN and ANN"]
    )
    assert "change_over_time_snn" in found


def test_a_robustness_study_gives_the_worst_case_of_each_network(study):
    rows, folder = study("robustness")
    found = {(row.seed, row.metric): row.measured for row in rows}
    assert {seed for seed, _ in found} == {"0", "1"}
    trial = json.loads(only(folder, "tiny-*/trial-base-seed-1.json").read_text())
    worst = 100 * trial["attacks"]["linf"]["accuracy"][0]
    assert found["1", "worst_case_linf_0.1"] == pytest.approx(worst)
    assert found["1", "test_accuracy"] == pytest.approx(100 * trial["test_accuracy"])
    assert {row.threads for row in rows} == {1}


def test_a_pruning_study_gives_accuracy_and_cost_of_each_search(study):
    rows, folder = study("prune")
    arms = {row.arm for row in rows}
    assert {"dense, 0%", "random, 50%", "magnitude, Fisher rule, 50%"} <= arms
    searches = json.loads(only(folder, "tiny-*/searches.json").read_text())
    (dense,) = (s for s in searches if s["arm"] == "dense")
    expected = 100 * dense["outcomes"][0]["test_accuracy"]["last"]
    (row,) = (
        r for r in rows if (r.arm, r.metric) == ("dense, 0%", "last_epoch_accuracy")
    )
    assert row.measured == pytest.approx(expected)
    assert len(row.data_checksum) == 64
