"""How a measurement behaves: streaming, merging, probing, and leaving no trace."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from sj_ext.fisher import FisherResult, TemporalFisher
from sj_ext.readout import RateReadout, TemporallyWeightedOutput
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate
from tests.fisher import networks
from tests.fisher.networks import K, N, T
from tests.surrogate.conftest import in_two_processes

__all__ = ["in_two_processes"]


def batches(count=3, samples=N):
    return [
        (torch.rand(T, samples, 8).double(), torch.randint(K, (samples,)))
        for _ in range(count)
    ]


def measured(net, loader, **kwargs) -> FisherResult:
    return TemporalFisher(net, **kwargs).measure(loader, progress=False)


def assert_same(a, b):
    torch.testing.assert_close(a.total, b.total, rtol=1e-12, atol=0)
    torch.testing.assert_close(a.standard_error, b.standard_error, equal_nan=True)
    torch.testing.assert_close(a.prefix_loss, b.prefix_loss)
    assert a.samples == b.samples
    assert a.units == b.units
    assert a.information_centroid == pytest.approx(b.information_centroid)


def test_beside_the_information_stand_loss_accuracy_and_confidence_of_prefixes():
    net, ((x, target),) = networks.fully_connected(), batches(1, 16)
    found = measured(net, [(x, target)])
    net.eval()
    functional.reset_net(net)
    with torch.no_grad():
        outputs = net(x).cumsum(0) / torch.arange(1, T + 1)[:, None, None]
    loss = nn.functional.cross_entropy(
        outputs.flatten(0, 1), target.repeat(T), reduction="none"
    )
    torch.testing.assert_close(found.prefix_loss, loss.reshape(T, -1).mean(1))
    right = (outputs.argmax(-1) == target).double().mean(1)
    torch.testing.assert_close(found.prefix_accuracy, right)
    confidence = outputs.softmax(-1).amax(-1).mean(1)
    torch.testing.assert_close(found.prefix_confidence, confidence)


def test_without_targets_the_true_information_can_still_be_had():
    net, ((x, target),) = networks.fully_connected(), batches(1)
    found = measured(net, [x])
    assert_close = torch.testing.assert_close
    assert_close(found.total, measured(net, [(x, target)]).total)
    assert found.prefix_loss.isnan().all()
    with pytest.raises(ValueError, match="target for labels='empirical'"):
        measured(net, [x], labels="empirical")


def test_the_same_seed_draws_the_same_labels():
    net, loader = networks.fully_connected(), batches()
    first, again = (measured(net, loader, seed=3) for _ in range(2))
    assert torch.equal(first.total, again.total)
    assert not torch.equal(first.total, measured(net, loader, seed=4).total)


def test_streams_merge_into_one_measurement():
    net, loader = networks.fully_connected(), batches()
    whole = measured(net, loader, labels="empirical")
    first, second = (TemporalFisher(net, labels="empirical") for _ in range(2))
    first.update(loader[0])
    for batch in loader[1:]:
        second.update(batch)
    first.merge(second)
    assert first.samples == 3 * N
    assert_same(first.compute(), whole)


@pytest.mark.parametrize("estimator", ["per_sample", "random_sign"])
def test_an_interrupted_measurement_goes_on_with_the_same_labels(estimator):
    net, loader = networks.fully_connected(), batches()
    whole = measured(net, loader, estimator=estimator)
    first = TemporalFisher(net, estimator)
    first.update(loader[0])
    state = copy.deepcopy(first.state_dict())
    second = TemporalFisher(net, estimator)
    second.load_state_dict(state)
    for batch in loader[1:]:
        second.update(batch)
    assert_same(second.compute(), whole)


def test_a_reset_forgets_and_draws_from_the_beginning():
    net, loader = networks.fully_connected(), batches()
    fisher = TemporalFisher(net)
    first = fisher.measure(loader, progress=False)
    assert_same(fisher.measure(loader, progress=False), first)
    fisher.reset()
    with pytest.raises(ValueError, match="at least one batch"):
        fisher.compute()


def test_two_processes_measure_what_one_does(in_two_processes, tmp_path):
    torch.manual_seed(0)
    net, loader = networks.fully_connected(), batches(4)
    torch.save((net, loader), tmp_path / "data.pt")
    in_two_processes(f"""
