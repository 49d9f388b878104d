"""Losses over time: formulas by hand and by loops, the host's function, derivatives."""

import math

import pytest
import torch
from spikingjelly.activation_based import functional
from torch.nn.functional import cross_entropy, one_hot

import sj_ext
from sj_ext.readout import (
    RateReadout,
    TemporalConcentrationLoss,
    TemporallyWeightedOutput,
    temporal_concentration_loss,
    temporal_efficient_training_loss,
    temporally_weighted_cross_entropy,
)
from sj_ext.readout.losses import prefix_uncertainty

T, N, K = 4, 6, 3


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = 2 * torch.randn(T, N, K, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(K, (N,))


def soft(target, share=0.8):
    wrong = (1 - share) / (K - 1)
    return (share - wrong) * one_hot(target, K).double() + wrong


def assert_same_with_gradients(found, expected, logits):
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        *(
            torch.autograd.grad(loss, logits, retain_graph=True)[0]
            for loss in (found, expected)
        )
    )


def test_weighted_cross_entropy_of_a_small_case_by_hand():
    logits = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    weight = torch.tensor([0.5, 1.5])
    # The outputs are 1/4 and 3/4, so the loss of class 1 is log(1 + e^(1/4 - 3/4)).
    found = temporally_weighted_cross_entropy(logits, torch.tensor([1]), weight)
    assert float(found) == pytest.approx(math.log(1 + math.exp(-0.5)))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_cross_entropy_is_that_of_a_loop_and_of_the_readout(batch, smoothing):
    logits, target = batch
    head = TemporallyWeightedOutput(T)
    head.weight.copy_(torch.tensor([0.2, 0.6, 1.0, 2.2]))
    found = temporally_weighted_cross_entropy(logits, target, head.weight, smoothing)
    output = sum(w * o for w, o in zip(head.weight.double(), logits, strict=True)) / T
    expected = 0.0
    for n, y in enumerate(target.tolist()):
        share = output[n].softmax(0)
        wanted = [(1 - smoothing) * (k == y) + smoothing / K for k in range(K)]
        expected -= sum(w * share[k].log() for k, w in enumerate(wanted)) / N
    assert_same_with_gradients(found, expected, logits)
    module = sj_ext.create("loss", "cross_entropy", label_smoothing=smoothing)
    assert_same_with_gradients(module(logits, target, head), expected, logits)


def test_weighted_cross_entropy_of_fewer_steps_uses_their_weights(batch):
    logits, target = batch
    weight = torch.tensor([0.5, 1.5, 1.0, 1.0])
    found = temporally_weighted_cross_entropy(logits[:2], target, weight)
    output = (0.5 * logits[0] + 1.5 * logits[1]) / 2
    assert_same_with_gradients(found, cross_entropy(output, target), logits)


def test_efficient_training_of_a_small_case_by_hand():
    logits = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]])
    found = temporal_efficient_training_loss(logits, torch.tensor([0]), 0.25, 1.0)
    entropy = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    assert float(found) == pytest.approx(0.75 * entropy + 0.25 * 1.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_efficient_training_is_the_mean_over_a_loop_of_steps(batch, smoothing):
    logits, target = batch
    lambda_, phi = 0.3, 0.5
    expected = 0.0
    for o in logits:
        level = sum((x - phi) ** 2 for x in o.flatten()) / (N * K)
        entropy = cross_entropy(o, target, label_smoothing=smoothing)
        expected = expected + ((1 - lambda_) * entropy + lambda_ * level) / T
    found = temporal_efficient_training_loss(logits, target, lambda_, phi, smoothing)
    assert_same_with_gradients(found, expected, logits)
    module = sj_ext.create(
        "loss",
        "temporal_efficient_training",
        lambda_=lambda_,
        phi=phi,
        label_smoothing=smoothing,
    )
    found = module(logits, target, RateReadout(T))
    assert_same_with_gradients(found, expected, logits)


def test_efficient_training_without_its_second_term_is_the_hosts_loss(batch):
    logits, target = batch
    found = temporal_efficient_training_loss(logits, target, lambda_=0.0)
    expected = functional.temporal_efficient_training_cross_entropy(logits, target)
    assert_same_with_gradients(found, expected, logits)


def test_efficient_training_takes_soft_targets(batch):
    logits, target = batch
    soft_target = soft(target)
    expected = sum(cross_entropy(o, soft_target) for o in logits) / T
    found = temporal_efficient_training_loss(logits, soft_target, lambda_=0.0)
    assert_same_with_gradients(found, expected, logits)


def test_concentration_of_strength_0_is_the_cross_entropy(batch):
    logits, target = batch
    found = temporal_concentration_loss(logits, target, strength=0.0)
    assert_same_with_gradients(found, cross_entropy(logits.mean(0), target), logits)


def test_concentration_of_a_small_case_by_hand():
    # The prefixes answer (1/2, 1/2) and, with logits log 9 and 0, (9/10, 1/10).
    logits = torch.tensor([[[0.0, 0.0]], [[2 * math.log(9), 0.0]]])
    u = [2 * 0.5 * 0.5, 2 * 0.9 * 0.1]
    centroid = (1 * u[0] + 2 * u[1]) / (u[0] + u[1])
    for direction, sign in (("early", 1), ("late", -1)):
        found = temporal_concentration_loss(logits, torch.tensor([0]), 3.0, direction)
        expected = -math.log(0.9) + sign * 3.0 * centroid / 2
        assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("direction", "sign"), [("early", 1), ("late", -1)])
