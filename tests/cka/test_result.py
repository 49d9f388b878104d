"""`CKAResult` names what was measured, says how sure it is, and survives in files."""

import csv
import os

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from sj_ext.cka import CKA, CKAResult, Side


def network(seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 4), nn.Tanh(), nn.Linear(4, 2)
    )


def measured(*models, batches=8, samples=10, T=3, seed=1, **options):
    generator = torch.Generator().manual_seed(seed)
    x = [torch.randn(T, samples, 5, generator=generator) for _ in range(batches)]
    sides = [Side(model, T=T) for model in models]
    options = {"time": "per_step", "rsa": True, **options}
    return CKA(*sides, **options).measure(x, progress=False)


@pytest.fixture(scope="module")
def pair():
    return measured(network(0), network(1))


@pytest.fixture(scope="module")
def alone():
    return measured(network())


def test_steps_are_found_by_the_names_of_layers(pair):
    block = pair.steps("2", "4")
    assert torch.equal(block, pair.per_step[6:9, 12:15])
    assert torch.equal(pair.steps("2"), pair.per_step[6:9, 6:9])
    assert torch.equal(pair.steps("2", measure="rsa"), pair.rsa_per_step[6:9, 6:9])
    with pytest.raises(KeyError, match="one of the 5 layers of Sequential"):
        pair.steps("5")
    with pytest.raises(ValueError, match="time='per_step'"):
        measured(network(), time="concat").steps("2")
    with pytest.raises(ValueError, match="rsa=True"):
        measured(network(), rsa=False).steps("2", measure="rsa")


def test_an_interval_is_that_of_batches_drawn_with_replacement(pair):
    low, high = pair.interval(level=0.9, resamples=2000)
    generator = np.random.default_rng(3)
    found = []
    for _ in range(2000):
        drawn = generator.integers(8, size=8)
        xy, xx, yy = (part[drawn].sum(0) for part in pair.sums)
        found.append(xy / (xx[:, None] * yy).sqrt())
    ends = np.quantile(np.stack(found), [0.05, 0.95], axis=0)
    np.testing.assert_allclose(low, ends[0], atol=0.02)
    np.testing.assert_allclose(high, ends[1], atol=0.02)
    assert ((low <= pair.cka) & (pair.cka <= high)).all()
    assert all(
        torch.equal(a, b)
        for a, b in zip((low, high), pair.interval(0.9, 2000), strict=True)
    )
    wider = pair.interval(0.99, 2000)
    assert (wider[1] - wider[0] > high - low).all()


def test_a_network_and_itself_leave_no_doubt(alone):
    low, high = alone.interval()
    ones = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(low.diagonal(), ones)
    torch.testing.assert_close(high.diagonal(), ones)


def test_an_interval_narrows_as_batches_are_added():
    few = measured(network(0), network(1), batches=5)
    many = measured(network(0), network(1), batches=40)

    def width(result):
        low, high = result.interval()
        return (high - low).mean()

    assert width(many) < 0.6 * width(few)


def test_an_interval_needs_batches_and_a_level(pair):
    with pytest.raises(ValueError, match="Expected at least 5 batches to draw from"):
        measured(network(), batches=4).interval()
    with pytest.raises(ValueError, match="'exact'"):
        measured(network(), estimator="exact", rsa=False).interval()
    with pytest.raises(ValueError, match=r"Expected `level` in \(0, 1\), got 95"):
        pair.interval(95)
    with pytest.raises(ValueError, match="Expected `resamples`"):
        pair.interval(resamples=0)


def test_a_constant_layer_has_no_interval():
    dead = network()
    nn.init.zeros_(dead[2].weight)
    result = measured(network(1), dead)
    assert result.y.constant == ("2", "3", "4")
    for end in result.interval():
        assert end[:, 2:].isnan().all()
        assert not end[:, :2].isnan().any()


def test_layers_match_by_name_or_else_by_place(pair):
    assert list(pair.diagonal()) == [(str(i), str(i)) for i in range(5)]
    assert list(pair.diagonal().values()) == pair.cka.diagonal().tolist()
    shifted = nn.Sequential(nn.Identity(), network(1))
    by_place = CKA(network(), shifted, ["0", "2"], ["1.0", "1.2"])
    by_place.update(torch.randn(6, 5))
    assert list(by_place.compute().diagonal()) == [("0", "1.0"), ("2", "1.2")]
    unequal = CKA(network(), shifted, ["0", "2"], ["1.0"])
    unequal.update(torch.randn(6, 5))
    with pytest.raises(ValueError, match="got 2 and 1 with no name in common"):
        unequal.compute().diagonal()