from sj_ext.fisher import TemporalFisher, fisher_diagonal
net, loader = torch.load({str(tmp_path / "data.pt")!r}, weights_only=False)
mine = loader[rank::2]
result = TemporalFisher(net, labels="empirical").measure(mine, progress=False)
result.save(f"{tmp_path}/result{{rank}}.npz")
diagonal = fisher_diagonal(net, mine, labels="empirical", progress=False)
torch.save(diagonal, f"{tmp_path}/diagonal{{rank}}.pt")
""")
    whole = measured(net, loader, labels="empirical")
    from sj_ext.fisher import fisher_diagonal

    diagonal = fisher_diagonal(net, loader, labels="empirical", progress=False)
    for rank in range(2):
        assert_same(FisherResult.load(tmp_path / f"result{rank}.npz"), whole)
        torch.testing.assert_close(
            torch.load(tmp_path / f"diagonal{rank}.pt"), diagonal
        )


@pytest.mark.parametrize("estimator", ["per_sample", "random_sign"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was_found(estimator, fails):
    net = networks.convolutional(networks.masked_lif)
    net.train()
    net[1].eval()
    net(networks.frames())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes = [module.training for module in net.modules()]
    memories = [m.v.clone() for m in net.modules() if isinstance(m, neuron.BaseNode)]
    surrogates = [net[2].surrogate_function, net[4].surrogate_function]
    tensors = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(1)
    random = torch.get_rng_state()
    fisher = TemporalFisher(net, estimator, probe="ATan")
    x = networks.frames(5)
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(ValueError, match="class indices"):
            fisher.update((x, torch.zeros(2)))
    else:
        fisher.update((x, torch.randint(K, (5,), generator=torch.Generator())))
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(v, tensors[k]) for k, v in net.state_dict().items())
    after = [m.v for m in net.modules() if isinstance(m, neuron.BaseNode)]
    assert all(torch.equal(a, b) for a, b in zip(after, memories, strict=True))
    assert [net[2].surrogate_function, net[4].surrogate_function] == surrogates
    assert all((parameter.grad == 1).all() for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_masks_do_not_act_during_a_measurement():
    loader = [(networks.frames(), torch.randint(K, (N,)))]
    masked = networks.convolutional(networks.masked_lif)
    plain = networks.convolutional(networks.lif)
    plain.load_state_dict(masked.state_dict())
    assert_same(
        measured(masked.train(), loader, labels="empirical"),
        measured(plain, loader, labels="empirical"),
    )


def test_networks_trained_with_other_surrogates_are_compared_through_one_probe():
    loader = [(networks.frames(), torch.randint(K, (N,)))]

    def with_surrogate(function):
        torch.manual_seed(0)
        net = networks.convolutional()
        for module in net.modules():
            if isinstance(module, neuron.BaseNode):
                module.surrogate_function = copy.deepcopy(function)
        return net

    functions = [
        surrogate.PiecewiseQuadratic(alpha=2.0),
        surrogate.Sigmoid(alpha=4.0),
        MaskedSurrogate("PiecewiseQuadratic", BernoulliMask(0.5), {"alpha": 2.0}),
    ]
    probe = surrogate.ATan(alpha=3.0)
    own = [measured(with_surrogate(f), loader) for f in functions]
    probed = [measured(with_surrogate(f), loader, probe=probe) for f in functions]
    assert not torch.allclose(own[0].total, own[1].total, rtol=1e-3)
    for found in probed:
        torch.testing.assert_close(found.total, probed[0].total)
        assert found.probe == "ATan(alpha=3.0)"
    assert own[0].probe is None
    with pytest.raises(TypeError, match="unmasked"):
        TemporalFisher(with_surrogate(functions[0]), probe=functions[2])


def test_weights_of_a_readout_are_renormalised_over_each_prefix():
    net, ((x, target),) = networks.fully_connected(), batches(1)
    head = TemporallyWeightedOutput(T)
    head.weight.copy_(torch.tensor([0.4, 1.6, 0.8, 1.2]))
    found = measured(net, [(x, target)], readout=head)
    net.eval()
    functional.reset_net(net)
    with torch.no_grad():
        weighted = head.weight[:, None, None] * net(x)
    outputs = weighted.cumsum(0) / head.weight.cumsum(0)[:, None, None]
    confidence = outputs.softmax(-1).amax(-1).mean(1)
    torch.testing.assert_close(found.prefix_confidence, confidence, rtol=1e-6, atol=0)
    mean = measured(net, [(x, target)])
    assert not torch.allclose(found.total[1:], mean.total[1:], rtol=1e-3)
    torch.testing.assert_close(
        measured(net, [(x, target)], readout=RateReadout(T)).total, mean.total
    )
    with pytest.raises(ValueError, match="T=4 steps, got T=5"):
        measured(net, [(x, target)], readout=RateReadout(5))


def test_batch_first_networks_give_the_same():
    class BatchFirst(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.transpose(0, 1)).transpose(0, 1), "a hook"

    net, ((x, target),) = networks.fully_connected(), batches(1)
    found = measured(
        BatchFirst(net),
        [{"frames": x.transpose(0, 1), "label": target}],
        batch_first=True,
        inputs=lambda batch: (batch["frames"], batch["label"]),
        output=lambda returned: returned[0],
    )
    assert found.execution == "steps"
    torch.testing.assert_close(found.total, measured(net, [(x, target)]).total)


class Restless(nn.Module):
    """Keeps a state that the host does not know of."""

    def __init__(self):
        super().__init__()
        self.inner = networks.fully_connected()
        self.kept = 0.0

    def forward(self, x):
        y = self.inner(x)
        self.kept = self.kept + y.detach().sum()
        return y + self.kept


class Noisy(nn.Module):
    """Draws random numbers in evaluation."""

    def __init__(self):
        super().__init__()
        self.inner = networks.fully_connected()

    def forward(self, x):
        return self.inner(nn.functional.dropout(x))


@pytest.mark.parametrize("make", [Restless, Noisy])
def test_states_that_are_not_reset_and_noise_are_found_out(make):
    with pytest.raises(RuntimeError, match="reset_net"):
        measured(make(), batches(1))


def test_a_network_that_averages_over_time_is_told_what_to_do():
    class Averages(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = networks.fully_connected()

        def forward(self, x):
            return self.inner(x).mean(0)

    with pytest.raises(ValueError, match=r"leave the mean to `readout`"):
        measured(Averages(), batches(1))


def test_batch_norm_without_running_statistics_is_refused():
    net = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="running statistics"):
        TemporalFisher(net)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"estimator": "mean"}, "Expected `estimator` to be one of"),
        ({"labels": "true"}, "Expected `labels` to be one of"),
        ({"steps": []}, "Expected `steps`"),
        ({"steps": [2, 1]}, "Expected `steps`"),
        ({"execution": "fast"}, "Expected `execution`"),
    ],
)
def test_arguments_outside_their_range_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TemporalFisher(networks.fully_connected(), **kwargs)


def test_prefixes_longer_than_the_sequence_are_refused():
    with pytest.raises(ValueError, match="from 1 to 4"):
        measured(networks.fully_connected(), batches(1), steps=[2, 9])


def test_measurements_with_other_settings_do_not_merge():
    net, loader = networks.fully_connected(), batches(1)
    first, second = TemporalFisher(net, steps=[1]), TemporalFisher(net)
    first.update(loader[0])
    second.update(loader[0])
    with pytest.raises(ValueError, match="same parameters and steps"):
        first.merge(second)
    with pytest.raises(ValueError, match="random_sign"):
        first.merge(TemporalFisher(net, "random_sign"))
    with pytest.raises(ValueError, match="Sigmoid"):
        first.merge(TemporalFisher(net, probe="Sigmoid"))


def weighted(*weight):
    head = TemporallyWeightedOutput(T)
    head.weight.copy_(torch.tensor(weight))
    return head


def test_measurements_through_other_weights_over_time_do_not_merge():
    net, (batch, *_) = networks.fully_connected(), batches(1)
    heads = [weighted(0.4, 1.6, 0.8, 1.2), weighted(1.0, 1.0, 1.6, 0.4)]
    first, second = (TemporalFisher(net, readout=head) for head in heads)
    mean = TemporalFisher(net)
    for fisher in (first, second, mean):
        fisher.update(batch)
    before = first.compute()
    for other in (second, mean):
        with pytest.raises(ValueError, match=r"same weights of `readout`.*got \["):
            first.merge(other)
        with pytest.raises(ValueError, match="same weights of `readout`"):
            other.merge(first)
    assert_same(first.compute(), before)
    state = first.state_dict()
    for readout in (heads[1], None):
        with pytest.raises(ValueError, match="same weights of `readout`"):
            TemporalFisher(net, readout=readout).load_state_dict(state)


def test_weights_over_time_that_read_the_same_prefixes_merge():
    net, (batch, *_) = networks.fully_connected(), batches(1)
    head = weighted(0.4, 1.6, 0.8, 1.2)
    first = TemporalFisher(net, labels="empirical", readout=head)
    second = TemporalFisher(
        net, labels="empirical", readout=weighted(0.2, 0.8, 0.4, 0.6)
    )
    for fisher in (first, second):
        fisher.update(batch)
    once = first.compute()
    # What the weights have become since says nothing about what was measured.
    head.weight.fill_(1.0)
    first.merge(second)
    torch.testing.assert_close(first.compute().total, once.total)
    assert first.samples == 2 * N
    plain, rate = TemporalFisher(net), TemporalFisher(net, readout=RateReadout(T))
    rate.update(batch)
    plain.merge(rate)
    assert plain.samples == N


def test_weights_over_time_must_not_move_during_a_measurement():
    net, loader = networks.fully_connected(), batches(2)
    head = weighted(0.4, 1.6, 0.8, 1.2)
    fisher = TemporalFisher(net, readout=head)
    fisher.update(loader[0])
    head.weight.copy_(torch.tensor([0.6, 1.4, 0.8, 1.2]))
    with pytest.raises(ValueError, match=r"same weights.*0\.1.*got \[0\.15"):
        fisher.update(loader[1])
    assert fisher.samples == N
    fisher.measure(loader, progress=False)


def test_processes_that_read_out_otherwise_are_not_added_up(in_two_processes, tmp_path):
    torch.manual_seed(0)
    torch.save((networks.fully_connected(), batches(1)), tmp_path / "data.pt")
    in_two_processes(f"""
