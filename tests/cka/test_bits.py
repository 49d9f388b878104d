"""Spikes as bits: counts of common ones against plain products."""

import pytest
import torch

from sj_ext.cka import bits
from sj_ext.cka.bits import spike_gram


@pytest.mark.parametrize("width", [1, 31, 32, 33, 64, 65, 1000])
@pytest.mark.parametrize("steps", [1, 3])
def test_common_bits_are_the_product_of_spikes(width, steps):
    x = (torch.rand(steps, 13, width) < 0.4).float()
    whole = x.double().transpose(0, 1).flatten(1)
    assert torch.equal(spike_gram(x).double(), whole @ whole.T)


def test_threads_change_nothing(monkeypatch):
    x = (torch.rand(2, 37, 300) < 0.2).float()
    alone = spike_gram(x)
    monkeypatch.setattr(bits, "_LEAST_WORK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(spike_gram(x), alone)


def test_counts_that_float32_cannot_hold_are_float64(monkeypatch):
    x = (torch.rand(2, 5, 40) < 0.5).float()
    monkeypatch.setattr(bits, "_EXACT_IN_FLOAT32", 80)
    found = spike_gram(x)
    assert found.dtype == torch.float64
    assert torch.equal(found, spike_gram(x[:, :, :]).double())


def test_any_layout_will_do():
    x = (torch.rand(9, 2, 50) < 0.5).float().transpose(0, 1)
    assert torch.equal(spike_gram(x), spike_gram(x.contiguous()))


@pytest.mark.parametrize(
    "value", [0.5, 2.0, -1.0, -0.0, 1e-40, float("nan"), float("inf")]
)
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 6, 69)])
def test_what_is_no_spike_is_seen_anywhere(value, place):
    x = (torch.rand(2, 7, 70) < 0.5).float()
    x[place] = value
    assert spike_gram(x) is None


@pytest.mark.parametrize("sample", [0, 20, 40])
def test_what_is_no_spike_is_seen_while_threads_read_on(monkeypatch, sample):
    monkeypatch.setattr(bits, "_LEAST_WORK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x = (torch.rand(1, 60, 20_000) < 0.2).float()
    # The first sample of a thread's part: it stops while the others are at work.
    x[0, sample, 0] = 2.0
    assert [spike_gram(x) for _ in range(20)] == [None] * 20
