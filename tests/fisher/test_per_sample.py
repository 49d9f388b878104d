"""The exact estimator equals a loop over single samples, for every kind of layer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer
from torch import nn
from torch.nn.utils import prune

from sj_ext.fisher import TemporalFisher
from sj_ext.fisher.rules import Rule, covers
from sj_ext.fisher.rules.product import ProductRule
from tests.fisher import networks, reference
from tests.fisher.networks import K, N, T


def labels(samples=N):
    return torch.randint(K, (samples,))


def assert_exact(net, x, execution="auto", looped=(), found_execution=None, **kwargs):
    target = labels(x.shape[1])
    fisher = TemporalFisher(net, labels="empirical", execution=execution, **kwargs)
    result = fisher.measure([(x, target)], progress=False)
    truth = reference.squared_norms(net, x, target)
    assert list(result.per_parameter) == list(truth)
    for name, norms in truth.items():
        expected = norms.double().mean(0)
        found = result.per_parameter[name]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-14, msg=name)
    total = sum(truth.values()).double()
    torch.testing.assert_close(result.total, total.mean(0), rtol=1e-6, atol=0)
    if x.shape[1] > 1:
        error = total.std(0) / x.shape[1] ** 0.5
        found = result.standard_error
        torch.testing.assert_close(found, error, rtol=1e-4, atol=1e-12)
    else:
        assert result.standard_error.isnan().all()
    assert set(result.looped) == set(looped)
    if found_execution:
        assert result.execution == found_execution
    assert (result.total > 0).all()
    return result


NODES = {
    "lif": networks.lif,
    "parametric_lif": networks.parametric_lif,
    "masked_lif": networks.masked_lif,
    "masked_parametric_lif": networks.masked_parametric_lif,
}


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, None], ids=["hard", "soft"])
@pytest.mark.parametrize("node", NODES)
def test_a_convolutional_network_is_exact_for_every_neuron(node, v_reset, detach_reset):
    net = networks.convolutional(
        NODES[node], v_reset=v_reset, detach_reset=detach_reset
    )
    assert_exact(net, networks.frames(), found_execution="steps")


@pytest.mark.parametrize("execution", ["whole", "steps"])
@pytest.mark.parametrize("node", NODES)
def test_whole_sequences_and_single_steps_of_them_give_the_same(node, execution):
    net = networks.fully_connected(NODES[node])
    assert_exact(
        net, torch.rand(T, N, 8).double(), execution, found_execution=execution
    )


@pytest.mark.parametrize("node", [networks.lif, networks.parametric_lif])
def test_a_network_in_single_step_mode_is_called_once_a_step(node):
    net = networks.fully_connected(node, step_mode="s")
    x, target = torch.rand(T, N, 8).double(), labels()
    fisher = TemporalFisher(net, labels="empirical")
    found = fisher.measure([(x, target)], progress=False)
    assert found.execution == "single"
    functional.set_step_mode(net, "m")
    expected = reference.information(net, x, target)
    torch.testing.assert_close(found.total, expected, rtol=1e-6, atol=0)


def test_a_network_that_loops_over_the_steps_itself_is_called_as_a_whole():
    net = networks.LoopsOverTime()
    x = torch.rand(T, N, 8).double()
    assert_exact(net, x, "whole", found_execution="whole")
    assert_exact(net, x)


def test_one_dimensional_convolutions_with_any_padding_are_exact():
    net = networks.ready(networks.Temporal1d())
    assert_exact(net, torch.rand(T, N, 2, 9).double())


@pytest.mark.parametrize("execution", ["whole", "steps"])
@pytest.mark.parametrize("samples", [N, T, 1])
def test_plain_layers_on_folded_steps_are_exact(execution, samples):
    net = networks.ready(networks.Folded())
    assert_exact(net, networks.frames(samples), execution)


@pytest.mark.parametrize(
    ("node", "looped"), [(networks.lif, []), (networks.parametric_lif, ["node.w"])]
)
def test_neurons_that_take_all_steps_for_one_batch_are_exact(node, looped):
    net = networks.ready(networks.OneBatch(node), step_mode="s")
    x = networks.frames()
    assert_exact(net, x, looped=looped, found_execution="whole")


@pytest.mark.parametrize("execution", ["whole", "steps"])
def test_gradients_of_repeated_layers_and_shared_weights_are_summed(execution):
    net = networks.ready(networks.Repeated())
    result = assert_exact(net, torch.rand(T, N, 8).double(), execution)
    assert "twin.weight" not in result.per_parameter


class StepByStep(nn.Module):
    """Calls a multi-step network with one step at a time."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return torch.cat([self.inner(step) for step in x.split(1)])


