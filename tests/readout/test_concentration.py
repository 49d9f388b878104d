"""The concentration loss is the definition's, and moves the centroid to both sides."""

import functools
import itertools
import math

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot
from torch.utils.checkpoint import checkpoint

import sj_ext
from sj_ext.fisher import TemporalFisher
from sj_ext.neuron import MaskedLIFNode
from sj_ext.readout import (
    RateReadout,
    TemporalConcentrationLoss,
    TemporallyWeightedOutput,
    temporal_concentration_loss,
)
from sj_ext.readout.concentration import (
    information_centroid_of,
    information_cotangents,
)
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate, dense

T, K, FEATURES = 6, 4, 24


def small(spiking=True, steps=4, samples=2, classes=2):
    """A network of one hidden layer in float64; without spikes it is smooth."""
    torch.manual_seed(0)
    lif = neuron.LIFNode(
        v_threshold=0.5,
        v_reset=None,
        detach_reset=False,
        surrogate_function=surrogate.Sigmoid(alpha=2.0, spiking=spiking),
    )
    net = nn.Sequential(layer.Linear(3, 5), lif, layer.Linear(5, classes)).double()
    functional.set_step_mode(net, "m")
    x = 2 * torch.rand(steps, samples, 3, dtype=torch.float64)
    return net, x, torch.arange(samples) % classes


def by_the_definition(outputs, parameters, target, labels):
    """Loop over prefixes, samples and answers: I_t = E ||grad log p_t(y)||^2."""
    found = []
    for of_prefix in outputs.log_softmax(-1):
        information = 0.0
        for scores, y in zip(of_prefix, target.tolist(), strict=True):
            for k, score in enumerate(scores):
                weight = (
                    float(score.detach().exp()) if labels == "model" else float(k == y)
                )
                gradients = torch.autograd.grad(score, parameters, retain_graph=True)
                square = sum(g.square().sum() for g in gradients)
                information += weight * square / len(target)
        found.append(information)
    return torch.stack(found)


@pytest.mark.parametrize("labels", ["model", "empirical"])
@pytest.mark.parametrize("weighted", [False, True])
def test_in_the_mean_over_all_signs_the_squared_gradient_is_the_fisher_information(
    labels, weighted, monkeypatch
):
    net, x, target = small()
    readout = TemporallyWeightedOutput(4) if weighted else RateReadout(4)
    if weighted:
        readout.weight.copy_(torch.tensor([0.2, 0.6, 1.0, 2.2]))
    outputs = readout.prefixes(net(x))
    parameters = list(net.parameters())
    expected = by_the_definition(outputs, parameters, target, labels)
    found = torch.zeros(4, dtype=torch.float64)
    signs = list(itertools.product((0, 1), repeat=4 if labels == "model" else 2))
    for drawn in signs:
        monkeypatch.setattr(
            torch,
            "randint",
            lambda _, shape, drawn=drawn, **__: torch.tensor(drawn).reshape(shape),
        )
        cotangents = information_cotangents(
            outputs, None if labels == "model" else target
        )
        for t in range(4):
            gradients = torch.autograd.grad(
                outputs[t], parameters, cotangents[t], retain_graph=True
            )
            found[t] += sum(g.square().sum() for g in gradients) / len(signs) / 2
    torch.testing.assert_close(found, expected)
    if labels == "empirical":
        functional.reset_net(net)
        fisher = TemporalFisher(net, readout=readout, labels=labels)
        measured = fisher.measure([(x, target)], progress=False)
        torch.testing.assert_close(found, measured.total)


def test_the_cotangents_have_the_fisher_information_in_the_logits_for_covariance():
    logits = torch.randn(1, 1, 3, dtype=torch.float64)
    share = logits[0, 0].softmax(0)
    generator = torch.Generator().manual_seed(0)
    drawn = information_cotangents(logits.expand(1, 40_000, 3), None, generator)[0]
    found = drawn.T @ drawn / len(drawn)
    expected = share.diag() - share.outer(share)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("labels", ["model", "empirical"])
@pytest.mark.parametrize("pairs", [None, 1, 2])
@pytest.mark.parametrize("direction", ["early", "late"])
def test_derivatives_in_the_weights_are_right(labels, pairs, direction):
    net, x, target = small(spiking=False)
    names = [name for name, _ in net.named_parameters()]

    def loss(*weights):
        functional.reset_net(net)
        logits = functional_call(net, dict(zip(names, weights, strict=True)), (x,))
        return temporal_concentration_loss(
            logits,
            target,
            weights,
            2.0,
            direction,
            labels=labels,
            pairs=pairs,
            generator=torch.Generator().manual_seed(3),
        )

    weights = [p.detach().clone().requires_grad_() for p in net.parameters()]
    assert torch.autograd.gradcheck(loss, weights)