def test_concentration_is_that_of_a_loop_over_prefixes_and_samples(
    batch, direction, sign, smoothing
):
    logits, target = batch
    head = TemporallyWeightedOutput(T)
    head.weight.copy_(torch.tensor([0.2, 0.6, 1.0, 2.2]))
    above, below = 0.0, 0.0
    for t in range(1, T + 1):
        for n in range(N):
            share = head(logits[:t])[n].softmax(0)
            # In the mean over the network's answers, ||onehot - p||^2.
            for k in range(K):
                residual = one_hot(torch.tensor(k), K) - share
                above = above + t * share[k] * residual.square().sum()
                below = below + share[k] * residual.square().sum()
    entropy = cross_entropy(head(logits), target, label_smoothing=smoothing)
    expected = entropy + sign * 0.7 * above / below / T
    module = sj_ext.create(
        "loss",
        "temporal_concentration",
        strength=0.7,
        direction=direction,
        label_smoothing=smoothing,
    )
    assert_same_with_gradients(module(logits, target, head), expected, logits)
    plain = temporal_concentration_loss(logits, target, 0.7, direction)
    by_rate = module(logits, target, RateReadout(T))
    if smoothing == 0:
        assert_same_with_gradients(plain, by_rate, logits)


def test_concentration_uses_the_fisher_information_in_the_logits():
    """With the logits themselves for weights, u_t is the information I_t."""
    logits = torch.randn(T, 5, K, dtype=torch.float64)
    outputs = RateReadout(T).prefixes(logits).requires_grad_()
    found = prefix_uncertainty(outputs)
    for t in range(T):
        information = 0.0
        for n in range(5):
            log_share = outputs[t, n].log_softmax(0)
            for y in range(K):
                (gradient,) = torch.autograd.grad(
                    log_share[y], outputs, retain_graph=True
                )
                information += log_share[y].exp() * gradient.square().sum() / 5
        torch.testing.assert_close(found[t], information)


def test_concentration_is_finite_where_all_prefixes_are_certain():
    logits = torch.zeros(T, 2, K)
    logits[:, :, 0] = 1000.0
    logits.requires_grad_()
    loss = temporal_concentration_loss(logits, torch.zeros(2, dtype=torch.int64))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("direction", ["early", "late"])
def test_derivatives_are_right(batch, direction):
    logits, target = batch
    weight = torch.tensor([0.2, 0.6, 1.0, 2.2])
    for loss in (
        lambda x: temporal_concentration_loss(x, target, 2.0, direction),
        lambda x: temporal_concentration_loss(x, soft(target), 2.0, direction),
        lambda x: temporal_efficient_training_loss(x, target, 0.3, 0.5),
        lambda x: temporally_weighted_cross_entropy(x, target, weight),
    ):
        assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (temporal_efficient_training_loss, {"lambda_": 1.5}, r"`lambda_` in \[0, 1\]"),
        (temporal_concentration_loss, {"strength": -1.0}, "`strength` of at least 0"),
        (temporal_concentration_loss, {"strength": math.nan}, "`strength`.* got nan"),
        (temporal_concentration_loss, {"direction": "up"}, "one of early, late, got"),
        (
            temporally_weighted_cross_entropy,
            {"weight": torch.ones(2)},
            r"t from 1 to T=2, got \[4, 6, 3\]",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(batch, function, arguments, message):
    logits, target = batch
    with pytest.raises(ValueError, match=message):
        function(logits, target, **arguments)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(N - 1, dtype=torch.int64), r"shape \[N=6\], got \[5\]"),
        (torch.full((N,), K), r"`target` in \[0, 3\), got labels from 3"),
        (torch.ones(N, K), "probabilities that sum to 1"),
    ],
)
def test_targets_that_do_not_fit_are_refused(batch, target, message):
    logits, _ = batch
    for loss in (temporal_efficient_training_loss, temporal_concentration_loss):
        with pytest.raises(ValueError, match=message):
            loss(logits, target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            torch.tensor([-100, 1]),
            r"Expected `target` in \[0, 3\), got labels from -100",
        ),
        (
            torch.tensor([0, 3]),
            r"Expected `target` in \[0, 3\), got labels from 0 to 3",
        ),
        (torch.full((2, 3), 0.5), "Expected soft `target` .* sums from 1.5 to 1.5"),
        (torch.zeros(2), "Expected `target` to hold class indices"),
    ],
)
@pytest.mark.parametrize("name", sj_ext.available("loss"))
def test_every_registered_loss_refuses_targets_that_do_not_fit(name, target, message):
    loss = sj_ext.create("loss", name)
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(T, 2, K), target, RateReadout(T))


def test_the_concentration_loss_of_a_batch_is_no_mean_over_its_parts(batch):
    logits, target = batch
    whole, first, second = (
        temporal_concentration_loss(logits[:, part], target[part])
        for part in (slice(None), slice(0, N // 2), slice(N // 2, None))
    )
    assert float(whole) != pytest.approx(float(first + second) / 2, abs=1e-6)


def test_one_configuration_key_chooses_the_loss():
    assert sj_ext.available("loss") == [
        "cross_entropy",
        "temporal_concentration",
        "temporal_efficient_training",
    ]
    loss = sj_ext.create("loss", "temporal_concentration", direction="late")
    assert isinstance(loss, TemporalConcentrationLoss)
    assert "direction='late'" in repr(loss)
    with pytest.raises(ValueError, match=r"`label_smoothing` in \[0, 1\], got 2"):
        sj_ext.create("loss", "cross_entropy", label_smoothing=2.0)
