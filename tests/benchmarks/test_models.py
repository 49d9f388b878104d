"""Networks have the sizes of the papers and keep the time axis."""

import itertools
from fnmatch import fnmatch

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

import sj_ext
from benchmarks.models import VGG, feature_layers, neuron_factory
from benchmarks.runs.config import NeuronConfig, SurrogateConfig

lif = neuron_factory(NeuronConfig(), SurrogateConfig())


def resnet(make_neuron=lif, seed=0, **kwargs):
    torch.manual_seed(seed)
    settings = {"in_channels": 2, "classes": 10, "size": (8, 8), "depth": 8}
    settings |= {"neuron": make_neuron, "width": 0.25, **kwargs}
    return sj_ext.create("model", "preactivation_resnet", **settings)


def vgg(make_neuron=lif, seed=0):
    torch.manual_seed(seed)
    return VGG(2, 10, (8, 8), make_neuron, [4, "A", 8, "A"])


def make(channels, size=(48, 48), **surrogate):
    factory = neuron_factory(NeuronConfig(), SurrogateConfig(**surrogate))
    return VGG(2, 10, size, factory, channels)


def test_vggsnn_ends_in_a_layer_of_4608_inputs():
    A = "A"
    channels = [64, 128, A, 256, 256, A, 512, 512, A, 512, 512, A]
    net = make(channels)
    assert net.classifier[1].in_features == 4608
    convolutions = sum(
        p.numel() for name, p in net.features.named_parameters() if p.ndim == 4
    )
    widths = [2, 64, 128, 256, 256, 512, 512, 512, 512]
    expected = sum(9 * a * b for a, b in itertools.pairwise(widths))
    assert convolutions == expected


@pytest.mark.parametrize("build", [vgg, resnet])
def test_logits_have_a_time_axis_and_samples_do_not_mix(build):
    net = build().eval()
    x = torch.rand(5, 3, 2, 8, 8)
    together = net(x)
    functional.reset_net(net)
    alone = net(x[:, 1:2])
    assert together.shape == (5, 3, 10)
    torch.testing.assert_close(together[:, 1:2], alone)


def test_each_layer_has_the_hosts_own_surrogate_for_itself():
    net = make([4, 4], (4, 4))
    found = [
        module.surrogate_function
        for module in net.modules()
        if isinstance(module, neuron.LIFNode)
    ]
    assert len({id(function) for function in found}) == 2
    for function in found:
        assert type(function).__module__ == "spikingjelly.activation_based.surrogate"
        assert function.alpha == 2.0


@pytest.mark.parametrize("channels", [[4, "M"], [0], [4.0], [True]])
def test_a_wrong_entry_of_channels_is_named(channels):
    with pytest.raises(ValueError, match="Expected `channels` to hold positive"):
        make(channels)


@pytest.mark.parametrize("depth", [20, 38, 56, 110, 164])
def test_depth_counts_the_convolutions_on_the_main_path_and_the_classifier(depth):
    with torch.device("meta"):
        net = resnet(depth=depth)
    weights = [
        name
        for name, parameter in net.named_parameters()
        if parameter.ndim > 1 and "shortcut" not in name
    ]
    assert len(weights) == depth


@pytest.mark.parametrize("width", [0.25, 1, 2, 16])
def test_width_multiplies_16_32_and_64_channels(width):
    with torch.device("meta"):
        net = resnet(width=width)
    found = [
        net.get_submodule(f"stage{n}.0.conv2").out_channels / width for n in (1, 2, 3)
    ]
    assert found == [16, 32, 64]
    assert net.conv.out_channels == 16 * width
    assert net.classifier.in_features == 64 * width


@pytest.mark.parametrize("build", [vgg, resnet])
def test_twins_have_the_same_parameters_and_initial_values(build):
    snn, ann = build(lif, seed=3), build(nn.ReLU, seed=3)
    assert list(snn.state_dict()) == list(ann.state_dict())
    for name, value in snn.state_dict().items():
        assert torch.equal(value, ann.state_dict()[name]), name