def test_strength_0_is_the_cross_entropy_and_needs_no_parameters():
    logits = torch.randn(T, 5, K, requires_grad=True)
    target = torch.arange(5) % K
    found = temporal_concentration_loss(logits, target, [], strength=0.0)
    assert torch.equal(found, cross_entropy(logits.mean(0), target))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("direction", "sign"), [("early", 1), ("late", -1)])
def test_it_is_that_of_a_loop_over_samples_and_parameters(direction, sign, smoothing):
    """With true labels and one sample nothing of it is drawn."""
    net, x, target = small(samples=1, classes=3)
    x_seq = net(x)
    moment = total = 0.0
    for t in range(1, 5):
        score = x_seq[:t].mean(0)[0].log_softmax(0)[target[0]]
        gradients = torch.autograd.grad(
            score, list(net.parameters()), create_graph=True
        )
        information = sum(g.square().sum() for g in gradients)
        moment, total = moment + t * information, total + information
    entropy = cross_entropy(x_seq.mean(0), target, label_smoothing=smoothing)
    expected = entropy + sign * 0.7 * moment / total / 4
    module = sj_ext.create(
        "loss",
        "temporal_concentration",
        strength=0.7,
        direction=direction,
        labels="empirical",
        pairs=None,
        label_smoothing=smoothing,
    )
    found = module(x_seq, target, RateReadout(4), net.parameters())
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, list(net.parameters()), retain_graph=True),
        torch.autograd.grad(expected, list(net.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_one_hot_probabilities_are_labels():
    net, x, target = small(samples=3)
    x_seq = net(x)
    both = [
        temporal_concentration_loss(
            x_seq,
            labels,
            net.parameters(),
            labels="empirical",
            generator=torch.Generator().manual_seed(0),
        )
        for labels in (target, one_hot(target, 2).double())
    ]
    torch.testing.assert_close(*both)


def test_of_probabilities_the_information_is_the_mean_over_the_classes_they_give():
    """As mixup makes them: E ||grad log p(y)||^2 over y drawn from the target."""
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    share, target = logits.softmax(0), torch.tensor([0.7, 0.0, 0.3]).double()
    generator = torch.Generator().manual_seed(0)
    many = 40_000
    drawn = information_cotangents(
        logits.expand(1, many, 3), target.expand(many, 3), generator
    )[0]
    expected = sum(
        target[k] * torch.outer(one_hot(y, 3) - share, one_hot(y, 3) - share)
        for k, y in enumerate(torch.arange(3))
    )
    torch.testing.assert_close(drawn.T @ drawn / many, expected, atol=0.01, rtol=0)


def test_all_pairs_and_the_middle_weighted_by_information_make_the_centroid():
    net, x, _ = small(steps=5, samples=3)
    outputs = RateReadout(5).prefixes(net(x))
    parameters = list(net.parameters())
    signs = torch.Generator().manual_seed(1).get_state()

    def centroid(pairs):
        generator = torch.Generator()
        generator.set_state(signs)
        return information_centroid_of(outputs, parameters, None, pairs, generator)

    generator = torch.Generator()
    generator.set_state(signs)
    cotangents = information_cotangents(outputs, None, generator)
    information = torch.stack(
        [
            sum(
                g.square().sum()
                for g in torch.autograd.grad(
                    outputs[t], parameters, cotangents[t], retain_graph=True
                )
            )
            for t in range(5)
        ]
    )
    every = (torch.arange(1, 6) * information).sum() / information.sum()
    torch.testing.assert_close(centroid(None), every)
    # Of five steps the middle one is in no pair.
    paired = information[[0, 1, 3, 4]]
    without = (torch.tensor([1, 2, 4, 5]) * paired).sum() / paired.sum()
    torch.testing.assert_close(centroid(2), without)
    torch.testing.assert_close(centroid(9), without)
    first, second = (
        (t * information[t - 1] + (6 - t) * information[5 - t])
        / (information[t - 1] + information[5 - t])
        for t in (1, 2)
    )
    assert any(torch.isclose(centroid(1), one) for one in (first, second))


def test_it_stays_finite_where_all_prefixes_are_certain():
    weight = torch.tensor([[2000.0, 0.0]], requires_grad=True)
    x_seq = torch.ones(4, 3, 1) @ weight
    for labels in ("model", "empirical"):
        loss = temporal_concentration_loss(
            x_seq, torch.zeros(3, dtype=torch.int64), [weight], labels=labels
        )
        # Of no information the centroid is the middle.
        assert float(loss.detach()) == pytest.approx(2.5 / 4)
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
        assert gradient.isfinite().all()


def test_information_is_that_of_evaluation_where_its_logits_are_given():
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Linear(3, 5), layer.BatchNorm1d(5), nn.Dropout(0.5), layer.Linear(5, 2)
    ).double()
    functional.set_step_mode(net, "m")
    x = torch.rand(4, 6, 3, dtype=torch.float64)
    target = torch.arange(6) % 2
    x_seq = net(x)
    with dense(net):
        evaluated = net(x)
    assert net.training

    def push(x_seq, evaluated):
        with_it, without = (
            temporal_concentration_loss(
                x_seq,
                target,
                net.parameters(),
                strength,
                evaluated=evaluated,
                generator=torch.Generator().manual_seed(0),
            )
            for strength in (1.0, 0.0)
        )
        return with_it - without

    torch.testing.assert_close(push(x_seq, evaluated), push(evaluated, None))
    assert not torch.isclose(push(x_seq, evaluated), push(x_seq, None))


def test_the_loss_of_a_batch_is_no_mean_over_its_parts():
    net, x, target = small(samples=6)
    x_seq = net(x)
    whole, first, second = (
        temporal_concentration_loss(
            x_seq[:, part], target[part], net.parameters(), labels="empirical"
        )
        for part in (slice(None), slice(0, 3), slice(3, None))
    )
    assert float(whole.detach()) != pytest.approx(
        float((first + second).detach()) / 2, abs=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": -1.0}, "`strength` to be a number of at least 0, got -1.0"),
        ({"strength": "1"}, "`strength` to be a number of at least 0, got '1'"),
        ({"strength": math.nan}, "`strength`.* got nan"),
        ({"direction": "up"}, "`direction` to be one of early, late, got 'up'"),
        ({"labels": "true"}, "`labels` to be one of model, empirical, got 'true'"),
        ({"direction": ["early"]}, r"`direction` to be one of .* got \['early'\]"),
        ({"pairs": 0}, "`pairs` to be None or at least 1, got 0"),
        ({"pairs": True}, "`pairs` to be None or at least 1, got True"),
        (
            {"x_seq": torch.zeros(4, 0, 2), "target": torch.zeros(0).long()},
            r"at least one sample, got \[4, 0, 2\]",
        ),
        ({"parameters": []}, "depend on `parameters`.* got 0 and logits that do"),
        ({"parameters": [torch.ones(1)]}, "depend on `parameters`.* got 0"),
        (
            {"parameters": [torch.ones(1, requires_grad=True)]},
            "depend on `parameters`, got others",
        ),
        ({"evaluated": torch.zeros(3, 2, 2)}, r"`x_seq`, \[4, 2, 2\], got \[3, 2, 2\]"),
        ({"target": torch.tensor([0, 2])}, r"`target` in \[0, 2\), got labels from 0"),
        ({"x_seq": torch.zeros(1, 2, 2, requires_grad=True)}, "at least 2 time steps"),
        ({"x_seq": torch.zeros(4, 2, 2)}, "got 4 and logits that do not require one"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    net, x, target = small()
    given = {"x_seq": net(x), "target": target, "parameters": net.parameters()}
    with pytest.raises(ValueError, match=message):
        temporal_concentration_loss(**(given | arguments))


@pytest.mark.parametrize(
    ("parameters", "got"),
    [
        (nn.Linear(1, 1), "got one Linear"),
        (torch.ones(2, requires_grad=True), "got one Tensor"),
        (None, "got one NoneType"),
        (1.0, "got one float"),
        (list(nn.Linear(1, 1).named_parameters()), "got a tuple"),
    ],
)
def test_parameters_that_are_none_are_refused(parameters, got):
    net, x, target = small()
    with pytest.raises(TypeError, match=f"`parameters` to be several tensors.*{got}"):
        temporal_concentration_loss(net(x), target, parameters)


class _Constant(torch.autograd.Function):
    """A neuron's kernel whose backward pass is a constant to autograd."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0.5).to(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.detach().clone()


class _Once(_Constant):
    """One that says so."""

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return grad.clone()


class _Neuron(nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x):
        return self.kernel.apply(x)


@pytest.mark.parametrize("kernel", [_Constant, _Once])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("deeper", [True, False])
def test_kernels_without_a_second_derivative_are_refused_and_not_left_out(
    kernel, bias, deeper
):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 8, bias=bias),
        nn.Softplus(),
        nn.Linear(8, 8, bias=bias),
        _Neuron(kernel),
        nn.Linear(8, 2, bias=bias),
    )
    target = torch.tensor([0, 1])
    parameters = list(net[2:].parameters() if deeper else net.parameters())
    with pytest.raises(RuntimeError, match=r"can be differentiated twice.*'torch'"):
        temporal_concentration_loss(net(torch.rand(4, 2, 3)), target, parameters)


def test_a_fused_kernel_is_refused_and_named():
    net, x, target = small()
    masked = MaskedLIFNode(
        v_threshold=0.5,
        step_mode="m",
        backend="cpu",
        surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.5)),
    )
    net = nn.Sequential(net[0].float(), masked, net[2].float())
    with pytest.raises(RuntimeError, match="fused CPU neuron has no second derivative"):
        temporal_concentration_loss(net(x.float()), target, net.parameters())


def test_checkpoints_that_hide_parameters_are_refused_and_others_are_exact():
    net, x, target = small(spiking=False)

    def loss(x_seq):
        generator = torch.Generator().manual_seed(0)
        functional.reset_net(net)
        return temporal_concentration_loss(
            x_seq, target, net.parameters(), generator=generator
        )

    def through(reentrant):
        functional.reset_net(net)
        hidden = checkpoint(net[0], x, use_reentrant=reentrant)
        return net[2](net[1](hidden))

    plain = loss(net(x))
    torch.testing.assert_close(loss(through(False)), plain)
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="reentrant checkpoint, which hides"):
        loss(through(True))


@pytest.mark.gpu
def test_on_a_gpu_it_is_what_it_is_on_the_cpu():
    """With true labels and one sample nothing of it is drawn."""
    net, x, target = small(samples=1)
    found = {}
    for device in ("cpu", "cuda"):
        net.to(device)
        functional.reset_net(net)
        on_it = (net(x.to(device)), target.to(device), net.parameters())
        loss = temporal_concentration_loss(*on_it, labels="empirical", pairs=None)
        found[device] = [
            one.cpu() for one in (loss, *torch.autograd.grad(loss, net.parameters()))
        ]
    torch.testing.assert_close(found["cpu"], found["cuda"])
    functional.reset_net(net)
    generator = torch.Generator("cuda").manual_seed(0)
    temporal_concentration_loss(
        net(x.to("cuda")), target.to("cuda"), net.parameters(), generator=generator
    ).backward()


def spikes(samples, generator):
    """Inputs that fire at rates that their class decides, other ones early and late."""
    of_class = torch.rand(K, FEATURES, generator=torch.Generator().manual_seed(7))
    target = torch.randint(K, (samples,), generator=generator)
    early = torch.arange(FEATURES) < FEATURES // 2
    shown = (torch.arange(T) < T // 2)[:, None] == early
    rate = (0.15 + 0.5 * of_class[target]) * shown[:, None]
    x = torch.rand(T, samples, FEATURES, generator=generator) < rate
    return x.float(), target


@functools.cache
def trained(strength, direction, labels, seed):
    """Train a network of one hidden layer; return it with samples of a test set."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    lif = neuron.LIFNode(
        v_threshold=0.5, detach_reset=False, surrogate_function=surrogate.ATan()
    )
    net = nn.Sequential(layer.Linear(FEATURES, 32), lif, layer.Linear(32, K))
    functional.set_step_mode(net, "m")
    loss = TemporalConcentrationLoss(strength, direction, labels)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    x, target = spikes(256, generator)
    for _ in range(20):
        for index in torch.randperm(len(target), generator=generator).split(32):
            logits = net(x[:, index])
            found = loss(logits, target[index], RateReadout(T), net.parameters())
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            functional.reset_net(net)
    return net.eval(), spikes(128, generator)


def measured(labels, *settings):
    net, batch = trained(*settings)
    return TemporalFisher(net, labels=labels).measure([batch], progress=False)


@pytest.mark.parametrize(
    "labels", ["model", pytest.param("empirical", marks=pytest.mark.full)]
)
@pytest.mark.parametrize(("direction", "least"), [("early", 0.05), ("late", 0.5)])
def test_training_moves_the_centroid_where_it_is_pushed(labels, direction, least):
    """Beside the plain cross-entropy of the same seed, for each of two."""
    moved = []
    for seed in (0, 1):
        pushed = measured(labels, 2.0, direction, labels, seed)
        plain = measured(labels, 0.0, "early", "model", seed)
        assert pushed.prefix_accuracy[-1] > plain.prefix_accuracy[-1] - 0.1
        moved.append(pushed.information_centroid - plain.information_centroid)
    sign = -1 if direction == "early" else 1
    assert all(sign * one > 0 for one in moved)
    assert sign * sum(moved) / 2 > least
