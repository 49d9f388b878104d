"""Recordings of whole models equal hooks of one's own and reshapes known by hand."""

from functools import partial

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import (
    parametric_lif_net,
    sew_resnet,
    spikformer,
    spiking_vgg,
)
from torch import nn

from sj_ext.taps import taps
from tests.taps.models import QKFormerLike, SpikeDrivenLike, SpikformerLike

T, N = 4, 2


def _hooked(net, x):
    """Every call of every module, as it is, by its name."""
    calls = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, out, name=name: calls.setdefault(name, []).append(out)
        )
        for name, module in net.named_modules()
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    functional.reset_net(net)
    return calls


def _folded(x):
    return x.reshape(T, N, *x.shape[1:])


def _same(x):
    return x


def _static(x):
    return x[None]


def _assert_recorded(net, x, shapes, **kwargs):
    """`shapes` says for each leaf how its raw output becomes `[T, N, ...]`."""
    net.eval()
    calls = _hooked(net, x)
    with torch.no_grad(), taps(net, **kwargs) as record:
        net(x)
    expected = {}
    for name, how in shapes.items():
        for number, out in enumerate(calls[name], start=1):
            expected[name if number == 1 else f"{name}#{number}"] = how(out)
    assert set(record.output) == set(expected)
    for key, value in expected.items():
        assert torch.equal(record.output[key], value), key
        assert value.shape[:2] in ((T, N), (1, N)), key
    assert record.not_executed == [n for n in record.not_executed if n not in calls]
    # Leaves end in the order in which they ran.
    order = [name for name in calls if name in shapes]
    assert [key for key in record.output if "#" not in key] == order
    return record


def _attention(prefix):
    return {
        f"{prefix}.{name}": _same
        for name in ("q", "k", "v", "q_lif", "k_lif", "v_lif", "lif")
    } | {f"{prefix}.proj": _folded}


@pytest.mark.parametrize("declared", [None, T])
def test_a_static_image_repeated_inside_is_recorded(declared):
    shapes = {
        "first": _static,
        "conv": _folded,
        "bn": _folded,
        "lif": _same,
        "head": _static,
        **_attention("attention"),
    }
    record = _assert_recorded(
        SpikformerLike(T), torch.rand(N, 3, 8, 8) * 3, shapes, T=declared
    )
    assert (record.T, record.N) == (T, N)
    assert record.logits.shape == (1, N, 5)


@pytest.mark.parametrize("declared", [None, T])
def test_a_neuron_called_on_folded_steps_is_folded_back(declared):
    shapes = {
        "conv": _folded,
        "bn": _folded,
        "lif": _same,
        "pool": _folded,
        "odd_lif": _folded,
        "head": _static,
    }
    _assert_recorded(QKFormerLike(T), torch.rand(N, 3, 8, 8) * 3, shapes, T=declared)


@pytest.mark.parametrize("per_step", [False, True])
def test_a_batch_first_network_with_extra_output_is_recorded(per_step):
    shapes = {
        "conv": _folded,
        "bn": _folded,
        "lif": _same,
        "head_lif": _same,
        "head": _same,
        **_attention("attention"),
    }
    net = SpikeDrivenLike(per_step=per_step)
    x = torch.rand(N, T, 3, 8, 8) * 3
    record = _assert_recorded(
        net, x, shapes, batch_first=True, output=lambda returned: returned[0]
    )
    (logits,) = {k: v for k, v in _hooked(net, x).items() if k == ""}[""]
    expected = logits[0].transpose(0, 1) if per_step else logits[0][None]
    assert torch.equal(record.logits, expected)


def _host_models():
    small = {"spiking_neuron": neuron.LIFNode, "v_threshold": 0.2, "step_mode": "m"}
    yield (
        "parametric_lif_net",
        partial(
            parametric_lif_net.CIFAR10DVSNet,
            channels=2,
            spiking_neuron=neuron.ParametricLIFNode,
            v_threshold=0.2,
        ),
        (T, N, 2, 128, 128),
    )
    yield (
        "sew_resnet",
        partial(sew_resnet.sew_resnet18, cnf="ADD", num_classes=3, **small),
        (T, N, 3, 32, 32),
    )
    yield (
        "spiking_vgg",
        partial(spiking_vgg.spiking_vgg11_bn, num_classes=3, **small),
        (T, N, 3, 32, 32),
    )


@pytest.mark.parametrize(
    ("make", "shape"), [pytest.param(m, s, id=i) for i, m, s in _host_models()]
)
def test_the_hosts_convolutional_networks_are_recorded(make, shape):
    net = make()
    functional.set_step_mode(net, "m")
    leaves = {
        name: _same
        for name, module in net.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear, neuron.BaseNode, nn.BatchNorm2d))
        or type(module).__module__.startswith(layer.__name__)
    }
    leaves = {n: how for n, how in leaves.items() if not isinstance(n, nn.Sequential)}
    _assert_recorded(net, torch.rand(shape), leaves)


def test_the_hosts_spikformer_is_recorded():
    net = spikformer.Spikformer(
        T=T, img_size_h=16, img_size_w=16, patch_size=4, num_classes=3, embed_dims=16,
        num_heads=2, depths=1,
    )  # fmt: skip
    shapes = {}
    for name, module in net.named_modules():
        if isinstance(module, neuron.BaseNode) or name == "head":
            shapes[name] = _same
        elif not list(module.children()) and isinstance(
            module, (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.MaxPool2d)
        ):
            shapes[name] = _folded
    _assert_recorded(net, torch.rand(N, 3, 16, 16) * 3, shapes)
