"""The concentration study is one sweep over losses and seeds, and has a table."""

from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import main
from benchmarks.report.readme.concentration import concentration_table
from benchmarks.studies.fisher.config import read

CONFIG = Path(benchmarks.__file__).parent / "configs" / "fisher" / "concentration.yaml"


def test_each_loss_has_runs_of_its_own_for_every_seed():
    config = read(["--config", str(CONFIG)])
    arms = config.arms()
    assert len({arm.folder for arm in arms}) == len(arms) == 15
    losses = {
        (a.train.loss.name, *map(a.train.loss.kwargs.get, ("direction", "labels")))
        for a in arms
    }
    assert losses == {
        ("cross_entropy", None, None),
        ("temporal_concentration", "early", None),
        ("temporal_concentration", "late", None),
        ("temporal_concentration", "early", "empirical"),
        ("temporal_concentration", "late", "empirical"),
    }
    assert {arm.train.seed for arm in arms} == {0, 1, 2}


def test_a_readout_without_shares_is_refused_before_anything_is_trained(
    tmp_path, capsys
):
    words = ["--config", str(CONFIG), "--train.readout.name", "max"]
    assert main(["fisher", *words, "--output", str(tmp_path)]) == 2
    assert "`train.readout`: Expected `readout` to be a" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.pt"))


def run(loss, accuracy, after):
    profile = {"0": {"centroid": 3.0}, "6": {"centroid": after}}
    names = ("network", "time-shuffled", "stateless", "true-labels")
    return {
        "settings": {"seed": 0, "loss": loss},
        "test_accuracy": {"last": accuracy},
        "profiles": dict.fromkeys(names, profile),
    }


ENVIRONMENT = {
    "threads": 1,
    "cpu": "CPU",
    "gpu": None,
    "host": "2.0.0",
    "packages": {"torch": "2"},
    "commit": "0123456789abcdef",
}


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_table_has_a_row_a_loss_with_means_over_seeds(seeds):
    late = {
        "name": "temporal_concentration",
        "kwargs": {"strength": 1.0, "direction": "late"},
    }
    runs = [run({"name": "cross_entropy"}, 0.9, 4.0), run(late, 0.8, 6.0)]
    runs += [run({"name": "cross_entropy"}, 0.8, 5.0), run(late, 0.8, 6.0)]
    for number, one in enumerate(runs):
        one["settings"]["seed"] = number // 2
    text = concentration_table(
        {
            "runs": runs[: 2 * seeds],
            "samples": 96,
            "seconds": 60.0,
            "environment": ENVIRONMENT,
        }
    )
    plain, pushed = text.split("\n")[2:4]
    assert pushed.startswith("| concentration late, strength 1 |")
    if seeds == 2:
        expected = "85.0 ± 7.1 % | 3.00 ± 0.00 | 4.50 ± 0.71 | 4.50 ± 0.71"
    else:
        expected = "90.0 % | 3.00 | 4.00 | 4.00"
    assert plain.startswith(f"| cross entropy | {expected} |")
    assert f"over {seeds} seeds" in text.replace("\n", " ")
    moved = "+1.50 ± 0.71" if seeds == 2 else "+2.00"
    said = text.replace("\n  ", " ")
    assert (
        f"the centroid moves by {moved} steps, on time-shuffled input by {moved}, "
        f"without state by {moved}, with true labels by {moved};" in said
    )


def test_the_table_has_no_shuffled_input_where_all_steps_are_equal():
    late = {
        "name": "temporal_concentration",
        "kwargs": {"strength": 1.0, "direction": "late"},
    }
    runs = [run({"name": "cross_entropy"}, 0.9, 4.0), run(late, 0.8, 6.0)]
    for one in runs:
        one["profiles"] = dict(one["profiles"])
        del one["profiles"]["time-shuffled"]
    text = concentration_table(
        {"runs": runs, "samples": 96, "environment": ENVIRONMENT}
    )
    assert text.count("none: equal steps") == len(runs)
    assert "moves by +2.00 steps, without state" in text.replace("\n  ", " ")