from sj_ext.fisher import TemporalFisher
from sj_ext.readout import TemporallyWeightedOutput
net, loader = torch.load({str(tmp_path / "data.pt")!r}, weights_only=False)
head = TemporallyWeightedOutput({T})
head.weight[0] += rank
try:
    TemporalFisher(net, readout=head).measure(loader, progress=False)
except ValueError as error:
    assert "same weights of `readout`" in str(error), error
else:
    raise AssertionError("added up")
""")


@pytest.mark.parametrize("estimator", ["per_sample", "batch_mean"])
def test_an_empty_batch_is_refused_and_changes_nothing(estimator):
    net, ((x, target),) = networks.fully_connected(), batches(1)
    fisher = TemporalFisher(net, estimator)
    empty = (x[:, :0], target[:0])
    with pytest.raises(ValueError, match=r"at least one sample .* input \[4, 0, 8\]"):
        fisher.update(empty)
    fisher.update((x, target))
    before = fisher.compute()
    with pytest.raises(ValueError, match="at least one sample"):
        fisher.update(empty)
    assert_same(fisher.compute(), before)


def test_every_batch_must_have_the_same_number_of_steps():
    net, loader = networks.fully_connected(), batches(1)
    fisher = TemporalFisher(net)
    fisher.update(loader[0])
    with pytest.raises(ValueError, match="4 time steps"):
        fisher.update(torch.rand(T + 1, N, 8).double())
