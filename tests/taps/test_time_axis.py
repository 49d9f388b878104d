"""The time axis is found, or the call raises: it is never guessed."""

import pytest
import torch
from spikingjelly.activation_based import base, functional, layer, neuron
from torch import nn

from sj_ext.taps import TimeAxisError, taps
from tests.taps.models import LoopInside, multi_step_net

T, N = 4, 2


def test_calls_in_step_mode_s_go_on_until_the_reset():
    net = multi_step_net().eval()
    x = torch.rand(T, N, 2, 4, 4) * 3
    with torch.no_grad(), taps(net) as record:
        net(x)
        expected = record.output
        functional.reset_net(net)
        functional.set_step_mode(net, "s")
        for step in x:
            net(step)
        stepwise = record.output
        assert list(stepwise) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(stepwise[name], value)
        assert (record.T, record.N) == (T, N)
        assert record.logits.shape == (T, N, 6)
        functional.reset_net(net)
        assert record.T == T, "a reset alone forgets nothing"
        net(x[0])
        assert record.output["6"].shape == (1, N, 6)
        net(x[1])
        record.clear()
        net(x[2])
        assert record.output["6"].shape == (1, N, 6)


def test_more_single_steps_than_declared_are_refused():
    net = nn.Sequential(nn.Linear(3, 3), neuron.IFNode())
    with taps(net, T=2):
        net(torch.ones(N, 3))
        net(torch.ones(N, 3))
        with pytest.raises(TimeAxisError, match="T = 2 calls"):
            net(torch.ones(N, 3))


def test_each_pass_in_step_mode_m_is_a_sequence_of_its_own():
    net = multi_step_net().eval()
    x = torch.rand(2 * T, N, 2, 4, 4)
    with taps(net) as record:
        net(x)
        functional.reset_net(net)
        net(x[:T])
    assert record.output["6"].shape == (T, N, 6)


@pytest.mark.parametrize("samples", [2, 4])
@pytest.mark.parametrize("declared", [None, T])
def test_a_loop_over_steps_inside_the_network_is_steps(declared, samples):
    net = LoopInside()
    x = torch.rand(T, samples, 6)
    outputs = []
    handle = net.inner.register_forward_hook(lambda *a: outputs.append(a[2]))
    with taps(net, T=declared) as record:
        y = net(x)
    handle.remove()
    assert list(record.output) == ["inner", "relu", "lif", "again", "head"]
    assert torch.equal(record.output["inner"], torch.stack(outputs))
    assert torch.equal(record.output["head"], y)
    assert torch.equal(record.logits, y)


def test_a_layer_used_twice_in_each_step_is_kept_apart():
    net = LoopInside(shared=True)
    uses = []
    handle = net.relu.register_forward_hook(lambda *a: uses.append(a[2]))
    with taps(net, "relu") as record:
        net(torch.rand(T, N, 6))
    handle.remove()
    assert torch.equal(record.output["relu"], torch.stack(uses[::2]))
    assert torch.equal(record.output["relu#2"], torch.stack(uses[1::2]))


class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.lif = nn.Linear(3, 3), neuron.LIFNode(step_mode="m")

    def forward(self, x):
        return self.linear(self.lif(self.linear(x)))


def test_a_layer_used_twice_in_a_pass_is_kept_apart():
    net = _Twice()
    x = torch.rand(T, N, 3)
    with taps(net) as record:
        y = net(x)
    assert list(record.output) == ["linear", "lif", "linear#2"]
    assert torch.equal(record.output["linear"], net.linear(x))
    assert torch.equal(record.output["linear#2"], y)


def test_containers_of_the_host_show_their_inside():
    net = nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 3, 3), nn.ReLU()),
        layer.MultiStepContainer(nn.Flatten(), nn.Linear(12, 5), neuron.IFNode()),
    )
    with taps(net, ["*"]) as record:
        y = net(torch.rand(T, N, 2, 4, 4))
    assert {value.shape[:2] for value in record.output.values()} == {(T, N)}
    assert torch.equal(record.output["1.2"], y)
    assert torch.equal(record.output["1"], y)


