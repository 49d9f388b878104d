"""Fisher information is timed only between candidates that find the same."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.report.readme.__main__ import rendered
from benchmarks.runs.progress import Reporter
from benchmarks.speed.fisher import benchmark, candidates, equality
from benchmarks.speed.fisher.candidates import (
    BATCHED,
    FIRST,
    HOST_VMAP,
    LOOP,
    MAIN,
    OPACUS,
    OURS,
    PEERS,
    RELEASED,
    TRAINING,
    VMAP,
    measure,
    refusal,
    units,
    work,
)
from benchmarks.speed.fisher.equality import check_equality
from benchmarks.speed.fisher.network import Setting, frames, network
from sj_ext import available

SMALL = Setting(T=3, batch=3)
DOUBLE = replace(SMALL, dtype=torch.float64)


def test_all_candidates_find_the_same():
    errors = check_equality([SMALL], SMALL, [VMAP, LOOP])
    assert set(errors) == {BATCHED, VMAP, *OURS}
    assert max(errors.values()) < 1e-9


def test_opacus_finds_the_same_for_all_but_batch_norm():
    pytest.importorskip("opacus")
    assert check_equality([], SMALL, [OPACUS])[OPACUS] < 1e-9


@pytest.mark.parametrize("name", ["batch_mean", "per_sample", VMAP])
def test_a_candidate_that_differs_is_refused(name, monkeypatch):
    def altered(setting, candidate):
        run = measure(setting, candidate)
        if candidate != name:
            return run
        return lambda: {k: v * (1 + 1e-5) for k, v in run().items()}

    monkeypatch.setattr(equality, "measure", altered)
    with pytest.raises(AssertionError, match=f"^{name}, "):
        check_equality([SMALL], SMALL, [VMAP])


def test_a_candidate_that_leaves_parameters_out_is_refused(monkeypatch):
    def altered(setting, candidate):
        run = measure(setting, candidate)
        if candidate != VMAP:
            return run
        return lambda: {k: v for k, v in run().items() if "bn" not in k}

    monkeypatch.setattr(equality, "measure", altered)
    with pytest.raises(AssertionError, match=r"^vmap, own surrogate: expected"):
        check_equality([], SMALL, [VMAP])


def test_the_released_procedure_squares_the_mean_gradient_of_the_first_t_steps():
    net, (x, target) = network(DOUBLE), frames(DOUBLE)
    found = measure(DOUBLE, RELEASED)()
    loss = torch.nn.functional.cross_entropy(net.train(False)(x)[:2].mean(0), target)
    bias = net.classifier[1].bias
    # The host's rc1 has no gradients in eval below the last layer, which needs none.
    (gradient,) = torch.autograd.grad(loss, bias)
    expected = gradient.square().sum()
    torch.testing.assert_close(found["classifier.1.bias"][1], expected.detach())


def test_every_layer_of_the_network_spikes():
    assert all(bool((v > 0).all()) for v in measure(DOUBLE, RELEASED)().values())


def test_the_released_procedure_runs_through_more_steps_than_ours():
    assert units(RELEASED, 10, "steps") == (100, 100)
    assert {units(name, 10, "steps") for name in OURS} == {(10, 55)}
    assert {units(name, 10, "whole") for name in OURS} == {(10, 100)}
    assert units(TRAINING, 10, "steps") == (10, 10)


def counted_steps(setting, name):
    """Steps that the first convolution runs through, in batches of N."""
    seen = {"forward": 0, "backward": 0}

    def forward(module, inputs, output):
        share = output.shape[1] / setting.batch
        seen["forward"] += len(output) * share
        output.register_hook(backward)

    def backward(gradient):
        seen["backward"] += len(gradient) * gradient.shape[1] / setting.batch

    def observed(setting):
        net = network(setting)
        net.features[0].conv.register_forward_hook(forward)
        return net

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "network", observed)
        run = work(setting, name)
    run()
    seen.update(forward=0, backward=0)
    run()
    return seen["forward"], seen["backward"]


@pytest.mark.parametrize("name", [RELEASED, "batch_mean", "random_sign", LOOP])
def test_the_steps_are_those_that_a_layer_runs_through(name):
    assert counted_steps(SMALL, name) == units(name, SMALL.T, "steps")


def test_a_peer_that_is_missing_or_cannot_run_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.grad_sample", None)
    assert refusal(SMALL, OPACUS).startswith("not installed")
    assert "vmap" in refusal(SMALL, HOST_VMAP)
    assert refusal(SMALL, LOOP) is None


def test_a_benchmark_runs_by_its_name_and_leaves_a_file(tmp_path, capsys):
    options = "--T [2,3] --batch 2 --repetitions 1 --peer_repetitions 1 --peak false"
    written = ["speed", "fisher", *options.split(), "--output", str(tmp_path)]
    assert main(written) == 0
    printed = capsys.readouterr().out
    assert "3+3" in printed
    assert "9+9" in printed
    assert "…" not in printed
    (file,) = tmp_path.iterdir()
    assert file.name == "speed-fisher-cpu.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    assert "random" in result["frames"]
    assert HOST_VMAP in result["refusals"]
    ran = {*MAIN, *PEERS} - set(result["refusals"])
    for T, row in zip((2, 3), result["rows"], strict=True):
        assert row["shape"] == [T, 2, 2, 32, 32]
        assert row["execution"] == "steps"
        assert set(row["timings"]) == ran
        assert all(timing["seconds"] > 0 for timing in row["timings"].values())
        step = row["step_seconds"]
        expected = T * step["forward"] + T * (T + 1) / 2 * step["backward"]
        assert row["arithmetic_seconds"]["batch_mean"] == pytest.approx(expected)
    result["environment"]["commit"] = "0" * 40
    text = rendered("speed-fisher-cpu", result)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(ran) - len(FIRST) + len(result["refusals"])
    assert {line.count("|") for line in lines} == {6}
    assert "| 4 + 4 / 9 + 9 |" in text


def test_peaks_are_those_of_one_candidate_in_a_process_of_its_own():
    peak = benchmark.peak(replace(SMALL, T=4, batch=16), TRAINING)
    # The first layer's outputs alone are T N x 8 channels of 32 x 32 float32.
    assert peak > 4 * 16 * 8 * 32 * 32 * 4


def test_the_benchmark_is_listed():
    assert "fisher" in available("speed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--T []", "Expected `T` to be positive numbers"),
        ("--T [4,0]", "Expected `T` to be positive numbers"),
        ("--batch 0", "Expected `batch` to be positive"),
        ("--peer_repetitions 2", "Expected `peer_repetitions` to be 0 or an odd"),
    ],
)
def test_what_cannot_run_is_explained(options, message, capsys, tmp_path):
    arguments = ["speed", "fisher", *options.split(), "--output", str(tmp_path)]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_peers_can_be_left_out(tmp_path, capsys):
    options = "--T [2] --batch 2 --repetitions 1 --peer_repetitions 0 --peak false"
    arguments = ["speed", "fisher", *options.split(), "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert LOOP not in capsys.readouterr().out


def test_a_table_says_how_peaks_compare_with_a_training_step(capsys):
    options = benchmark.FisherOptions(T=[2], batch=2, repetitions=1, peak=False)
    row = benchmark.measure(replace(SMALL, T=2), options, ())
    sizes = {TRAINING: 10**7, "per_sample": 2 * 10**7}
    for name, size in sizes.items():
        timing = replace(row["timings"][name], peak_bytes=size)
        row["timings"][name] = timing
    slowest = row["timings"][RELEASED]
    row["timings"][LOOP] = replace(slowest, seconds=99.9, peak_bytes=10**10)
    row["units"][LOOP] = benchmark.Units(400, 400)
    benchmark.show(Reporter(), row)
    printed = capsys.readouterr().out
    assert "…" not in printed
    lines = printed.splitlines()
    (line,) = (one for one in lines if one.strip().startswith("per_sample  "))
    assert line.split()[-2:] == ["20", "2.00"]
