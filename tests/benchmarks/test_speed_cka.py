"""CKA is timed only between candidates that compute the same matrix."""

import json
import math

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.report.readme.cka import speed_cka
from benchmarks.speed.cka import candidates, equality, growth
from benchmarks.speed.cka.candidates import OURS, PER_STEP, RELEASED, reference
from benchmarks.speed.cka.equality import accuracy, check_equality
from benchmarks.speed.cka.features import Features, Setting
from benchmarks.speed.cka.growth import operations
from benchmarks.speed.cka.network import (
    NetworkSetting,
    network_candidate,
)
from sj_ext.cka import linear_cka

SMALL = {"layers": 4, "samples": 16, "width": 64, "T": 2}


@pytest.mark.parametrize("kind", ["real", "spikes", "offset"])
def test_every_candidate_computes_the_formula(kind):
    found = check_equality(Features(Setting(kind, **SMALL)))
    assert {OURS, PER_STEP, RELEASED} <= set(found)
    assert found[OURS].error < 1e-5
    assert (found[OURS].nan, found[OURS].impossible) == (0, 0)


def test_the_reference_is_the_unbiased_cka_of_two_layers():
    x = Features(Setting("real", **SMALL)).concatenated
    expected = linear_cka(x[0], x[3])
    torch.testing.assert_close(reference(x)[0, 3], expected)


def test_a_candidate_that_differs_is_refused(monkeypatch):
    monkeypatch.setattr(candidates, "released_cka", lambda x: torch.eye(len(x)))
    with pytest.raises(AssertionError, match="released procedure, real"):
        check_equality(Features(Setting("real", **SMALL)))


def test_nan_and_impossible_values_are_counted_apart():
    found = torch.tensor([[1.0, math.nan], [1.5, 0.25]])
    expected = torch.tensor([[1.0, 0.5], [0.5, 0.5]], dtype=torch.float64)
    one = accuracy(found, expected)
    assert (one.error, one.nan, one.impossible, one.entries) == (1.0, 1, 1, 4)


def test_matrices_of_a_network_must_agree_too():
    ours = torch.eye(3)
    assert equality.check_network({OURS: ours, PER_STEP: ours}) == 0
    with pytest.raises(AssertionError, match="ours, per step"):
        equality.check_network({OURS: ours, PER_STEP: torch.ones(3, 3)})


def test_steps_and_layers_of_a_network_give_one_matrix():
    setting = NetworkSetting(depth=8, samples=8, T=2, size=8)
    concat, per_step = (network_candidate(setting, name)() for name in (OURS, PER_STEP))
    torch.testing.assert_close(concat, per_step, atol=1e-4, rtol=0, equal_nan=True)


def test_half_a_gram_for_each_layer_and_half_of_all_products_are_counted():
    setting = Setting("real", layers=4, samples=8, width=16, T=2)
    grams = 8 * 8 / 2 * (4 + 4 + 8 + 16)
    assert operations(setting, OURS) == grams + 2 * 4**2 / 2 * 8**2 / 2
    assert operations(setting, PER_STEP) == grams + 2 * 8**2 / 2 * 8**2 / 2


def test_a_run_leaves_figures_a_plot_and_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "_BASE", Setting("real", **SMALL))
    monkeypatch.setattr(growth, "_GROWTH", {"T": ("T", (2, 4))})
    sizes = "--layers 4 --samples 16 --width 64 --T 2 --network_samples 0"
    rest = "--exact_samples 0 --repetitions 1 --peak false"
    words = ["speed", "cka", *sizes.split(), *rest.split(), "--output", str(tmp_path)]
    assert main(words) == 0
    names = {file.name for file in tmp_path.iterdir()}
    growth_of = "speed-cka-growth-cpu"
    assert names == {"speed-cka-cpu.json", f"{growth_of}.json", f"{growth_of}.png"}
    text = (tmp_path / "speed-cka-cpu.json").read_text(encoding="utf-8")
    result = json.loads(text)
    assert [row["part"] for row in result["rows"]] == ["real", "spikes", "pairs"]
    assert set(result["accuracy"]) == {"real", "spikes", "offset"}
    grown = json.loads((tmp_path / f"{growth_of}.json").read_text(encoding="utf-8"))
    assert [row["value"] for row in grown["rows"]] == [2, 4]
    result["environment"]["commit"] = "0" * 40
    lines = speed_cka(result).splitlines()
    assert lines[2].startswith("| real: L = 4, n = 16, T = 2, D 16-64 |")
    assert len({line.count("|") for line in lines if line.startswith("| ")}) == 1