def test_time_dynamics_are_the_change_between_steps(alone, pair):
    dynamics = alone.time_dynamics()
    assert dynamics.layers == alone.layers_x
    for i, name in enumerate(alone.layers_x):
        block = alone.steps(name)
        off = [1 - block[t, s] for t in range(3) for s in range(3) if t != s]
        assert dynamics.change[i] == pytest.approx(float(sum(off)) / 6)
        assert dynamics.first_last[i] == block[0, 2]
    with pytest.raises(ValueError, match="Expected a result of one network and itself"):
        pair.time_dynamics()
    with pytest.raises(ValueError, match="time='per_step'"):
        measured(network(), time="mean").time_dynamics()


def test_a_layer_with_one_step_has_no_dynamics():
    still = measured(network(), T=1)
    assert still.time_dynamics().change.isnan().all()
    assert still.time_dynamics().first_last.isnan().all()


@pytest.mark.parametrize("options", [{}, {"estimator": "exact", "rsa": False}])
def test_a_saved_result_is_loaded_bit_for_bit(options, tmp_path):
    dead = network()
    nn.init.zeros_(dead[2].weight)
    result = measured(dead, network(1), **options)
    path = tmp_path / "new" / "cka.npz"
    result.save(path)
    loaded = CKAResult.load(path)
    for name, value in vars(result).items():
        other = getattr(loaded, name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.nan_to_num(9), other.nan_to_num(9)), name
            assert value.dtype == other.dtype
        elif name != "sums":
            assert value == other, name
    if result.sums is not None:
        for a, b in zip(result.interval(), loaded.interval(), strict=True):
            assert torch.equal(a.nan_to_num(9), b.nan_to_num(9))
    assert repr(loaded) == repr(result)
    assert [file.name for file in path.parent.iterdir()] == ["cka.npz"]


def test_a_file_holds_no_pickle(pair, tmp_path):
    pair.save(tmp_path / "cka.npz")
    with np.load(tmp_path / "cka.npz", allow_pickle=False) as file:
        assert all(array.dtype != object for array in dict(file).values())


def test_other_files_are_refused(tmp_path, pair):
    (tmp_path / "text").write_text("cka")
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    np.save(tmp_path / "array.npy", np.zeros(2))
    for name in ("text", "other.npz", "array.npy"):
        with pytest.raises(ValueError, match="a file with a CKAResult"):
            CKAResult.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        CKAResult.load(tmp_path / "none.npz")


def test_a_former_file_survives_a_failure(pair, tmp_path, monkeypatch):
    path = tmp_path / "cka.npz"
    pair.save(path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        pair.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["cka.npz"]


def test_a_table_has_a_row_for_every_value(pair, tmp_path):
    pair.to_csv(tmp_path / "cka.csv")
    with (tmp_path / "cka.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 5 + 15 * 15
    first, last = rows[7], rows[-1]
    low, high = pair.interval()
    assert (first["layer_x"], first["layer_y"], first["step_x"]) == ("1", "2", "")
    assert float(first["cka"]) == pair.cka[1, 2]
    assert float(first["rsa"]) == pair.rsa[1, 2]
    assert (float(first["low"]), float(first["high"])) == (low[1, 2], high[1, 2])
    assert (last["layer_x"], last["step_x"], last["step_y"]) == ("4", "3", "3")
    assert float(last["cka"]) == pair.per_step[-1, -1]


def test_a_result_says_what_it_is(pair):
    assert repr(pair) == (
        "CKAResult(Sequential (x) x Sequential (y), 5 x 5 layers, time='per_step', "
        "80 samples in 8 batches, unbiased)"
    )


def test_time_dynamics_leave_out_the_steps_at_which_a_layer_is_constant():
    net = nn.Sequential(nn.Identity(), neuron.IFNode(step_mode="m", v_threshold=4.5))
    # Nothing can reach the threshold at the first two steps.
    x = torch.rand(6, 16, 30, generator=torch.Generator().manual_seed(0)) * 2.2
    result = CKA(net, time="per_step").measure([x], progress=False)
    dynamics = result.time_dynamics()
    assert dynamics.constant_steps == ((), (1, 2))
    block = result.steps("1")[2:, 2:]
    pairs = [1 - block[t, s] for t in range(4) for s in range(4) if t != s]
    assert dynamics.change[1] == pytest.approx(float(sum(pairs)) / 12)
    assert dynamics.first_last[1].isnan()
    assert dynamics.first_last[0].isfinite()
