"""Synaptic operations equal loops, hand counts and, unpruned, the host's counter."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrize import register_parametrization

from sj_ext.pruning import SynapticOperations, synop_rules
from tests.pruning.synops_reference import connected, fully_connected, sparse

pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


def counted(net, *batches, **kwargs):
    found = SynapticOperations(net, **kwargs)
    for x in batches:
        found.update(x)
    return found.compute()


def multi_step(*layers):
    net = nn.Sequential(*layers)
    functional.set_step_mode(net, "m")
    return net


def network():
    return multi_step(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.LIFNode(v_threshold=0.3),
        layer.AvgPool2d(2),
        layer.Conv2d(4, 6, 3, stride=2),
        neuron.LIFNode(v_threshold=0.05),
        layer.Flatten(),
        layer.Linear(24, 5),
    )


def spikes(*shape, share=0.4):
    return (torch.rand(shape) < share).float()


@given(
    groups=st.integers(1, 2),
    per_group=st.integers(1, 2),
    outputs=st.integers(1, 2),
    kernel=pair,
    stride=pair,
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    mode=st.sampled_from(["zeros", "circular", "reflect"]),
)
def test_a_convolution_counts_what_a_loop_counts(
    groups, per_group, outputs, kernel, stride, dilation, padding, mode
):
    net = multi_step(
        layer.Conv2d(
            groups * per_group,
            groups * outputs,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            padding_mode=mode,
        )
    )
    net[0].weight.data = sparse(*net[0].weight.shape)
    x = sparse(2, 2, groups * per_group, 6, 5)
    found = counted(net, x).layers["0"]
    for t in range(2):
        assert found.operations[t] == sum(
            connected(net[0].weight, x[t, n], stride, padding, dilation, groups, mode)
            for n in range(2)
        )


def test_padding_by_name_counts_what_the_same_numbers_count():
    x = sparse(2, 2, 3, 6, 5)
    same = multi_step(layer.Conv2d(3, 4, 3, padding="same"))
    numbers = multi_step(layer.Conv2d(3, 4, 3, padding=1))
    numbers.load_state_dict(same.state_dict())
    assert counted(same, x).layers == counted(numbers, x).layers


def test_a_linear_layer_and_one_dimension_count_what_loops_count():
    net = multi_step(layer.Linear(6, 4))
    net[0].weight.data = sparse(4, 6)
    x = sparse(3, 2, 6)
    assert counted(net, x).layers["0"].operations == tuple(
        sum(fully_connected(net[0].weight, x[t, n]) for n in range(2)) for t in range(3)
    )
    net = multi_step(layer.Conv1d(2, 3, 3, stride=2, padding=1))
    net[0].weight.data = sparse(3, 2, 3)
    x = sparse(1, 2, 2, 7)
    flat = net[0].weight.unsqueeze(2)
    assert counted(net, x).layers["0"].operations[0] == sum(
        connected(flat, x[0, n].unsqueeze(1), (1, 2), (0, 1), (1, 1), 1)
        for n in range(2)
    )


def test_a_small_network_counts_as_by_hand():
    net = multi_step(layer.Linear(3, 2, bias=False), neuron.IFNode(v_threshold=1.0))
    net.append(layer.Linear(2, 2, bias=False).eval())
    functional.set_step_mode(net, "m")
    net[0].weight.data = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    net[2].weight.data = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    # Step 1: inputs 0 and 2 meet 1 and 2 weights; both neurons spike and meet 1 and 2.
    # Step 2: inputs 0 and 1 meet 1 and 0 weights; the first neuron alone spikes.
    x = torch.tensor([[[1.0, 0.0, 1.0]], [[1.0, 1.0, 0.0]]])
    found = counted(net, x)
    assert found.layers["0"].operations == (3, 1)
    assert found.layers["2"].operations == (3, 1)
    assert (found.accumulates, found.multiply_accumulates) == (8, 0)
    assert found.dense == 2 * (6 + 4)
    assert found.training == 24
    assert found.steps("2") == [3, 1]


def test_accumulates_and_multiplications_are_told_apart_by_all_that_was_seen():
    net = multi_step(layer.Linear(3, 2))
    ones, three = torch.tensor([[[1.0, 0, 1]]]), torch.tensor([[[3.0, 0, 1]]])
    half = torch.tensor([[[0.5, 0, 1]]])
    found = counted(net, ones)
    assert (found.accumulates, found.multiply_accumulates) == (4, 0)
    found = counted(net, -ones)
    assert (found.accumulates, found.multiply_accumulates) == (4, 0)
    found = counted(net, ones, three)
    assert (found.accumulates, found.multiply_accumulates) == (0, 4)
    assert found.integer_multiply_accumulates == 4
    assert found.integer_accumulates == (4 + 8) / 2
    found = counted(net, ones, three, half)
    assert found.layers["0"].values == "reals"
    assert (found.multiply_accumulates, found.integer_accumulates) == (4, 0)


def test_direct_coded_and_pooled_layers_multiply_and_spiking_ones_add():
    found = counted(network(), torch.rand(4, 3, 2, 12, 12))
    values = {name: one.values for name, one in found.layers.items()}
    assert values == {"0": "reals", "4": "reals", "7": "spikes"}
    assert found.accumulates == found.layers["7"].accumulates / 3
    assert found.total == found.accumulates + found.multiply_accumulates


def test_a_norm_behind_a_layer_is_folded_and_another_counts_its_elements():
    x = spikes(2, 3, 2, 5, 5)
    behind = multi_step(layer.Conv2d(2, 4, 3), layer.BatchNorm2d(4))
    found = counted(behind, x)
    assert (found.folded, list(found.layers)) == (("1",), ["0"])
    before = multi_step(layer.BatchNorm2d(2), layer.Conv2d(2, 4, 3))
    found = counted(before, x)
    assert found.folded == ()
    assert found.layers["0"].is_norm
    assert found.layers["0"].multiply_accumulates == x.numel()


class Folded(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.neuron = neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.head = nn.Linear(4 * 36, 3)
        self.load_state_dict(source.state_dict(), strict=False)

    def forward(self, x):
        T, N = x.shape[:2]
        h = self.bn(self.conv(x.flatten(0, 1)))
        h = self.neuron(h.unflatten(0, (T, N)))
        return self.head(h.flatten(2))


class MultiStep(Folded):
    def __init__(self):
        nn.Module.__init__(self)
        self.conv = layer.Conv2d(2, 4, 3, padding=1, step_mode="m")
        self.bn = layer.BatchNorm2d(4, step_mode="m")
        self.neuron = neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.head = layer.Linear(4 * 36, 3, step_mode="m")

    def forward(self, x):
        return self.head(self.neuron(self.bn(self.conv(x))).flatten(2))


def test_folded_layers_of_torch_count_as_multi_step_ones_of_the_host():
    source = MultiStep()
    x = spikes(4, 3, 2, 6, 6)
    one, other = counted(source, x), counted(Folded(source), x)
    assert one == other
    assert one.folded == ("bn",)
    assert len(one.layers["conv"].operations) == 4


def binary_network():
    net = network()
    # Every layer sees spikes: the host's counter has no count for anything else.
    net[3] = layer.MaxPool2d(2)
    functional.set_step_mode(net, "m")
    return net.eval()


def counted_by_host(net, x, **kwargs):
    counter = SynOpCounter(**kwargs)
    with torch.no_grad(), DispatchCounterMode([counter]):
        net(x)
    functional.reset_net(net)
    return counter.get_total()


def test_an_unpruned_network_counts_what_the_host_counts():
    net, x = binary_network(), spikes(4, 3, 2, 12, 12)
    found = counted(net, x)
    assert found.multiply_accumulates == 0
    assert sum(one.accumulates for one in found.layers.values()) == counted_by_host(
        net, x
    )


def test_the_hosts_counter_leaves_out_pruned_weights_with_our_rules():
    net, x = binary_network(), spikes(4, 3, 2, 12, 12)
    for index in (0, 4, 7):
        prune.random_unstructured(net[index], "weight", 0.6)
    found = counted(net, x)
    ours = sum(one.accumulates for one in found.layers.values())
    assert counted_by_host(net, x, extra_rules=synop_rules()) == ours
    assert counted_by_host(net, x) > 1.5 * ours
    assert counted_by_host(net, 0.5 * x, extra_rules=synop_rules()) < ours


class Masked(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask


def test_pruned_and_parametrised_weights_count_as_zeros():
    x = sparse(2, 3, 2, 12, 12)
    net = network()
    mask = (torch.rand_like(net[0].weight) < 0.3).float()
    pruned, parametrised = copy.deepcopy(net), copy.deepcopy(net)
    net[0].weight.data *= mask
    prune.custom_from_mask(pruned[0], "weight", mask)
    register_parametrization(parametrised[0], "weight", Masked(mask))
    expected = counted(net, x)
    assert counted(pruned, x).layers == expected.layers
    found = counted(parametrised, x)
    assert found == expected
    # Also when the weights behind the mask have changed since the last pass.
    pruned[0].weight_orig.data[:2] = 0.0
    assert counted(pruned, x).layers["0"].operations < (expected.layers["0"].operations)


def test_batches_and_accumulators_merge_into_one_count():
    net, x = network(), torch.rand(4, 6, 2, 12, 12).round()
    whole = SynapticOperations(net)
    whole.update(x)
    one, other = SynapticOperations(net), SynapticOperations(net)
    one.update(x[:, :2])
    other.update(x[:, 2:])
    one.merge(other)
    assert one.compute() == whole.compute()
    loaded = SynapticOperations(net)
    loaded.load_state_dict(one.state_dict())
    assert loaded.compute() == whole.compute()
    batches = [(x[:, :3], None), (x[:, 3:], None)]
    assert SynapticOperations(net).measure(batches) == whole.compute()


def test_the_network_is_left_as_found():
    net, x = network().train(), torch.rand(4, 3, 2, 12, 12)
    net(x)
    before = copy.deepcopy(net.state_dict())
    potential = net[2].v.clone()
    counted(net, x)
    assert net.training
    assert all(m.training for m in net.modules())
    assert torch.equal(net[2].v, potential)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_what_has_no_rule_is_listed_and_a_network_without_layers_refused():
    net = multi_step(
        layer.ConvTranspose2d(2, 2, 3), neuron.IFNode(), layer.Conv2d(2, 3, 3)
    )
    assert counted(net, spikes(2, 3, 2, 5, 5)).uncounted == ("0",)
    with pytest.raises(ValueError, match="linear or convolutional layers, got Seq"):
        counted(multi_step(neuron.IFNode()), spikes(2, 3, 2))
    with pytest.raises(ValueError, match="Expected `update` before `compute`"):
        SynapticOperations(net).compute()