@pytest.mark.parametrize("v_reset", [0.0, None], ids=["hard", "soft"])
def test_gradients_of_every_kind_of_repeated_layer_are_summed(v_reset):
    net = networks.ready(networks.RepeatedEverywhere(v_reset=v_reset))
    x, target = networks.frames(), labels()
    # Called as a whole, the neuron starts its second sequence with the potential that
    # the first has left; one step at a time it is another network.
    assert_exact(net, x, found_execution="whole")
    fisher = TemporalFisher(net, labels="empirical", execution="steps")
    found = fisher.measure([(x, target)], progress=False)
    expected = reference.information(StepByStep(net), x, target)
    torch.testing.assert_close(found.total, expected, rtol=1e-6, atol=0)
    assert not found.looped


@pytest.mark.parametrize("decay_input", [False, True])
@pytest.mark.parametrize("v_reset", [-0.2, 0.1, None])
def test_a_learnt_time_constant_is_exact_in_every_form_of_the_neuron(
    decay_input, v_reset
):
    net = networks.fully_connected(
        networks.parametric_lif, decay_input=decay_input, v_reset=v_reset
    )
    assert_exact(net, torch.rand(T, N, 8).double())


def test_parameters_without_a_rule_are_exact_and_listed(caplog):
    net = networks.ready(networks.OtherParameters())
    looped = ["gain", "first.weight", "first.bias"]
    assert_exact(net, torch.rand(T, N, 8).double(), looped=looped)
    assert "gain" in caplog.text


def test_a_norm_with_a_scale_for_each_step_is_exact_as_a_whole():
    net = networks.ready(
        nn.Sequential(
            layer.Linear(8, 8),
            layer.TemporalEffectiveBatchNorm1d(T, 8),
            networks.lif(),
            layer.Linear(8, K),
        )
    )
    looped = ["1.weight", "1.bias", "1.scale"]
    x = torch.rand(T, N, 8).double()
    assert_exact(net, x, looped=looped, found_execution="whole")


def test_a_rule_that_is_wrong_for_a_derived_class_is_found_out():
    net = networks.fully_connected()
    net[3] = networks.Unrelated(16, 16, bias=False, step_mode="m").double()
    assert_exact(net, torch.rand(T, N, 8).double(), looped=["3.weight"])


def test_a_layer_of_ones_own_can_be_given_a_rule():
    class Gain(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.rand(16) + 0.5)

        def forward(self, x):
            return self.gain * x

    net = networks.fully_connected()
    net.insert(3, Gain().double())
    x = torch.rand(T, N, 8).double()
    assert_exact(net, x, looped=["3.gain"])

    @covers(Gain)
    class GainRule(Rule):
        parameters = ("gain",)

        def gradient(self, name, items):
            return sum(item.input * item.gradient for item in items)

    assert_exact(net, x, looped=[])


