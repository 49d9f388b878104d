"""`gradient_density` counts what the backward pass will use, and disturbs nothing."""

import copy
import io
from contextlib import nullcontext
from functools import partial
from types import MethodType

import pytest
import torch
from spikingjelly.activation_based import functional, layer, memopt, neuron, surrogate
from spikingjelly.activation_based.base import named_memories
from torch.utils.checkpoint import checkpoint

from sj_ext.neuron import MaskedIFNode, MaskedLIFNode, MaskedParametricLIFNode
from sj_ext.surrogate import (
    BernoulliMask,
    ConstantMask,
    GradientDensity,
    LayerDensity,
    MaskedSurrogate,
    NoiseMask,
    WindowMask,
    gradient_density,
)


def network(function):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        layer.Linear(6, 40), neuron.LIFNode(surrogate_function=function)
    )
    functional.set_step_mode(net, "m")
    return net


def test_the_share_is_that_of_the_derivatives_counted_by_hand():
    x = torch.randn(200)
    node = neuron.IFNode(surrogate_function=surrogate.PiecewiseQuadratic(alpha=2.0))
    with gradient_density(torch.nn.Sequential(node)) as measured:
        spikes = node(x)
    expected = ((x - 1.0).abs() < 0.5).double().mean().item()
    assert measured.total.density == pytest.approx(expected)
    assert measured.total.firing_rate == pytest.approx(spikes.mean().item())
    assert measured.layers.keys() == {"0"}


def test_masking_halves_the_density_of_a_base_that_never_vanishes():
    net = network(MaskedSurrogate("ATan", BernoulliMask(0.5)))
    with gradient_density(net) as measured:
        net(torch.randn(10, 50, 6))
    assert measured.total.elements == 10 * 50 * 40
    assert measured.total.density == pytest.approx(0.5, abs=0.02)


def test_the_mask_that_is_measured_is_the_one_that_backward_uses():
    torch.manual_seed(5)
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
    net = torch.nn.Sequential(neuron.IFNode(surrogate_function=masked))
    x = torch.rand(100, requires_grad=True)
    with gradient_density(net) as measured:
        (gradient,) = torch.autograd.grad(net(x).sum(), x)
    assert measured.total.nonzero == int((gradient != 0).sum())


def masked(rule=None):
    return MaskedSurrogate("ATan", rule or BernoulliMask(0.5))


NODES = {
    "host": lambda: neuron.LIFNode(surrogate_function=surrogate.ATan()),
    "host, masked surrogate": lambda: neuron.LIFNode(surrogate_function=masked()),
    "host, draw shared over time": lambda: neuron.LIFNode(
        surrogate_function=masked(BernoulliMask(0.5, shared=("time",)))
    ),
    "host, simple": lambda: neuron.SimpleLIFNode(
        2.0, True, surrogate_function=masked()
    ),
    "host, with batch norm": lambda: neuron.MPBNLIFNode(
        surrogate_function=masked(), mpbn=True, out_features=16
    ),
    "torch": lambda: MaskedLIFNode(surrogate_function=masked(), backend="torch"),
    "cpu": lambda: MaskedLIFNode(surrogate_function=masked(), backend="cpu"),
    "cpu, w": lambda: MaskedParametricLIFNode(
        surrogate_function=masked(), backend="cpu"
    ),
    "cpu, window": lambda: MaskedIFNode(
        surrogate_function=masked(WindowMask(0.3)), backend="cpu"
    ),
}
every_node = pytest.mark.parametrize("kind", NODES)


def two_layers(kind, step_mode="m"):
    torch.manual_seed(0)
    make = NODES[kind]
    net = torch.nn.Sequential(
        layer.Linear(6, 16), make(), layer.Linear(16, 16), make(), layer.Dropout(0.5)
    )
    functional.set_step_mode(net, step_mode)
    for module in net.modules():
        if isinstance(module, MaskedLIFNode):
            assert module.backend in ("torch", "cpu")
    return net


def forward(net, x_seq):
    if net[1].step_mode == "m":
        return net(x_seq)
    return torch.stack([net(x) for x in x_seq])