def test_containers_with_time_last_are_turned():
    net = nn.Sequential(
        layer.TLastSeqToANNContainer(nn.Linear(3, 5)),
        layer.TLastMultiStepContainer(nn.Linear(5, 2)),
    )
    with taps(net, "?") as record:
        y = net(torch.rand(N, 3, T))
    assert y.shape == (N, 2, T)
    assert torch.equal(record.output["1"], y.movedim(-1, 0))


class _ResetsItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.lif = nn.Linear(3, 3), neuron.LIFNode()

    def forward(self, x):
        functional.reset_net(self.lif)
        return self.lif(self.linear(x))


def test_a_network_that_resets_itself_has_one_step_a_call():
    net = _ResetsItself()
    with taps(net) as record:
        net(torch.rand(N, 3))
        y = net(torch.rand(N, 3))
    assert torch.equal(record.output["lif"], y[None])


def test_a_plain_network_has_one_step():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    x = torch.rand(4, 3, 5, 5)
    with taps(net) as record:
        net(x)
    assert {tuple(v.shape) for v in record.output.values()} == {(1, 4, 4, 3, 3)}
    assert (record.T, record.N) == (1, 4)


class _OwnNeuron(nn.Module):
    def forward(self, x):
        v = torch.zeros_like(x[0])
        spikes = []
        for step in x:
            v = v / 2 + step
            spikes.append((v > 1).float())
            v = v * (1 - spikes[-1])
        return torch.stack(spikes)


class _OwnNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.neuron, self.head = nn.Conv2d(3, 3, 1), _OwnNeuron(), None

    def forward(self, x):
        y = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.neuron(y)


def test_neurons_that_are_not_the_hosts_need_a_declared_t():
    net, x = _OwnNetwork(), torch.rand(T, N, 3, 4, 4) * 3
    with taps(net, T=T) as record:
        y = net(x)
    assert record.output["conv"].shape == (T, N, 3, 4, 4)
    assert torch.equal(record.output["neuron"], y)
    with pytest.raises(TimeAxisError, match=r"Declare `T`"), taps(net):
        net(x)


def test_as_many_samples_as_steps_are_told_apart_by_the_neurons():
    net = nn.Sequential(
        nn.Linear(4, 4), nn.Dropout(0.0), neuron.IFNode(step_mode="m"), nn.Linear(4, 4)
    )
    with taps(net, record=("output", "input")) as record:
        y = net(torch.rand(T, T, 4) * 3)
    assert {tuple(v.shape) for v in record.output.values()} == {(T, T, 4)}
    assert {tuple(v.shape) for v in record.input.values()} == {(T, T, 4)}
    assert torch.equal(record.output["3"], y)


class _Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.lif, self.odd = neuron.IFNode(step_mode="m"), _Same()

    def forward(self, x):
        return self.odd(self.lif(x).mean(0))


class _Same(nn.Module):
    def forward(self, x):
        return x * 1


def test_what_cannot_be_told_raises_with_the_shape():
    net = _Mean()
    with taps(net) as record:
        net(torch.rand(T, N, T))
    assert record.output["odd"].shape == (1, N, T)
    with (
        pytest.raises(TimeAxisError, match=r"\[4, 4\] of 'odd' .* T = 4 and N = 4"),
        taps(net),
    ):
        net(torch.rand(T, T, T))
    with taps(net, "lif") as record:
        net(torch.rand(T, T, T))
    assert record.output["lif"].shape == (T, T, T)


def test_a_layer_is_read_as_in_batches_of_other_sizes_before():
    net = _Mean()
    with taps(net) as record:
        net(torch.rand(T, N, T))
        functional.reset_net(net)
        y = net(torch.rand(T, T, T) * 3)
    assert torch.equal(record.output["odd"], y[None])


