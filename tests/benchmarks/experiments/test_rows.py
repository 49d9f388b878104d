"""The table of results keeps provenance, order and what others have written."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.experiments.queue import Options
from benchmarks.experiments.rows import (
    OWN_RESULTS,
    RESULTS,
    TUNING,
    RowError,
    add_rows,
    read_rows,
    to_csv,
)
from tests.benchmarks.report import example

ROW = replace(
    example.ROW,
    experiment="attribution",
    arm="MSG, p 0.5",
    reported=83.3,
    reported_source="reported (second-hand)",
    measured=95.123456789,
    python="3.12.3",
    processor="some, processor",
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "experiments.csv"


def test_results_are_published_by_name_alone():
    assert Options().results == OWN_RESULTS
    assert RESULTS.parent.name == "results"
    assert OWN_RESULTS.parts[0] == "runs", "which no commit takes"


def test_candidates_of_a_tuning_stand_beside_each_other(path):
    tried = [
        replace(ROW, metric=TUNING, settings=f"lr {lr}", seed="100")
        for lr in (0.1, 0.2)
    ]
    add_rows(path, [*tried, replace(ROW, settings="lr 0.1")])
    # What was chosen is no part of what a row is about.
    add_rows(path, [replace(ROW, settings="lr 0.2")])
    found = [(row.metric, row.settings) for row in read_rows(path)]
    assert found == [
        ("test_accuracy", "lr 0.2"),
        (TUNING, "lr 0.1"),
        (TUNING, "lr 0.2"),
    ]


def test_rows_are_read_back_as_written(path):
    rows = [ROW, replace(ROW, seed="0 1 2", deviation=0.25, clean=False)]
    add_rows(path, rows)
    back = read_rows(path)
    assert back == [replace(row, measured=95.123457) for row in rows]
    assert to_csv(back) == path.read_text()


def test_the_order_follows_the_rows_and_not_when_they_came(path, tmp_path):
    rows = [replace(ROW, seed=str(seed), arm=arm) for seed in (2, 10) for arm in "ba"]
    for row in rows:
        add_rows(path, [row])
    add_rows(tmp_path / "other.csv", reversed(rows))
    assert (tmp_path / "other.csv").read_text() == path.read_text()
    assert [(r.arm, r.seed) for r in read_rows(path)] == [
        ("a", "2"),
        ("a", "10"),
        ("b", "2"),
        ("b", "10"),
    ]


def test_a_later_result_replaces_the_one_of_the_same_run(path):
    add_rows(path, [ROW, replace(ROW, size="full")])
    merged = add_rows(path, [replace(ROW, measured=90.0, digest="9876543210")])
    assert [(row.size, row.measured) for row in merged] == [
        ("demo", 90.0),
        ("full", 95.123457),
    ]


@pytest.mark.parametrize(
    "column",
    [
        "data_checksum",
        "split_checksum",
        "commit",
        "clean",
        "spikingjelly",
        "torch",
        "python",
        "device",
        "processor",
        "threads",
        "date",
        "digest",
        "measured",
    ],
)
def test_a_row_without_provenance_is_refused(path, column):
    add_rows(path, [ROW])
    header, cells = csv.reader(path.read_text().splitlines())
    cells[header.index(column)] = ""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, cells])
    with pytest.raises(RowError, match=rf"a value of `{column}` in line 2 of "):
        read_rows(path)


def test_what_is_no_number_is_named(path):
    add_rows(path, [ROW])
    path.write_text(path.read_text().replace("95.123457", "many"))
    with pytest.raises(RowError, match=r"`measured` in line 2 .* number, got 'many'"):
        read_rows(path)


def test_a_file_with_other_columns_is_refused(path):
    path.parent.mkdir()
    path.write_text("experiment,arm\nattribution,base\n")
    with pytest.raises(RowError, match="to have the columns experiment, size"):
        read_rows(path)


@pytest.mark.parametrize(
    "file", sorted(RESULTS.parent.glob("*.csv")), ids=lambda file: file.name
)
def test_published_rows_say_where_they_come_from(file: Path):
    for row in read_rows(file):
        assert re.fullmatch("[0-9a-f]{40}", row.commit), row
        assert row.clean, row
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", row.date), row
        assert re.fullmatch("[0-9a-f]{10}", row.digest), row
