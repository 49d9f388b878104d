"""The page holds what the table of results says, escaped, and fetches nothing."""

import html.parser
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.experiments.rows import TUNING, add_rows
from benchmarks.report.experiments import figures
from benchmarks.report.experiments.heat_map import heat_map, read_heat_map, stored_maps
from benchmarks.report.experiments.latex import latex_tables
from benchmarks.report.experiments.outline import outline_of, sweeps
from benchmarks.report.experiments.page import section
from benchmarks.report.experiments.plots import axis, plots_of, shortened
from benchmarks.report.experiments.summary import estimate, summarized
from benchmarks.report.experiments.tables import (
    main_table,
    number,
    other_table,
    sentences,
)
from benchmarks.report.readme import __main__ as readme
from benchmarks.report.readme.experiments import experiments_tables
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.progress import Reporter
from benchmarks.statistics.holm import holm
from benchmarks.statistics.power import smallest_detectable_difference
from benchmarks.statistics.sentences import UNTESTED
from benchmarks.tasks.report import main
from tests.benchmarks.report import example


class Page(html.parser.HTMLParser):
    """Collects tags, addresses and texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href")]

    def handle_data(self, text):
        self.texts.append(text.strip())


@pytest.fixture(scope="module")
def made_up():
    """The experiments of the example, by name."""
    return {found.name: found for found in summarized(example.rows())}


def column(experiment, heading):
    (found,) = (c for c in main_table(experiment) if c.heading.startswith(heading))
    labels = [arm.label for arm in experiment.arms]
    return dict(zip(labels, found.cells, strict=True))


def test_the_page_holds_its_experiments_and_fetches_nothing(written):
    text = written.page.read_text()
    page = Page(text)
    assert "report:" in written.said
    assert {address[0] for address in page.addresses} == {"#"}
    assert not re.search(r"url\(|@import|https?://", text)
    assert page.tags.count("table") == 3
    assert page.tags.count("script") == 1
    for name in ("base", "MSG", "calibrated window", "T = 10", "MSG, p 0.25"):
        assert name in page.texts
    assert any(text.startswith("best on test (optimistic)") for text in page.texts)


def test_names_are_shown_and_never_run(written):
    text = written.page.read_text()
    assert example.HOSTILE not in text
    assert example.HOSTILE in Page(text).texts


def test_reported_figures_say_where_they_come_from(written, made_up):
    cells = column(made_up["made_up"], "paper's figure")
    assert cells["MSG"].text == "83.3 ± 0.34"
    assert cells["MSG"].note == example.SECOND_HAND
    assert cells["dense noise"].text == ""
    shown = re.sub(r'data-sort="[^"]*"', "", written.page.read_text())
    found = re.findall(r"83\.3(?: ± 0\.34)?(?:<small>| )(.{22})", shown)
    # In the table, and with its mark in the plot: to the eye, the ear, and in summary.
    assert found == ["reported (second-hand)"] * shown.count("83.3")


def test_provenance_and_environment_stand_at_the_foot(written):
    text = written.page.read_text()
    for found in ("cccccccccc with changes", "SpikingJelly", "a processor, 1 thread"):
        assert found in text
    assert "page written with commit" in text
    assert "2026-01-02" in text


def test_figures_are_means_with_the_interval_of_the_t_distribution(made_up):
    rows = [r for r in example.attribution() if r.arm == "MSG"]
    values = [r.measured for r in rows if r.metric == "test_accuracy"]
    (found,) = (
        arm.figures["test_accuracy"]
        for arm in made_up["made_up"].arms
        if arm.label == "MSG"
    )
    half = 4.302653 * np.std(values, ddof=1) / 3**0.5
    assert found.mean == pytest.approx(np.mean(values))
    assert found.interval == pytest.approx(
        (np.mean(values) - half, np.mean(values) + half), rel=0.001
    )
    assert (found.runs, found.seeds, found.splits) == (3, (0, 1, 2), 1)


def test_rows_of_several_seeds_keep_their_deviation():
    row = replace(example.ROW, measured=50.0, deviation=3.0, seed="0 1 2 3")
    found = estimate([row])
    half = 3.182446 * 3.0 / 2
    assert found.interval == pytest.approx((50 - half, 50 + half))
    assert found.runs == 4
    assert estimate([replace(row, deviation=None, seed="0")]).interval is None
    assert estimate([replace(row, measured=99.0)]).interval[1] == 100


def test_arms_are_compared_with_their_reference_and_corrected_together(made_up):
    values = {}
    for row in example.attribution():
        if row.metric == "test_accuracy":
            values.setdefault(row.arm, []).append(row.measured)
    arms = {arm.label: arm.comparison for arm in made_up["made_up"].arms}
    assert arms.pop("base") is None
    detectable = column(made_up["made_up"], "smallest detectable")
    p_values = []
    for label, found in arms.items():
        pairs = np.subtract(values[label], values["base"])
        assert found.reference == "base"
        assert found.difference.estimate == pytest.approx(pairs.mean())
        expected = smallest_detectable_difference(
            pairs.std(ddof=1) / len(pairs) ** 0.5, len(pairs) - 1
        )
        assert float(detectable[label].text) == pytest.approx(expected, rel=0.05)
        p_values.append(found.difference.p_value)
    assert [found.adjusted for found in arms.values()] == holm(p_values)


def test_two_pairs_give_no_p_value():
    arms = {"MSG, p 0.1": "base", "MSG, p 0.9": "MSG"}
    rows = [
        replace(row, arm=arms[row.arm]) for row in example.sweep() if row.arm in arms
    ]
    (found,) = summarized(rows)
    assert all(cell.text == "" for cell in column(found, "p (Holm)").values())
    assert sentences(found)[:2] == [
        UNTESTED,
        "Two training seeds say little about how much trainings differ.",
    ]


def test_single_recordings_are_compared_where_runs_are_at_hand(made_run):
    rows, folders = [], {}
    for arm, wrong in (("base", 60), ("MSG", 20)):
        for seed in range(3):
            correct = (np.arange(200) + seed) % 200 >= wrong
            path = made_run(correct, name=arm, seed=seed)
            digest = path.name.rpartition("-")[2]
            folders[digest] = path
            rows.append(
                replace(
                    example.ROW,
                    arm=arm,
                    seed=str(seed),
                    digest=digest,
                    measured=100 * correct.mean(),
                )
            )
    ((_, msg),) = (found.arms for found in summarized(rows, folders))
    assert msg.comparison.of_items
    assert msg.comparison.difference.items == (200,)
    assert msg.comparison.difference.estimate == pytest.approx(20)
    assert msg.comparison.adjusted < 0.001
    # Recordings do not stand in for trainings: of one seed nothing is tested.
    one_seed = [row for row in rows if row.seed == "0"]
    ((_, msg),) = (found.arms for found in summarized(one_seed, folders))
    assert msg.comparison.of_items
    assert msg.comparison.adjusted is None
    assert msg.comparison.difference.interval[0] < 20


def test_arms_that_differ_in_a_number_make_a_curve(made_up):
    (sweep,) = made_up["made_up_sweep"].outline.sweeps
    assert sweep.axis == "p"
    assert [value for value, _ in sweep.points] == [0.1, 0.25, 0.5, 0.75, 0.9]
    (plot,) = plots_of(made_up["made_up_sweep"])
    places = [mark.x for mark in plot.marks]
    assert places == sorted(places)
    heights = [mark.y for mark in plot.marks]
    assert min(heights) == heights[2]
    assert sweeps(["T = 4", "T = 10", "other"]) == []


def test_an_arm_in_a_cell_of_the_grid_has_its_reference_there():
    labels = ["base, T = 4", "MSG, T = 4", "base, T = 10", "MSG, T = 10"]
    found = outline_of("unknown", "full", labels)
    assert found.references == {
        "MSG, T = 4": "base, T = 4",
        "MSG, T = 10": "base, T = 10",
    }


def test_arms_are_compared_with_the_reference_of_their_file_alone():
    accuracy = [f"magnitude, {rule}, 90%" for rule in ("full T", "Fisher rule")]
    others = ["magnitude, full T, fewer epochs, 90%", "random, 90%", "dense, 0%"]
    found = outline_of("fisher_pruning", "full", [*reversed(accuracy), *others])
    # At equal sparsity; a dense network has none of its own.
    assert found.references == {
        "magnitude, Fisher rule, 90%": "magnitude, full T, 90%",
        "magnitude, full T, fewer epochs, 90%": "magnitude, full T, 90%",
        "random, 90%": "magnitude, full T, 90%",
    }
    labels = [
        f"{norm}, {mask}"
        for norm in ("per step", "pooled")
        for mask in ("no mask", "bernoulli")
    ]
    assert outline_of("msg_batch_norm", "full", labels).references == {
        "pooled, no mask": "per step, no mask",
        "pooled, bernoulli": "per step, bernoulli",
    }
    swept = outline_of("msg_p", "full", ["MSG, p 0.0", "MSG, p 0.5"])
    assert swept.references == {"MSG, p 0.5": "MSG, p 0.0"}


def test_a_reference_is_not_guessed():
    assert outline_of("unknown", "full", ["a", "b"]).references == {}
    assert outline_of("attribution", "full", ["dense noise", "MSG"]).references == {}


def test_marks_lie_where_their_figures_are(made_up):
    arms, differences = plots_of(made_up["made_up"])
    assert [len(plot.marks) for plot in (arms, differences)] == [8, 5]
    assert differences.reference == "no difference"
    for plot in (arms, differences):
        first, last = plot.x[0], plot.x[-1]
        scale = (last.at - first.at) / (float(last.text) - float(first.text))
        for mark in plot.marks:
            value = float(re.search(r": ([-+\d.]+)", mark.tip)[1])
            expected = first.at + (value - float(first.text)) * scale
            assert mark.x == pytest.approx(expected, abs=0.5)
            assert 0 <= mark.x <= 460


def test_what_tuning_tried_and_took_stands_in_the_table():
    rows = [
        replace(example.ROW, arm=arm, seed=str(seed), settings=f"lr {lr}")
        for arm, lr in (("base", 0.005), ("MSG", 0.015))
        for seed in range(3)
    ]
    tried = [
        replace(
            example.ROW,
            arm=arm,
            metric=TUNING,
            seed="100",
            measured=measured,
            settings=settings,
        )
        for arm, measured, settings in (
            ("base", 93.5, "lr 0.005"),
            ("base", 91.0, "lr 0.015"),
            ("MSG", 90.25, "lr 0.005"),
            ("MSG", 94.0, "lr 0.015"),
        )
    ]
    (found,) = summarized([*tried, *rows])
    assert [arm.label for arm in found.arms] == ["base", "MSG"]
    cell = column(found, "settings")["MSG"]
    assert cell.text == "lr 0.015"
    assert cell.note == "of lr 0.005 90.25%; lr 0.015 94.00%"
    assert TUNING not in found.metrics
    assert "lr 0.005 90.25" in experiments_tables([*tried, *rows])
    # Killed within the tuning: what was tried is shown all the same.
    (found,) = summarized(tried)
    assert column(found, "settings")["base"].note.startswith("of lr 0.005 93.50%")


def test_effects_stand_beside_the_differences_they_belong_to(made_up):
    cells = column(made_up["made_up"], "effect")
    for arm in made_up["made_up"].arms:
        if arm.comparison is not None:
            effect = arm.comparison.difference.effect
            assert cells[arm.label].text == f"{effect.size:+.2f}"
    assert cells["base"].text == ""


@pytest.mark.parametrize("values", [[5.0], [0.0], [0.1, 0.9], [-3.0, 1e4], [95, 95.01]])
def test_an_axis_surrounds_its_values(values):
    low, high, ticks = axis(values)
    assert low < min(values) <= max(values) < high
    assert 4 <= len(ticks) <= 10
    assert low <= ticks[0] < ticks[-1] <= high


def test_numbers_have_decimals_that_matter():
    assert [number(x) for x in (95.128, 0.0341, 12345.6, 0.0)] == [
        "95.13",
        "0.034",
        "12346",
        "0.00",
    ]
    assert len(shortened("x" * 100, 60)) <= 60
    assert shortened("short") == "short"


def test_a_heat_map_keeps_values_names_and_what_is_undefined(tmp_path):
    result = example.comparison()
    result.save(tmp_path / "snn-ann.npz")
    found = read_heat_map(tmp_path / "snn-ann.npz")
    squares = list(found.squares)
    assert len(squares) == 7 * 9
    at = {(s["x"], s["y"]): s for s in squares}
    # The first layer is the lowest row.
    assert at[0, 6]["value"] == f"{result.cka[0, 0]:.3f}"
    assert at[8, 0]["value"] == f"{result.cka[6, 8]:.3f}"
    assert at[3, 4]["value"] == "undefined"
    assert at[3, 4]["colour"] is None
    assert (found.low, found.high) == (0, 1)
    negative = replace(result, cka=result.cka - 0.5)
    assert heat_map(negative, "").low == pytest.approx(
        float(negative.cka.nan_to_num(1).min())
    )


def test_tables_of_a_folder_are_taken_together_and_missing_ones_refused(tmp_path):
    add_rows(tmp_path / "a.csv", example.sweep())
    add_rows(tmp_path / "b.csv", example.study())
    words = ["--results", str(tmp_path), "--output", str(tmp_path / "out")]
    main([*words, "--runs", str(tmp_path)], Reporter.silent())
    text = (tmp_path / "out" / "report.html").read_text()
    assert "made_up_sweep" in text
    assert "made_up_study" in text
    assert "a.csv, b.csv" in text
    with pytest.raises(ConfigError, match="table of results"):
        main(["--results", str(tmp_path / "none.csv")], Reporter.silent())


def test_an_experiment_is_shown_as_its_file_says():
    labels = ["MSG", "base", "dense noise", "an arm of former days"]
    found = outline_of("attribution", "demo", labels)
    assert found.title.startswith("Why masking helps")
    assert found.arms == ("base", "dense noise", "MSG", "an arm of former days")
    assert set(found.references.values()) == {"base"}
    assert found.notes[-1].startswith("Demo size.")
    assert "2406.19645" in found.notes[0]


def test_comparisons_below_the_runs_are_found_and_deep_ones_thinned(tmp_path):
    folder = tmp_path / "depth-0123456789" / "depth-20"
    folder.mkdir(parents=True)
    example.comparison().save(folder / "snn-ann.npz")
    (found,) = stored_maps(tmp_path)
    assert found.title == "depth-0123456789, depth-20: snn-ann"
    deep = heat_map(example.comparison(130, 250), "deep")
    assert len(deep.x) == 84
    assert deep.x[1] == "layer1.0.relu"
    assert "One layer of 3 is shown" in deep.note


def test_a_demo_is_not_drawn_on_one_axis_with_the_papers_figures():
    rows = [replace(row, size="demo") for row in example.attribution()]
    (demo,) = summarized(rows)
    arms, _ = plots_of(demo)
    assert {mark.kind for mark in arms.marks} == {"measured"}
    assert len(figures.draw(demo, 3.25).legends) == 0
    (full,) = summarized(example.attribution())
    assert len(figures.draw(full, 3.25).legends) == 1
    reported = main_table(demo)[1]
    assert reported.group == "reported, not of a demo"
    assert "full size, with other data" in latex_tables(demo)


def test_arms_without_a_common_seed_are_not_compared(made_run):
    rows, folders = [], {}
    for arm, seed in (("base", 0), ("MSG", 1)):
        path = made_run(np.arange(20) > 3, name=arm, seed=seed)
        digest = path.name.rpartition("-")[2]
        folders[digest] = path
        rows.append(replace(example.ROW, arm=arm, seed=str(seed), digest=digest))
    (found,) = summarized(rows, folders)
    assert all(arm.comparison is None for arm in found.arms)


def test_the_readme_has_the_same_figures_in_tables_of_its_own(made_up):
    text = experiments_tables(example.rows())
    assert text.count("**made_up**") == 1
    (line,) = (x for x in text.splitlines() if x.startswith("| MSG |"))
    found = column(made_up["made_up"], "selected on validation")["MSG"]
    assert f"{found.text}<br><sub>{found.note}</sub>" in line
    assert "83.3 ± 0.34<br><sub>reported (second-hand)" in line
    assert example.HOSTILE not in text
    tables = [x for x in text.splitlines() if x.startswith("|")]
    # A row of a table has as many cells as its neighbours.
    widths = [x.count("|") for x in tables]
    assert len(set(widths)) <= 3
    assert "commit cccccccccc" in text


def test_a_table_of_results_has_its_place_in_the_readme(tmp_path, monkeypatch):
    add_rows(tmp_path / "experiments.csv", example.study())
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    text = "# Title\n<!-- begin experiments -->\nold\n<!-- end experiments -->\n"
    found = readme.filled(text)
    assert "old" not in found
    assert "**made_up_study** (demo size)" in found
    assert readme.filled(found) == found
    with pytest.raises(ValueError, match="begin experiments"):
        readme.filled("# Title\n")


def test_many_figures_of_few_arms_stand_below_one_another():
    metrics = [f"cka_snn_layer_{i}" for i in range(9)]
    rows = [
        replace(example.ROW, metric=metric, measured=float(i))
        for i, metric in enumerate([*metrics, "test_accuracy"])
    ]
    (found,) = summarized(rows[:9])
    names, base = main_table(found)
    assert names.cells[3].text == "CKA SNN layer 3"
    assert [cell.text for cell in base.cells] == [f"{i}.00" for i in range(9)]
    assert plots_of(found) == []
    (found,) = summarized(rows)
    assert main_table(found)[1].heading == "selected on validation"
    assert len(other_table(found)[0].cells) == 9
    assert section(found).is_study
    assert latex_tables(found).count(r"\begin{table*}") == 2
    assert "CKA SNN layer 3" in experiments_tables(rows[:9])
