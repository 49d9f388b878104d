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
    temporal_efficient_training_loss,
    temporally_weighted_cross_entropy,
)

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


def test_derivatives_are_right(batch):
    logits, target = batch
    weight = torch.tensor([0.2, 0.6, 1.0, 2.2])
    for loss in (
        lambda x: temporal_efficient_training_loss(x, target, 0.3, 0.5),
        lambda x: temporally_weighted_cross_entropy(x, target, weight),
    ):
        assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (temporal_efficient_training_loss, {"lambda_": 1.5}, r"`lambda_` in \[0, 1\]"),
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
    with pytest.raises(ValueError, match=message):
        temporal_efficient_training_loss(logits, target)


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