def test_weights_that_a_layer_lends_to_a_function_are_found_out():
    class Lent(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = networks.fully_connected()

        def forward(self, x):
            y = self.inner(x)
            return y + nn.functional.linear(y, self.inner[5].weight[:, :K])

    assert_exact(Lent(), torch.rand(T, N, 8).double(), looped=["inner.5.weight"])


def test_pruned_weights_have_no_information_where_they_are_masked():
    net = networks.convolutional()
    prune.random_unstructured(net[0], "weight", 0.5)
    prune.random_unstructured(net[6], "weight", 0.5)
    assert_exact(net, networks.frames())


def test_frozen_parameters_are_left_out_and_listed():
    net = networks.fully_connected()
    net[0].weight.requires_grad_(False)
    result = assert_exact(net, torch.rand(T, N, 8).double())
    assert result.frozen == ("0.weight",)


def test_a_network_whose_steps_act_on_each_other_runs_as_a_whole():
    net = networks.ready(networks.AcrossTime())
    assert_exact(net, torch.rand(T, N, 8).double(), found_execution="whole")


def test_layers_sum_to_the_total_and_listed_prefixes_are_those_of_all():
    net = networks.convolutional()
    x, target = networks.frames(), labels()
    every = TemporalFisher(net, labels="empirical")
    every = every.measure([(x, target)], progress=False)
    some = TemporalFisher(net, labels="empirical", steps=[1, 3])
    some = some.measure([(x, target)], progress=False)
    assert some.steps == (1, 3)
    torch.testing.assert_close(some.total, every.total[[0, 2]])
    torch.testing.assert_close(sum(every.per_layer.values()), every.total)
    assert list(every.per_layer) == ["0", "1", "3", "6"]


def test_gram_matrices_and_chunks_of_samples_change_nothing(monkeypatch):
    net, x = networks.convolutional(), networks.frames()
    monkeypatch.setattr(ProductRule, "_prefers_gram", lambda self, items: True)
    assert_exact(net, x)
    monkeypatch.setattr(ProductRule, "_prefers_gram", lambda self, items: False)
    assert_exact(net, x)
    monkeypatch.setattr("sj_ext.fisher.by_sample._BUDGET", 1)
    assert_exact(net, x)


@given(
    groups=st.sampled_from([1, 2]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    mode=st.sampled_from(["zeros", "circular"]),
    bias=st.booleans(),
)
def test_convolutions_of_any_shape_are_exact(
    groups, kernel, stride, padding, dilation, mode, bias
):
    conv = layer.Conv2d(
        2, 4, kernel, stride, padding, dilation, groups, bias, padding_mode=mode
    )
    # A bias on the way down keeps the output from being zero everywhere.
    net = networks.ready(
        nn.Sequential(
            conv,
            networks.lif(),
            layer.AdaptiveAvgPool2d(1),
            layer.Flatten(),
            layer.Linear(4, K),
        )
    )
    assert_exact(net, networks.frames(2, (2, 6, 5), steps=2) * 2, execution="whole")


def test_a_second_measurement_sees_what_was_pruned_and_frozen_meanwhile():
    net = networks.fully_connected()
    x, target = networks.frames(shape=(8,)), labels()
    fisher = TemporalFisher(net, labels="empirical")
    fisher.measure([(x, target)], progress=False)
    for _ in range(2):
        prune.random_unstructured(net[3], "weight", 0.5)
        net[0].bias.requires_grad_(False)
        again = fisher.measure([(x, target)], progress=False)
        new = TemporalFisher(net, labels="empirical")
        fresh = new.measure([(x, target)], progress=False)
        assert list(again.per_parameter) == list(fresh.per_parameter)
        torch.testing.assert_close(again.total, fresh.total, rtol=1e-12, atol=0)
    assert "0.bias" not in again.per_parameter


class SamplesFirstInside(nn.Module):
    """Moves the samples before the steps for a plain linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.node = networks.lif()
        self.head = layer.Linear(8, K)

    def forward(self, x):
        return self.head(self.node(self.first(x.transpose(0, 1)).transpose(0, 1)))


def test_a_last_batch_of_as_many_samples_as_steps_is_exact_too():
    net = networks.ready(SamplesFirstInside())
    x, target = networks.frames(2 * T, shape=(8,)), labels(2 * T)
    parts = [(x, target), (x[:, :T] + 0.5, target[:T])]
    fisher = TemporalFisher(net, labels="empirical", execution="whole")
    result = fisher.measure(parts, progress=False)
    truth = [reference.squared_norms(net, *part) for part in parts]
    for name, found in result.per_parameter.items():
        norms = torch.cat([one[name] for one in truth]).double().mean(0)
        torch.testing.assert_close(found, norms, rtol=1e-6, atol=1e-14, msg=name)


class FaintEmbedding(nn.Module):
    """Adds a small number of its own in each step: it runs as a whole only."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(T, 1, 8))
        self.first = layer.Linear(8, 8)
        self.node = networks.lif()
        self.head = layer.Linear(8, K)

    def forward(self, x):
        x = x + 1e-4 * self.position[: len(x)]
        return self.head(self.node(self.first(x)))


def test_a_parameter_of_small_gradients_is_not_taken_for_rounding():
    net = networks.ready(FaintEmbedding())
    x = networks.frames(shape=(8,))
    assert_exact(net, x, looped=("position",), found_execution="whole")