@pytest.mark.parametrize("step_mode", ["s", "m"])
@every_node
def test_a_measured_pass_is_bit_for_bit_the_one_that_nobody_measures(kind, step_mode):
    x_seq = 2 * torch.randn(5, 8, 6)

    def run(block):
        net = two_layers(kind, step_mode)
        torch.manual_seed(9)
        found = []
        with block(net):
            for _ in range(2):
                # The states of the first pass are those that the second begins with.
                out = forward(net, x_seq)
                found.append(out)
            states = [value for _, value in named_memories(net)]
        gradients = torch.autograd.grad(found[0].sum() + out.sum(), net.parameters())
        last = (getattr(net[1], "backend_in_use", None), torch.get_rng_state())
        return [*found, *gradients, *net.buffers(), last[1], *states], last[0]

    (plain, plain_backend), (measured, backend) = (
        run(nullcontext),
        run(gradient_density),
    )
    assert backend == plain_backend
    assert len(plain) == len(measured)
    for a, b in zip(plain, measured, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("layout", ["plain", "channels last"])
@every_node
def test_the_mask_that_is_measured_is_that_of_the_backward_pass(kind, layout):
    x_seq = torch.rand(4, 3, 16, 5, 5)
    if layout == "channels last":
        x_seq = x_seq.movedim(2, -1).contiguous().movedim(-1, 2)
    node = NODES[kind]()
    functional.set_step_mode(node, "m")
    x_seq.requires_grad_()
    with gradient_density(torch.nn.Sequential(node)) as measured:
        spikes = node(x_seq)
    by_x = 1.0 if isinstance(node, neuron.IFNode) else 0.5
    for t, step in enumerate(measured.steps["0"]):
        (gradient,) = torch.autograd.grad(spikes[t].sum(), x_seq, retain_graph=True)
        assert step.spikes == spikes[t].sum()
        if kind != "host, with batch norm":  # there all samples depend on each other
            assert step.nonzero == int((gradient[t] != 0).sum())
            expected = gradient[t].abs().sum(dtype=torch.float64).item() / by_x
            assert step.kept == pytest.approx(expected, rel=1e-5)
    assert len(measured.steps["0"]) == 4


CHECKPOINTS = {
    "none": lambda net: net,
    "non-reentrant": lambda net: partial(checkpoint, net, use_reentrant=False),
    "reentrant": lambda net: partial(checkpoint, net, use_reentrant=True),
    "host": memopt.checkpoint_module,
    "host, layer by layer": lambda net: torch.nn.Sequential(
        *(memopt.checkpoint_module(one) for one in net)
    ),
}


@pytest.mark.parametrize("backward", ["inside", "outside"])
@pytest.mark.parametrize("checkpointing", CHECKPOINTS)
@every_node
def test_activation_checkpointing_is_measured_once(kind, checkpointing, backward):
    x_seq = 2 * torch.randn(5, 8, 6)

    def run(checkpointing, measure=True):
        net = two_layers(kind)
        module = CHECKPOINTS[checkpointing](net)
        torch.manual_seed(9)
        leaf = x_seq.clone().requires_grad_()
        with gradient_density(net) if measure else nullcontext() as measured:
            loss = module(leaf).sum()
            functional.reset_net(net)
            if backward == "inside":
                loss.backward()
        if backward == "outside":
            loss.backward()
        gradients = [leaf.grad, *(p.grad for p in net.parameters())]
        return gradients, torch.get_rng_state(), measured

    plain, measured = run(checkpointing, measure=False), run(checkpointing)
    for a, b in zip(plain[0], measured[0], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(plain[1], measured[1])
    steps = run("none")[2].steps
    assert measured[2].steps == steps
    assert [one.elements for one in steps["1"]] == [8 * 16] * 5


def test_measuring_leaves_the_network_as_it_was():
    net = two_layers("cpu")
    before = [dict(vars(module)) for module in net.modules()]
    with gradient_density(net), gradient_density(net) as inner:
        copied = copy.deepcopy(net)
        net(torch.randn(5, 8, 6))
        copied(torch.randn(5, 8, 6))
        functional.reset_net(copied)
        assert isinstance(net[1].v, torch.Tensor)
    functional.reset_net(net)
    after = [dict(vars(module)) for module in net.modules()]
    for one in (*before, *after):
        one.pop("backend_in_use", None)
        one.pop("_sj_reset_modules", None)
    assert [one.keys() for one in before] == [one.keys() for one in after]
    assert inner.total.elements > 0


class KeepsStates(torch.nn.Module):
    """A neuron of one's own that writes its state in place, wherever it keeps it."""

    def __init__(self, place):
        super().__init__()
        self.surrogate_function = masked()
        self.generator = torch.Generator().manual_seed(0)
        v = torch.zeros(8, 6)
        self.place = {"attribute": v, "nested": {"v": [(v,)]}, "twice": [v, v]}[place]

    def state(self):
        if isinstance(self.place, torch.Tensor):
            return self.place
        return self.place[0] if isinstance(self.place, list) else self.place["v"][0][0]

    def forward(self, x):
        v = self.state()
        with torch.no_grad():
            v.mul_(0.5).add_(torch.rand(x.shape, generator=self.generator))
        spikes = self.surrogate_function(v - 1.0 + x)
        with torch.no_grad():
            (self.place[1] if isinstance(self.place, list) else v).mul_(1 - spikes)
        return spikes


class ChargesInPlace(neuron.SimpleIFNode):
    def __init__(self, place):
        super().__init__(surrogate_function=masked())

    def neuronal_charge(self, x):
        self.v += x


@pytest.mark.parametrize("place", ["attribute", "nested", "twice", "memory"])
def test_a_state_that_is_written_in_place_is_left_to_the_pass_itself(place):
    def run(block):
        torch.manual_seed(2)
        node = (ChargesInPlace if place == "memory" else KeepsStates)(place)
        with block(node) as measured:
            spikes = [node(torch.randn(8, 6)) for _ in range(4)]
        return torch.stack(spikes), measured

    plain, (spikes, measured) = run(nullcontext)[0], run(gradient_density)
    assert torch.equal(plain, spikes)
    assert [s.spikes for s in measured.steps[""]] == spikes.sum((1, 2)).tolist()


class InChunks(MaskedLIFNode):
    def multi_step_forward(self, x_seq):
        run = super().multi_step_forward
        return torch.cat([run(part) for part in x_seq.chunk(2)])


class Flattened(MaskedLIFNode):
    def multi_step_forward(self, x_seq):
        return super().multi_step_forward(x_seq.mT.flatten(2)).view_as(x_seq.mT).mT


@pytest.mark.parametrize("call", ["module", "keyword", "functional"])
@pytest.mark.parametrize("cls", [MaskedLIFNode, InChunks, Flattened])
@pytest.mark.parametrize("rule", [BernoulliMask(0.5), WindowMask(0.3)])
def test_a_fused_node_is_measured_however_it_is_called(cls, rule, call):
    node = cls(surrogate_function=masked(rule), step_mode="m", backend="cpu")
    x_seq = torch.rand(4, 3, 5, 6, requires_grad=True)
    with gradient_density(torch.nn.Sequential(node)) as measured:
        if call == "functional":
            v = (torch.zeros(3, 5, 6),)
            (spikes,), _ = node.multi_step_functional_forward((x_seq,), v)
        else:
            spikes = node(x_seq) if call == "module" else node(x_seq=x_seq)
    assert node.backend_in_use == "cpu"
    assert [step.elements for step in measured.steps["0"]] == [90] * 4
    for t, step in enumerate(measured.steps["0"]):
        (gradient,) = torch.autograd.grad(spikes[t].sum(), x_seq, retain_graph=True)
        assert step.nonzero == int((gradient[t] != 0).sum())


def test_a_single_functional_step_is_measured():
    node = MaskedLIFNode(surrogate_function=masked())
    with gradient_density(torch.nn.Sequential(node)) as measured:
        node.single_step_functional_forward((torch.rand(3, 5),), (torch.zeros(3, 5),))
    assert [step.elements for step in measured.steps["0"]] == [15]


class PlainModule(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = 2.0
        self.base = surrogate.ATan()

    def forward(self, x):
        return self.base(x)


class ReadsAlpha(neuron.IFNode):
    def single_step_forward(self, x):
        return super().single_step_forward(x * self.surrogate_function.alpha)


@pytest.mark.parametrize("make", [PlainModule, surrogate.ATan])
def test_a_surrogate_of_any_kind_shows_its_attributes_while_it_is_measured(make):
    node = ReadsAlpha()
    node.surrogate_function = make()
    with gradient_density(torch.nn.Sequential(node)) as measured:
        node(torch.rand(3, 5))
    assert measured.total.elements == 15


def saved_and_loaded(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved_and_loaded])
def test_a_copy_made_while_measuring_is_plain_and_is_not_counted(copied):
    net = two_layers("cpu")
    net[1].forward = net[1].multi_step_forward
    before = [set(vars(module)) for module in net.modules()]
    with gradient_density(net), gradient_density(net) as inner:
        other = copied(net)
        other(torch.randn(5, 8, 6))
    assert inner.total.elements == 0
    assert other[1].forward.__self__ is other[1]
    for module, names in zip(other.modules(), before, strict=True):
        assert set(vars(module)) - {"backend_in_use"} == names - {"backend_in_use"}


def test_what_is_assigned_to_a_node_is_run_and_measured():
    node = neuron.IFNode(surrogate_function=surrogate.ATan())

    def doubled(self, x):
        return neuron.IFNode.single_step_forward(self, 2 * x)

    node.single_step_forward = MethodType(doubled, node)
    with gradient_density(torch.nn.Sequential(node)) as measured:
        spikes = node(torch.full((3, 5), 0.6))
    assert spikes.sum() == 15
    assert measured.total.elements == 15


def test_in_inference_mode_it_measures_as_elsewhere():
    x_seq = torch.randn(5, 8, 6)
    totals = []
    for mode in (nullcontext, torch.inference_mode):
        net = two_layers("cpu")
        torch.manual_seed(9)
        with mode(), gradient_density(net) as measured:
            net(x_seq)
        totals.append(measured.steps)
    assert totals[0] == totals[1]


def test_a_compiled_network_runs_uncompiled_while_it_is_measured():
    net = two_layers("cpu")
    compiled = torch.compile(net, backend="aot_eager")
    x_seq = torch.randn(5, 8, 6)
    compiled(x_seq)
    functional.reset_net(net)
    with gradient_density(net) as measured:
        compiled(x_seq)
    assert measured.total.elements == 2 * 5 * 8 * 16


@pytest.mark.parametrize(
    ("rule", "magnitude", "density"),
    [
        (BernoulliMask(0.3), 0.7, 0.7),
        (BernoulliMask(0.3, rescale=True), 1.0, 0.7),
        (ConstantMask(0.7), 0.7, 1.0),
        (NoiseMask(0.3), 0.7, 1.0),
    ],
)
def test_magnitude_and_density_tell_masks_and_controls_apart(rule, magnitude, density):
    net = network(MaskedSurrogate("ATan", rule))
    with gradient_density(net) as measured:
        net(torch.randn(10, 100, 6))
    assert measured.total.magnitude == pytest.approx(magnitude, abs=0.02)
    assert measured.total.density == pytest.approx(density, abs=0.02)


def test_the_sums_are_those_of_the_definition():
    torch.manual_seed(5)
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5, rescale=True))
    net = torch.nn.Sequential(neuron.IFNode(surrogate_function=masked))
    x = torch.rand(100, dtype=torch.float64, requires_grad=True)
    with gradient_density(net) as measured:
        (gradient,) = torch.autograd.grad(net(x).sum(), x)
    (whole,) = torch.autograd.grad(masked.base(x - 1).sum(), x)
    total = measured.total
    assert total.kept == pytest.approx(gradient.abs().sum().item())
    assert total.whole == pytest.approx(whole.abs().sum().item())


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_every_step_has_its_own_sums_pass_after_pass(step_mode):
    torch.manual_seed(0)
    x_seq = torch.rand(4, 3, 50)
    node = neuron.IFNode(
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=2.0), step_mode=step_mode
    )
    net = torch.nn.Sequential(node)
    with gradient_density(net) as measured:
        for _ in range(2):
            if step_mode == "m":
                spikes = net(x_seq)
            else:
                spikes = torch.stack([net(x) for x in x_seq])
            functional.reset_net(net)
    steps = measured.steps["0"]
    assert [step.elements for step in steps] == [300] * 4
    assert [step.spikes for step in steps] == (2 * spikes.sum((1, 2))).tolist()
    near = 2 * ((x_seq[0] - 1).abs() < 0.5).sum().item()
    assert steps[0].nonzero == near
    assert measured.layers["0"] == sum(steps, LayerDensity())
    assert "reset" not in vars(node)
    functional.reset_net(net)
    assert node.v == 0.0