@pytest.mark.parametrize("build", [vgg, resnet])
def test_twins_differ_in_the_neuron_alone(build):
    snn, ann = dict(build(lif).named_modules()), dict(build(nn.ReLU).named_modules())
    differing = {name for name in ann if type(snn[name]) is not type(ann[name])}
    neurons = {n for n, m in snn.items() if isinstance(m, neuron.LIFNode)}
    assert differing == neurons
    assert all(type(ann[name]) is nn.ReLU for name in neurons)


def test_twins_compute_the_same_but_for_the_neuron():
    x = torch.rand(3, 4, 2, 8, 8)
    same = neuron_factory(NeuronConfig("IFNode"), SurrogateConfig())
    net = resnet(same).eval()
    spikes = net(x)
    functional.reset_net(net)
    # A memoryless step function of the threshold in place of each neuron.
    twin = resnet(lambda: Step(net.neuron.v_threshold)).eval()
    one_step = torch.cat([reset_and_call(net, frame[None]) for frame in x])
    torch.testing.assert_close(twin(x), one_step)
    assert not torch.allclose(spikes, one_step)


class Step(nn.Module):
    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        return (x >= self.threshold).to(x)


def reset_and_call(net, x):
    functional.reset_net(net)
    return net(x)


def test_without_residual_connections_the_shortcuts_are_gone_and_nothing_else():
    residual, plain = resnet(depth=14), resnet(depth=14, residual=False)
    kept = {
        name: value
        for name, value in residual.state_dict().items()
        if "shortcut" not in name
    }
    assert len(kept) < len(residual.state_dict())
    assert list(kept) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(value, kept[name]), name
    x = torch.rand(2, 3, 4, 8, 8)
    for one, other in zip(residual.stage1, plain.stage1, strict=True):
        torch.testing.assert_close(one.eval()(x) - x, other.eval()(x))


def test_the_residual_path_is_recorded_as_it_was():
    net = resnet(nn.ReLU, depth=14).eval()
    kept = {}
    for name in ("bn", "stage1.0", "stage1.0.bn2"):
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: kept.update(
                {name: (output, output.clone())}
            )
        )
    net(torch.rand(2, 3, 2, 8, 8))
    assert len(kept) == 3
    for output, copy in kept.values():
        assert torch.equal(output, copy)
    addend, branch, block = (
        kept[name][0] for name in ("bn", "stage1.0.bn2", "stage1.0")
    )
    assert torch.equal(addend + branch, block)


@pytest.mark.parametrize("size", [(9, 7), (32, 32)])
def test_frames_of_any_size_pass(size):
    frames = torch.rand(2, 2, 2, *size)
    assert resnet(size=size).eval()(frames).shape == (2, 2, 10)


def test_feature_layers_are_the_73_of_a_resnet_20_in_order_of_execution():
    net = resnet(depth=20)
    names = feature_layers(net)
    assert len(names) == len(set(names)) == 73
    assert names[:4] == ["conv", "bn", "stage1.0.neuron1", "stage1.0.conv1"]
    assert names[-2:] == ["neuron", "pool"]
    assert sum(fnmatch(name, "stage[123].[012]") for name in names) == 9
    assert sum(fnmatch(name, "*neuron*") for name in names) == 19
    executed = []
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda *_, name=name: executed.append(name)
        )
    net(torch.rand(1, 2, 2, 8, 8))
    assert executed == names
    assert feature_layers(resnet(nn.ReLU, depth=20)) == names


def test_feature_layers_of_a_vgg_are_named_after_what_they_are():
    first = [f"features.0.{part}" for part in ("conv", "bn", "neuron")]
    names = feature_layers(vgg())
    assert names[:4] == [*first, "features.1"]
    assert len(names) == 8


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(ValueError, match=f"Expected `depth` to be 6n.*got {depth}"):
        resnet(depth=depth)


@pytest.mark.parametrize("width", [0, -1, 0.3])
def test_a_width_without_whole_channels_is_refused(width):
    with pytest.raises(ValueError, match=f"Expected `width` .*got {width}"):
        resnet(width=width)