class _Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.lif, self.odd = neuron.IFNode(step_mode="m"), _Same()

    def forward(self, x):
        return self.odd(self.lif(x).reshape(-1))


def test_a_tensor_without_the_axes_raises_with_its_shape():
    net = _Odd()
    with pytest.raises(TimeAxisError, match=r"'odd' .* got \[24\]"), taps(net):
        net(torch.rand(T, N, 3))


def test_a_declared_t_that_the_neurons_contradict_is_refused():
    with (
        pytest.raises(TimeAxisError, match="T = 3 declared"),
        taps(net := multi_step_net(), T=3),
    ):
        net(torch.rand(T, N, 2, 4, 4))


def test_step_mode_s_on_a_whole_sequence_is_refused():
    net = nn.Sequential(nn.Flatten(0, 1), neuron.IFNode())
    with pytest.raises(TimeAxisError, match="step mode m"), taps(net):
        net(torch.rand(T, N, 3))


def test_a_shared_neuron_is_not_taken_for_steps():
    lif = neuron.IFNode()
    net = nn.Sequential(nn.Linear(3, 3), lif, nn.Linear(3, 3), lif)
    with pytest.raises(TimeAxisError, match="declare `T`"), taps(net):
        net(torch.rand(N, 3))
    with taps(net, T=1) as record:
        net(torch.rand(N, 3))
    assert list(record.output) == ["0", "1", "2", "1#2"]


class _Structures(nn.Module):
    def forward(self, x):
        return x, {"double": 2 * x}


def test_tensors_in_tuples_and_dicts_have_names_of_their_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif, self.both = neuron.IFNode(step_mode="m"), _Structures()

        def forward(self, x):
            return self.both(self.lif(x))

    net = Net()
    with taps(net) as record:
        x, _ = net(torch.rand(T, N, 3) * 3)
    assert list(record.output) == ["lif", "both.0", "both.1.double"]
    assert torch.equal(record.output["both.1.double"], 2 * x)
    assert record.logits is None


@pytest.mark.parametrize("samples", [2, 4])
def test_a_batch_first_network_of_plain_layers_is_turned(samples):
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.rand(samples, T, 3)
    with taps(net, batch_first=True) as record:
        y = net(x)
    assert torch.equal(record.output["2"], y.transpose(0, 1))
    assert torch.equal(record.logits, y.transpose(0, 1))


class _MeanReadout(nn.Module, base.StepModule):
    """A module in step mode m that removes time."""

    def __init__(self):
        super().__init__()
        self.step_mode = "m"

    def forward(self, x):
        return x.mean(0)


def test_a_readout_in_step_mode_m_of_as_many_classes_as_samples_is_not_guessed():
    net = nn.Sequential(nn.Linear(6, 10), neuron.LIFNode(step_mode="m"), _MeanReadout())
    with taps(net), pytest.raises(TimeAxisError, match=r"\[10, 10\] of '2'"):
        net(torch.rand(T, 10, 6))
    functional.reset_net(net)
    with taps(net) as record:
        net(torch.rand(T, 7, 6))
        assert record.output["2"].shape == (1, 7, 10)
        functional.reset_net(net)
        y = net(torch.rand(T, 10, 6))
    assert torch.equal(record.output["2"], y[None])


def test_a_declared_t_that_shows_nowhere_is_refused():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    x = torch.rand(T, 8, 2, 6, 6)
    with taps(net, T=T), pytest.raises(TimeAxisError, match="SeqToANNContainer"):
        net(x.flatten(0, 1))
    advised = layer.SeqToANNContainer(net)
    with taps(advised, T=T) as record:
        y = advised(x)
    assert torch.equal(record.output["0.0"].relu(), y)


def test_a_size_that_equals_the_channels_is_named_as_the_cause():
    net = _Mean()
    with taps(net), pytest.raises(TimeAxisError, match="one that is no other axis"):
        net(torch.rand(T, T, T))
