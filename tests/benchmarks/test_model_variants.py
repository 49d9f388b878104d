"""The papers' networks have their sizes; norms and direct coding do as they say."""

from itertools import pairwise

import pytest
import torch
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based.model import sew_resnet, spiking_resnet
from torch import nn

import sj_ext
from benchmarks.models import PerStepBatchNorm2d, feature_layers, neuron_factory
from benchmarks.runs.config import NeuronConfig, SurrogateConfig
from sj_ext.fisher import TemporalFisher

lif = neuron_factory(NeuronConfig(), SurrogateConfig())
SMALL = {
    "vgg": {"channels": ["A", 4, "A", 8, "A"]},
    "preactivation_resnet": {"depth": 8, "width": 0.25},
    "resnet": {"stem_channels": 4, "channels": [4, 8], "blocks": [1, 1]},
}


def build(name, classes=10, in_channels=2, size=(16, 16), **kwargs):
    torch.manual_seed(0)
    return sj_ext.create(
        "model",
        name,
        in_channels=in_channels,
        classes=classes,
        size=size,
        neuron=lif,
        **kwargs,
    )


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def plain(widths, features, classes, kernel=3):
    """Count convolutions without bias, batch norms and a classifier."""
    convolutions = sum(kernel**2 * a * b for a, b in pairwise(widths))
    return convolutions + 2 * sum(widths[1:]) + (features + 1) * classes


@pytest.mark.parametrize(
    ("name", "in_channels", "size", "widths", "features"),
    [
        ("vggsnn", 2, 48, [2, 64, 128, 256, 256, 512, 512, 512, 512], 4608),
        ("cifarnet", 3, 32, [3, 256, 256, 256, 256, 512, 512, 1024, 1024], 1024),
    ],
)
def test_plain_networks_have_the_layers_of_the_paper(
    name, in_channels, size, widths, features
):
    with torch.device("meta"):
        net = build(name, in_channels=in_channels, size=(size, size))
    assert parameters(net) == plain(widths, features, 10)


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("resnet18", spiking_resnet.spiking_resnet18),
        ("sew_resnet18", sew_resnet.sew_resnet18),
    ],
)
def test_residual_networks_have_as_many_parameters_as_the_hosts(name, hosts):
    more = {"cnf": "ADD"} if name.startswith("sew") else {}
    with torch.device("meta"):
        net = build(name, in_channels=3, classes=1000, size=(224, 224))
        zoo = hosts(spiking_neuron=lambda **_: lif(), **more)
    assert parameters(net) == parameters(zoo) == 11_689_512


def test_resnet19_has_its_stem_and_three_stages_and_one_classifier():
    with torch.device("meta"):
        net = build("resnet19", in_channels=3, size=(32, 32))
    weights = [n for n, p in net.named_parameters() if p.ndim > 1]
    assert len([n for n in weights if "shortcut" not in n]) == 1 + 2 * 8 + 1
    assert net.conv.out_channels == 128
    assert [stage[-1].conv2.out_channels for stage in net.stages] == [256, 512, 512]
    widths = [3, 128, *[256] * 6, *[512] * 6, *[512] * 4]
    shortcuts = 128 * 256 + 2 * 256 + 256 * 512 + 2 * 512 + 512 * 512 + 2 * 512
    assert parameters(net) == plain(widths, 512, 10) + shortcuts == 26_108_042


def test_sew_adds_spikes_and_a_resnet_spikes_after_the_sum():
    for name, whole in (("resnet18", {0.0, 1.0}), ("sew_resnet18", {0.0, 1.0, 2.0})):
        net = build(name, size=(32, 32)).eval()
        found = []
        block = net.stages[0][0]
        block.register_forward_hook(lambda *hooked, f=found: f.append(hooked[2]))
        with torch.no_grad():
            net(4 * torch.rand(4, 2, 2, 32, 32))
        assert set(found[0].unique().tolist()) <= whole


def test_features_of_a_residual_network_end_each_block_with_its_output():
    net = build("resnet", **SMALL["resnet"])
    assert feature_layers(net)[-3:] == [
        "stages.1.0.shortcut.bn",
        "stages.1.0",
        "average",
    ]


@pytest.mark.parametrize("name", SMALL)
def test_batch_norm_can_pool_steps_or_take_each_by_itself(name):
    for kind, each in (("pooled", layer.BatchNorm2d), ("per_step", PerStepBatchNorm2d)):
        net = build(name, batch_norm=kind, **SMALL[name])
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) >= 2
        assert all(type(norm) is each for norm in norms)
    with pytest.raises(ValueError, match=r"`batch_norm` to be pooled or per_step"):
        build(name, batch_norm="per step", **SMALL[name])


def test_a_norm_of_each_step_is_a_loop_over_the_steps():
    x = torch.randn(3, 4, 2, 5, 5, dtype=torch.float64) * 3 + 1
    x.requires_grad_()
    looped, ours = nn.BatchNorm2d(2).double(), PerStepBatchNorm2d(2).double()
    expected = torch.stack([looped(step) for step in x])
    found = ours(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    weight = torch.randn_like(found)
    (slow,) = torch.autograd.grad((expected * weight).sum(), x)
    (fast,) = torch.autograd.grad((found * weight).sum(), x)
    torch.testing.assert_close(fast, slow)
    for key, value in looped.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
    torch.testing.assert_close(
        ours.eval()(x), torch.stack([looped.eval()(step) for step in x])
    )
    with pytest.raises(ValueError, match=r"\[T, N, C, H, W\], got \[4, 2, 5, 5\]"):
        ours(x[0])


@pytest.mark.parametrize("batch_norm", ["pooled", "per_step"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", SMALL)
def test_direct_coding_computes_the_first_convolution_once(name, training, batch_norm):
    x = torch.rand(1, 3, 2, 16, 16).repeat(5, 1, 1, 1, 1)
    found = {}
    for direct in (False, True):
        net = build(name, batch_norm=batch_norm, direct_coding=direct, **SMALL[name])
        net.double().train(training)
        first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
        seen = []
        first.register_forward_pre_hook(lambda *hooked, s=seen: s.append(hooked[1][0]))
        logits = net(x.double())
        logits.sum().backward()
        assert [len(each) for each in seen] == [1 if direct else 5]
        statistics = [
            m.running_mean for m in net.modules() if isinstance(m, nn.BatchNorm2d)
        ]
        found[direct] = [logits, first.weight.grad, *statistics]
        functional.reset_net(net)
    for once, each in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(once, each)


def test_direct_coding_refuses_events():
    net = build("vgg", direct_coding=True, **SMALL["vgg"])
    with pytest.raises(ValueError, match="set `direct_coding` to false for events"):
        net(torch.rand(4, 2, 2, 16, 16))


def test_fisher_information_of_a_network_with_norms_of_each_step():
    pooled, each = (
        TemporalFisher(
            build("vgg", batch_norm=kind, **SMALL["vgg"]), labels="empirical"
        )
        .measure([(torch.rand(4, 6, 2, 16, 16), torch.arange(6))], progress=False)
        .total
        for kind in ("pooled", "per_step")
    )
    assert each.isfinite().all()
    assert each.shape == pooled.shape


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"stem": "5x5"}, "`stem` to be 7x7 or 3x3, got '5x5'"),
        ({"connect": "around"}, "`connect` to be before or after, got 'around'"),
        ({"blocks": [1]}, r"as many `blocks` as the 4 `channels`.* got \[1\]"),
    ],
)
def test_a_residual_network_that_cannot_be_is_explained(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build("resnet", **kwargs)