def test_a_neuron_that_takes_the_whole_sequence_at_once_is_split_into_steps():
    node = neuron.PSN(T=4, surrogate_function=surrogate.ATan())
    x_seq = torch.randn(4, 3, 50)
    with gradient_density(torch.nn.Sequential(node)) as measured:
        spikes = node(x_seq)
    steps = measured.steps["0"]
    assert [step.elements for step in steps] == [150] * 4
    assert [step.spikes for step in steps] == spikes.sum((1, 2)).tolist()


def test_a_sliding_neuron_of_all_steps_is_measured():
    node = neuron.SlidingPSN(k=2, step_mode="m", surrogate_function=surrogate.ATan())
    x_seq = torch.randn(4, 3, 50)
    with gradient_density(torch.nn.Sequential(node)) as measured:
        spikes = node(x_seq)
    assert measured.total.elements == x_seq.numel()
    assert measured.total.spikes == spikes.sum()


def test_weight_gradients_are_counted_after_backward():
    net = network(surrogate.PiecewiseQuadratic(alpha=2.0))
    x = torch.randn(5, 3, 6)
    x[..., :2] = 0
    with gradient_density(net) as measured:
        out = net(x)
    with pytest.raises(ValueError, match="Expected `net` to have gradients"):
        measured.update_weights(net)
    out.sum().backward()
    measured.update_weights(net)
    expected = int((net[0].weight.grad != 0).sum())
    assert 0 < expected <= 40 * 4
    assert measured.weights["0.weight"].nonzero == expected
    assert measured.weights["0.weight"].density == expected / 240
    assert measured.weight_total.elements == 240 + 40


