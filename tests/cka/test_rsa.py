"""Rank correlation of pairwise distances against scipy's."""

import pytest
import scipy.stats
import torch

from sj_ext.cka.accumulator import HsicSums
from sj_ext.cka.rsa import average_ranks


def spearman(x, y):
    distances = [torch.pdist(f.double().flatten(1)).square() for f in (x, y)]
    # Rounded, so that distances that are equal are so here too.
    return scipy.stats.spearmanr(*[d.round(decimals=9).numpy() for d in distances])[0]


@pytest.mark.parametrize("values", [torch.randint(0, 9, (300,)), torch.randn(300)])
@pytest.mark.parametrize("factor", [1.0, 0.5, -1e6])
def test_ranks_are_those_of_scipy(values, factor):
    values = values.double() * factor
    expected = torch.from_numpy(scipy.stats.rankdata(values.numpy()))
    assert torch.equal(average_ranks(values), expected)


@pytest.mark.parametrize("spikes", [True, False])
def test_rsa_is_the_rank_correlation_of_the_distances(spikes):
    layers = [torch.randn(3, 12, width, dtype=torch.float64) for width in (40, 5)]
    if spikes:
        layers = [(layer > 0.3).double() for layer in layers]
    sums = HsicSums(["a", "b"], time="per_step", rsa=True)
    sums.update(layers)
    found = sums.compute()
    a, b = layers
    together = [f.transpose(0, 1) for f in layers]
    assert found.rsa[0, 1] == pytest.approx(spearman(*together), abs=1e-9)
    for s in range(3):
        for t in range(3):
            expected = spearman(a[s], b[t])
            assert found.rsa_per_step[s, 3 + t] == pytest.approx(expected, abs=1e-9)
    assert torch.equal(found.rsa.diagonal(), torch.ones(2, dtype=torch.float64))


def test_two_far_samples_decide_cka_but_not_rsa():
    x, y = torch.randn(2, 40, 20)
    x[:2], y[:2] = 100.0, -100.0
    sums = HsicSums(["x"], ["y"], rsa=True)
    sums.update([x[None]], [y[None]])
    found = sums.compute()
    assert found.concat > 0.9
    assert found.rsa < 0.5


def test_batches_of_constant_features_do_not_spoil_the_others():
    sums = HsicSums(["a"], ["b"], rsa=True)
    x, y = torch.randn(2, 1, 10, 5)
    sums.update([x], [y])
    alone = sums.compute().rsa
    sums.update([torch.ones(1, 10, 5)], [y])
    assert 0 < abs(float(sums.compute().rsa)) < abs(float(alone))
    never = HsicSums(["a"], rsa=True)
    never.update([torch.ones(1, 10, 5)])
    assert never.compute().rsa.isnan().all()
