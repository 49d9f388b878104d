"""Which estimators are unbiased, which is not, and what the released one gives."""

import pytest
import torch
from spikingjelly.activation_based import functional
from torch.nn.functional import one_hot

from sj_ext.fisher import TemporalFisher
from sj_ext.surrogate import dense
from tests.fisher import networks, reference
from tests.fisher.networks import K, T


def data(samples=6):
    return torch.rand(T, samples, 8).double(), torch.randint(K, (samples,))


def repeated(net, estimator, labels, batches, **kwargs):
    fisher = TemporalFisher(net, estimator, labels, **kwargs)
    return fisher.measure(batches, progress=False)


def true_information(net, x):
    """The expectation over labels from each prefix's own distribution, in full."""
    functional.reset_net(net)
    with dense(net):
        logits = net(x).detach().cumsum(0) / torch.arange(1, T + 1)[:, None, None]
    share = logits.softmax(-1)
    norms = [
        sum(reference.squared_norms(net, x, torch.full(x.shape[1:2], k)).values())
        for k in range(K)
    ]
    return sum(share[..., k].T * norms[k] for k in range(K)).mean(0)


def assert_within(found, expected, error, deviations=4.0):
    assert (error > 0).all()
    assert ((found - expected).abs() <= deviations * error).all()
    assert (error < 0.2 * expected).all(), "too few draws to tell anything"


@pytest.mark.parametrize("estimator", ["per_sample", "sampled_label", "random_sign"])
def test_labels_of_the_model_give_the_true_fisher_information(estimator):
    net = networks.fully_connected()
    x, _ = data()
    expected = true_information(net, x)[[0, T - 1]]
    # Copies of one batch: only labels and signs are drawn anew.
    if estimator == "per_sample":
        found = repeated(net, estimator, "model", [x.repeat(1, 200, 1)], steps=[1, T])
        assert found.units == 200 * x.shape[1]
    else:
        found = repeated(net, estimator, "model", [x] * 200, steps=[1, T])
        assert found.units == 200
    assert_within(found.total, expected, found.standard_error)


def test_random_signs_give_the_empirical_fisher_information():
    net = networks.fully_connected()
    x, target = data()
    expected = reference.information(net, x, target)
    found = repeated(net, "random_sign", "empirical", [(x, target)] * 200, steps=[1, T])
    assert_within(found.total, expected[[0, T - 1]], found.standard_error)


def test_the_standard_error_over_batches_is_the_spread_of_repetitions():
    net = networks.fully_connected()
    x, target = data()
    one = TemporalFisher(net, "random_sign", "empirical", steps=[T])
    means = []
    for _ in range(40):
        # The sums alone start again; the signs go on.
        one._moments = None
        for _ in range(4):
            one.update((x, target))
        means.append(one.compute().total)
    spread = torch.stack(means).std(0)
    found = repeated(net, "random_sign", "empirical", [(x, target)] * 160, steps=[T])
    # A tenth of the spread is the error of a spread of 40.
    torch.testing.assert_close(found.standard_error * 40**0.5, spread, rtol=0.4, atol=0)


def test_batches_of_any_sizes_weigh_by_their_samples():
    net = networks.fully_connected()
    x, target = data(8)
    parts = [(x[:, :5], target[:5]), (x[:, 5:], target[5:])]
    apart = repeated(net, "per_sample", "empirical", parts)
    together = repeated(net, "per_sample", "empirical", [(x, target)])
    torch.testing.assert_close(apart.total, together.total)
    torch.testing.assert_close(apart.standard_error, together.standard_error)
    torch.testing.assert_close(apart.prefix_loss, together.prefix_loss)
    assert apart.samples == together.samples == 8


@pytest.mark.parametrize("execution", ["whole", "steps"])
def test_batch_mean_is_what_the_released_procedure_gives(execution):
    net = networks.convolutional()
    batches = [(networks.frames(4), torch.randint(K, (4,))) for _ in range(3)]
    found = repeated(net, "batch_mean", "empirical", batches, execution=execution)
    values = torch.stack([reference.released(net, *batch) for batch in batches])
    torch.testing.assert_close(found.total, values.mean(0), rtol=1e-6, atol=0)
    error = values.std(0) / 3**0.5
    torch.testing.assert_close(found.standard_error, error, rtol=1e-6, atol=0)


def test_the_released_estimator_is_biased_by_its_batch_size():
    net = networks.fully_connected()
    x, target = data(12)
    singly = [(x[:, i : i + 1], target[i : i + 1]) for i in range(12)]
    exact = repeated(net, "per_sample", "empirical", [(x, target)])
    one = repeated(net, "batch_mean", "empirical", singly)
    twelve = repeated(net, "batch_mean", "empirical", [(x, target)])
    torch.testing.assert_close(one.total, exact.total)
    assert (twelve.total < 0.5 * exact.total).all()


def test_sampled_labels_need_labels_of_the_model():
    with pytest.raises(ValueError, match="random_sign"):
        TemporalFisher(networks.fully_connected(), "sampled_label", "empirical")


def test_a_stateless_softmax_has_the_information_of_the_formula():
    """For a linear layer on x: ||softmax - onehot||^2 (||mean x||^2 + 1)."""
    net = torch.nn.Linear(8, K).double()
    x, target = data()
    found = repeated(net, "per_sample", "empirical", [(x, target)])
    mean = x.cumsum(0) / torch.arange(1, T + 1)[:, None, None]
    residual = net(mean).softmax(-1) - one_hot(target, K)
    expected = residual.square().sum(-1) * (mean.square().sum(-1) + 1)
    torch.testing.assert_close(found.total, expected.mean(1).detach())