def test_a_measurement_per_batch_merges_into_that_of_all_batches():
    net = network(MaskedSurrogate("ATan", BernoulliMask(0.5)))
    batches = [torch.randn(5, 3, 6), torch.randn(7, 2, 6)]
    merged = GradientDensity()
    torch.manual_seed(1)
    with gradient_density(net) as whole:
        for x in batches:
            net(x).sum().backward()
            whole.update_weights(net)
            functional.reset_net(net)
            net.zero_grad()
    torch.manual_seed(1)
    for x in batches:
        with gradient_density(net) as part:
            net(x).sum().backward()
            part.update_weights(net)
            functional.reset_net(net)
            net.zero_grad()
        merged.merge(part)
    assert merged.steps == whole.steps
    assert merged.weights == whole.weights
    assert len(whole.steps["1"]) == 7
    loaded = GradientDensity()
    loaded.load_state_dict(whole.state_dict())
    assert loaded.steps == whole.steps
    whole.reset()
    assert whole.total == LayerDensity()
    assert whole.layers.keys() == {"1"}


PROCESS = """
from sj_ext.surrogate import GradientDensity
measured = GradientDensity(["a"])
for t in range(rank + 1):
    ones = torch.ones(4)
    measured.update("a", t, ones, ones * rank, ones * 2)
if rank:
    measured.update("b", 0, torch.ones(3), torch.ones(3), torch.ones(3))
measured.all_reduce()
a = measured.steps["a"]
assert [s.elements for s in a] == [8, 4], a
assert [s.nonzero for s in a] == [4, 4], a
assert [s.whole for s in a] == [16.0, 8.0], a
assert measured.layers["b"].elements == 3
"""


def test_two_processes_add_up_their_sums(in_two_processes):
    in_two_processes(PROCESS)


def test_in_one_process_there_is_nothing_to_add():
    measured = GradientDensity()
    measured.update("a", 0, torch.ones(2), torch.ones(2), torch.ones(2))
    measured.all_reduce()
    assert measured.total.elements == 2


def test_a_network_without_spiking_neurons_is_refused():
    with (
        pytest.raises(ValueError, match="Expected `net` to have neurons"),
        gradient_density(torch.nn.Linear(2, 2)),
    ):
        pass
