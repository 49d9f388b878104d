"""The diagonal is the mean of squared per-sample gradients, weight by weight."""

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn
from torch.nn.utils import prune

from sj_ext.fisher import TemporalFisher, by_sample, fisher_diagonal
from sj_ext.surrogate import dense
from tests.fisher import networks, reference
from tests.fisher.networks import K, N, T


def diagonal(net, x, target, t):
    """One sample at a time."""
    sums = {n: 0.0 for n, p in net.named_parameters() if p.requires_grad}
    with dense(net):
        for i in range(x.shape[1]):
            found = reference.gradients(net, x[:, i : i + 1], target[i], t)
            for name, gradient in found.items():
                sums[name] = sums[name] + gradient.square() / x.shape[1]
    return sums


NETWORKS = {
    "convolutional": (networks.convolutional, networks.frames),
    "parametric_lif": (
        lambda: networks.convolutional(networks.parametric_lif),
        networks.frames,
    ),
    "repeated": (
        lambda: networks.ready(networks.Repeated()),
        lambda samples: torch.rand(T, samples, 8).double(),
    ),
    "other parameters": (
        lambda: networks.ready(networks.OtherParameters()),
        lambda samples: torch.rand(T, samples, 8).double(),
    ),
}


@pytest.mark.parametrize("execution", ["whole", "steps"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_diagonal_equals_a_loop_over_samples(name, execution):
    make, inputs = NETWORKS[name]
    net, x, target = make(), inputs(N + 2), torch.randint(K, (N + 2,))
    loader = [(x[:, :N], target[:N]), (x[:, N:], target[N:])]
    for t in (None, 2):
        found = fisher_diagonal(
            net, loader, t, "empirical", execution=execution, progress=False
        )
        expected = diagonal(net, x, target, t or T)
        assert list(found) == list(expected)
        for key, value in found.items():
            assert value.dtype == torch.float64
            torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-16)


def test_the_diagonal_sums_to_the_temporal_fisher_information():
    net, x = networks.convolutional(), networks.frames()
    loader = [(x, torch.randint(K, (N,)))]
    total = TemporalFisher(net, steps=[T]).measure(loader, progress=False).total
    found = fisher_diagonal(net, loader, progress=False)
    # One prefix in both, so the same labels are drawn.
    torch.testing.assert_close(sum(v.sum() for v in found.values()), total[0])


def test_masked_weights_score_zero():
    net = networks.convolutional()
    prune.random_unstructured(net[0], "weight", 0.5)
    loader = [(networks.frames(), torch.randint(K, (N,)))]
    found = fisher_diagonal(net, loader, progress=False)["0.weight_orig"]
    assert (found[net[0].weight_mask == 0] == 0).all()
    assert found.sum() > 0


def test_an_empty_loader_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        fisher_diagonal(networks.fully_connected(), [], progress=False)


@pytest.mark.parametrize("samples", [(0,), (N, 0)], ids=["first", "last"])
def test_an_empty_batch_is_refused(samples):
    loader = [torch.rand(T, n, 8).double() for n in samples]
    with pytest.raises(ValueError, match=r"at least one sample .* input \[4, 0, 8\]"):
        fisher_diagonal(networks.fully_connected(), loader, progress=False)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"labels": "true"}, "`labels`"), ({"steps": 9}, "1 to 4"), ({"steps": 0}, "1")],
)
def test_arguments_outside_their_range_are_refused(kwargs, message):
    loader = [torch.rand(T, N, 8).double()]
    with pytest.raises(ValueError, match=message):
        fisher_diagonal(networks.fully_connected(), loader, progress=False, **kwargs)


def test_no_gradients_beyond_the_budget_are_formed_at_once(monkeypatch):
    net = networks.ready(nn.Sequential(layer.Linear(8, 64), layer.Linear(64, 4)))
    x = networks.frames(16, shape=(8,), steps=2)
    target = torch.randint(4, (16,))
    whole = fisher_diagonal(net, [(x, target)], labels="empirical", progress=False)
    formed = []
    original = by_sample.SampleGradients._gradient

    def gradient(self, sites, part):
        found = original(self, sites, part)
        formed.append(found.numel())
        return found

    monkeypatch.setattr(by_sample, "_BUDGET", 2048)
    monkeypatch.setattr(by_sample.SampleGradients, "_gradient", gradient)
    cut = fisher_diagonal(net, [(x, target)], labels="empirical", progress=False)
    assert max(formed) <= 2048
    for name, scores in whole.items():
        torch.testing.assert_close(cut[name], scores, rtol=1e-12, atol=0)
