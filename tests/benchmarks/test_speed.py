"""Speed is measured only between candidates that compute the same."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.report.readme.__main__ import rendered
from benchmarks.runs.progress import Reporter
from benchmarks.speed.bandwidth import copy_bandwidth, layer_bytes
from benchmarks.speed.masked import benchmark, equality, passes
from benchmarks.speed.masked.equality import check_equality
from benchmarks.speed.masked.neurons import (
    DROPPED,
    HOST,
    OURS,
    RELEASED,
    TORCH,
    host_kernels,
    neurons,
)
from benchmarks.speed.masked.passes import FLOOR, Setting, growing
from benchmarks.speed.peak import peak_bytes
from benchmarks.speed.results import show
from benchmarks.speed.timing import Timing, interleaved
from sj_ext import available, host

CPU = torch.device("cpu")
SMALL = Setting(T=3, batch=2, channels=4, size=16)
MB = 10**6


def test_all_candidates_compute_the_same_under_the_masks_they_draw():
    check_equality(neurons("auto", "torch"), DROPPED, CPU)


def test_the_check_covers_both_layouts_an_initial_state_and_several_cuda_blocks():
    cases = equality.CASES
    assert {case.channels_last for case in cases} == {False, True}
    assert any(case.initial_state for case in cases)
    assert any(torch.Size(case.shape[1:]).numel() > 1024 for case in cases)


class Altered(torch.nn.Module):
    """Ours, with its input, its gradient or its share of kept derivatives changed."""

    def __init__(self, **changes):
        super().__init__()
        self.node = neurons("auto", "torch")[OURS]()
        self.node.surrogate_function.mask.p = changes.get("p", 0.5)
        self.gain = changes.get("gain", 1.0)
        self.shift = changes.get("shift", 0.0)

    def forward(self, x, v=None):
        if v is not None:
            self.node.v = v
        if self.gain != 1.0:
            x = x * self.gain + (1.0 - self.gain) * x.detach()
        return self.node(x + self.shift)


@pytest.mark.parametrize("changes", [{"shift": 0.25}, {"gain": 1.001}, {"p": 0.4}])
def test_a_candidate_that_differs_is_refused(changes):
    found = neurons("auto", "torch") | {OURS: lambda: Altered(**changes)}
    with pytest.raises(AssertionError, match="masked, ours, contiguous"):
        check_equality(found, DROPPED, CPU)


def test_every_candidate_is_timed_in_turn():
    calls = []
    timings = interleaved(
        {name: (lambda n=name: calls.append(n)) for name in "ab"}, 3, CPU
    )
    assert calls == ["a", "a", "b", "b", *"ababab"]
    assert timings["a"].low <= timings["a"].seconds <= timings["a"].high


def test_saved_bytes_are_those_of_distinct_tensors():
    x = torch.randn(1000, requires_grad=True)
    timing = interleaved({"square": lambda: x * x}, 1, CPU)["square"]
    assert timing.saved_bytes == 4000


def hold_50_mb_for_a_moment():
    before = torch.ones(25 * MB // 4)
    return lambda: before.sum() + torch.ones(50 * MB // 4).sum()


def hold_1_mb_for_a_moment():
    return lambda: torch.ones(MB // 4).sum()


def test_peak_memory_is_that_of_the_work_alone():
    peak = peak_bytes(hold_50_mb_for_a_moment, hold_1_mb_for_a_moment, CPU)
    assert 49 * MB < peak < 60 * MB


def test_our_layer_saves_memory_and_says_what_it_ran_on():
    row = benchmark.measure(SMALL, 1)
    timings = row["timings"]
    assert set(timings) == {HOST, TORCH, OURS, RELEASED}
    assert timings[OURS].saved_bytes < timings[HOST].saved_bytes
    assert row["ran_on"] == {HOST: "torch", TORCH: "torch", OURS: "cpu"}
    pinned = benchmark.measure(replace(SMALL, backend="torch"), 1)
    assert pinned["ran_on"][OURS] == "torch"


def test_growing_layers_are_named_by_the_shape_that_runs():
    for what, value, setting in growing(Setting()):
        assert str(list(setting.shape)) in setting.title
        axis = {"T": 0, "batch": 1, "channels": 2}[what]
        assert setting.shape[axis] == value


def test_the_floor_of_a_layer_is_five_tensors_at_the_speed_of_a_copy():
    assert layer_bytes(1000) == 5 * 4000
    assert 1e8 < copy_bandwidth(CPU, 3, size=2**24) < 1e13


def test_the_host_has_no_fused_kernel_on_a_cpu():
    assert host_kernels(CPU) == ["torch"]


def test_the_host_is_offered_every_kernel_that_it_can_run(monkeypatch):
    refusals = {"triton": None, "cupy": None, "cuda": "not built"}
    monkeypatch.setattr(
        host, "fused_refusal", lambda kernel, dynamics, device: refusals[kernel]
    )
    found = host_kernels(torch.device("cuda", 0))
    assert set(found) == set(host.multi_step_backends()) & {"triton", "cupy"}


def test_the_host_runs_on_the_kernel_that_is_fastest_here(monkeypatch):
    seconds = {"cupy": 2.0, "triton": 1.0}
    timings = {name: Timing(value, value, value, 0) for name, value in seconds.items()}
    monkeypatch.setattr(benchmark, "host_kernels", lambda device: list(seconds))
    monkeypatch.setattr(benchmark, "interleaved", lambda *arguments: timings)
    setting = benchmark.base_setting(benchmark.MaskedOptions(backend="cpu"))
    assert (setting.host_kernel, setting.backend) == ("triton", "cpu")


@pytest.fixture
def one_small_growth(monkeypatch):
    monkeypatch.setattr(passes, "_GROWTH", {"T": (2,)})
    monkeypatch.setattr(benchmark, "copy_bandwidth", lambda device: 1e10)


def test_a_benchmark_runs_by_its_name_and_leaves_a_file(tmp_path, one_small_growth):
    options = "--T 2 --batch 1 --size 32 --repetitions 1 --peak false --backend cpu"
    written = ["speed", "masked", *options.split(), "--output", str(tmp_path)]
    assert main(written) == 0
    (file,) = tmp_path.iterdir()
    assert file.name == "speed-masked-cpu.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    titles = [row["title"] for row in result["rows"]]
    assert titles[0] == "layer [2, 4, 64, 32, 32]"
    assert titles[-1] == "training step of ResNet-18 [2, 1, 2, 32, 32], channels last"
    assert all(row["ran_on"][OURS] == "cpu" for row in result["rows"])
    assert result["rows"][0]["floor_seconds"] == 5 * 4 * 2 * 4 * 64 * 32 * 32 / 1e10
    assert result["growth"][0]["varied"] == "T = 2"
    for row in result["rows"]:
        assert all(timing["seconds"] > 0 for timing in row["timings"].values())
        assert (FLOOR in row["timings"]) == ("training step" in row["title"])
    assert result["environment"]["host"]
    result["environment"]["commit"] = "0" * 40
    lines = rendered("speed-masked-cpu", result).splitlines()
    assert lines[2].startswith("| layer [2, 4, 64, 32, 32] |")
    assert {line.count("|") for line in lines[:8]} == {lines[0].count("|")}
    assert any("| [2, 4, 32, 32, 32] |" in line for line in lines)


def test_every_benchmark_is_listed_and_an_unknown_one_is_named(capsys):
    assert main(["speed"]) == 0
    listed = capsys.readouterr().out
    assert "masked" in available("speed")
    assert all(name in listed for name in available("speed"))
    assert main(["speed", "maked"]) == 2
    assert "Did you mean 'masked'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--repetitions 4", "Expected `repetitions` to be an odd positive number"),
        ("--T 0", "Expected `T` of at least 1, got 0"),
        ("--batch 0", "Expected `batch` of at least 1, got 0"),
        ("--size 8", "Expected `size` of at least 16, got 8"),
        ("--device tpu", "Expected `device` to be one that torch finds here"),
        ("--backend cupy", "cannot run on backend='cupy'"),
    ],
)
def test_what_cannot_run_is_explained(options, message, capsys, tmp_path):
    arguments = ["speed", "masked", *options.split(), "--output", str(tmp_path)]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_table_fits_a_terminal_of_80_columns(capsys):
    reporter = Reporter()
    timings = benchmark.measure(SMALL, 1)["timings"]
    show(reporter, "layer", timings, HOST)
    printed = capsys.readouterr().out
    assert "peak MB" in printed
    assert "…" not in printed
