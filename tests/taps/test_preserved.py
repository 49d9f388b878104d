"""Nothing is left behind: modes, buffers, states, gradients, random state, hooks."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from sj_ext.surrogate import BernoulliMask, MaskedSurrogate
from sj_ext.taps import preserved, taps
from tests.taps.models import multi_step_net

X = torch.rand(4, 2, 2, 4, 4) * 3
ALL = ("output", "input", "pre_reset", "post_reset", "output_gradient")


def _hooks(net):
    return sum(
        len(hooks)
        for module in net.modules()
        for name, hooks in vars(module).items()
        if name.endswith("_hooks") and hooks
    )


def _found(net):
    """All that must not change, as copies."""
    return copy.deepcopy(
        {
            "modes": [module.training for module in net.modules()],
            "buffers": dict(net.named_buffers()),
            "parameters": {n: p.detach() for n, p in net.named_parameters()},
            "gradients": {n: p.grad for n, p in net.named_parameters()},
            "memories": {
                name: {
                    key: value.detach() if torch.is_tensor(value) else value
                    for key, value in module._memories.items()
                }
                for name, module in net.named_modules()
                if hasattr(module, "_memories")
            },
            "attributes": [sorted(vars(module)) for module in net.modules()],
            "hooks": _hooks(net),
            "random": torch.get_rng_state(),
        }
    )


def _assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            _assert_same(one[key], other[key])
    else:
        assert one == other


@pytest.fixture(params=["fresh", "used"])
def net(request):
    mask = MaskedSurrogate("ATan", BernoulliMask(0.5, shared=("time",)))
    net = multi_step_net(surrogate_function=mask)
    net[3].eval()
    if request.param == "used":
        net(X).sum().backward()
        functional.detach_net(net)
    return net


def test_a_recorded_training_step_leaves_nothing_behind(net):
    before = _found(net)
    with taps(net, record=ALL):
        net(X).sum().backward()
        net.eval()
        net[2].v_seq = X
        functional.reset_net(net)
        net(X)
    _assert_same(before, _found(net))


def test_an_exception_in_a_forward_leaves_nothing_behind(net):
    class Broken(Exception):
        pass

    def fail(*_):
        raise Broken

    before = _found(net)
    handle = net[5].register_forward_hook(fail)
    with pytest.raises(Broken), taps(net, record=ALL):
        net(X)
    handle.remove()
    _assert_same(before, _found(net))


def test_a_pass_after_an_exception_is_recorded_alone(net):
    with taps(net) as record:
        with pytest.raises(RuntimeError):
            net(X[:, :, :1])
        functional.reset_net(net)
        y = net(X)
    assert torch.equal(record.output["6"], y)


def test_an_argument_that_is_refused_leaves_no_hook(net):
    before = _found(net)
    with pytest.raises(ValueError, match="Expected `layers`"), taps(net, "nothing"):
        pass
    _assert_same(before, _found(net))


def test_without_restore_only_hooks_go(net):
    before = _found(net)
    with taps(net, restore=False):
        net(X).sum().backward()
    after = _found(net)
    assert after["hooks"] == before["hooks"]
    assert after["attributes"] == before["attributes"]
    assert not torch.equal(
        before["buffers"]["1.running_mean"], after["buffers"]["1.running_mean"]
    )
    assert torch.is_tensor(net[2].v)


def test_preserved_stands_by_itself(net):
    before = _found(net)
    with preserved(net) as same:
        assert same is net
        net(X).sum().backward()
        net.eval()
        torch.rand(3)
    _assert_same(before, _found(net))


def test_buffers_and_gradients_stay_the_same_tensors():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net(torch.rand(4, 3)).sum().backward()
    buffer, gradient = net[1].running_mean, net[0].weight.grad
    with preserved(net):
        net(torch.rand(4, 3)).sum().backward()
    assert net[1].running_mean is buffer
    assert net[0].weight.grad is gradient


def test_resets_work_as_before_afterwards():
    node = neuron.IFNode(step_mode="m")
    with taps(node):
        node(torch.rand(4, 2, 3))
    assert "reset" not in vars(node)
    node(torch.rand(4, 2, 3))
    functional.reset_net(node)
    assert node.v == 0.0


class _Logging(nn.Module):
    """Keeps all kinds of things as plain attributes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.view = self.fc.weight.detach()
        self.state = torch.zeros(3)
        self.log, self.counts = ["new"], {"calls": [0], "state": torch.ones(2)}
        self.seen = {0}

    def forward(self, x):
        self.state += x.detach().mean(0)
        self.log.append("called")
        self.counts["calls"][0] += 1
        self.counts["state"].mul_(2)
        self.seen.add(len(self.seen))
        return self.fc(x)


def test_what_plain_attributes_hold_is_put_back_into_the_same_objects():
    net = _Logging()
    state, log, calls = net.state, net.log, net.counts["calls"]
    with preserved(net):
        net(torch.rand(4, 3))
        assert len(net.log) == 2
        net.later = net.log
    assert torch.equal(net.state, torch.zeros(3))
    assert (net.log, net.seen) == (["new"], {0})
    assert net.counts["calls"] == [0]
    assert torch.equal(net.counts["state"], torch.ones(2))
    assert net.state is state
    assert net.log is log
    assert net.counts["calls"] is calls
    assert not hasattr(net, "later")


def test_a_view_of_a_parameter_is_left_alone_as_the_parameter_is():
    net = _Logging()
    with preserved(net), torch.no_grad():
        net.fc.weight.fill_(2)
    assert bool((net.view == 2).all())
