"""A masked neuron is the host's in all but the derivative, on whichever backend."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.base import to_functional_forward
from torch.utils.checkpoint import checkpoint

from sj_ext import neuron as masked
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate, dense

PAIRS = [
    (masked.MaskedIFNode, neuron.IFNode),
    (masked.MaskedLIFNode, neuron.LIFNode),
    (masked.MaskedParametricLIFNode, neuron.ParametricLIFNode),
    (masked.MaskedQIFNode, neuron.QIFNode),
    (masked.MaskedEIFNode, neuron.EIFNode),
    (masked.MaskedIzhikevichNode, neuron.IzhikevichNode),
]
FUSED = PAIRS[:3]


def triangle(p=0.5):
    return MaskedSurrogate("PiecewiseQuadratic", BernoulliMask(p), {"alpha": 2.0})


def run(node, x, cotangent=None):
    leaf = x.clone().requires_grad_()
    spikes = node(leaf)
    weight = torch.ones_like(spikes) if cotangent is None else cotangent
    inputs = [leaf, *node.parameters()]
    found = spikes, *torch.autograd.grad(spikes, inputs, weight)
    functional.reset_net(node)
    return found


@pytest.mark.parametrize("backend", ["auto", "torch", "cpu"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_without_dropping_it_is_the_hosts_neuron(
    ours, theirs, v_reset, detach_reset, step_mode, backend
):
    if backend == "cpu" and (ours, theirs) not in FUSED:
        pytest.skip("the fused CPU kernel is for IF, LIF and ParametricLIF")
    settings = {
        "v_reset": v_reset,
        "detach_reset": detach_reset,
        "step_mode": step_mode,
    }
    if theirs in (neuron.QIFNode, neuron.EIFNode) and v_reset is not None:
        settings["v_reset"] = -0.1
    node = ours(surrogate_function=triangle(0.0), backend=backend, **settings)
    plain = theirs(surrogate_function=surrogate.PiecewiseQuadratic(2.0), **settings)
    x = torch.randn(7, 3, 11)
    x = x if step_mode == "m" else x[0]
    cotangent = torch.randn_like(x)
    for a, b in zip(run(node, x, cotangent), run(plain, x, cotangent), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize(("ours", "theirs"), FUSED)
def test_dropping_takes_gradient_away_and_leaves_spikes(ours, theirs, backend):
    x = torch.rand(6, 4, 500) + 0.5
    node = ours(
        surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.9)),
        step_mode="m",
        backend=backend,
        detach_reset=True,
    )
    plain = theirs(
        surrogate_function=surrogate.ATan(), step_mode="m", detach_reset=True
    )
    spikes, gradient, *_ = run(node, x)
    reference, whole, *_ = run(plain, x)
    assert torch.equal(spikes, reference)
    assert node.backend_in_use == backend
    assert (whole[-1] != 0).all()
    assert 0.05 < (gradient[-1] != 0).float().mean() < 0.15


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_state_dicts_fit_both_ways(ours, theirs):
    node, plain = ours(surrogate_function=triangle()), theirs()
    assert node.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(node.state_dict())
    node.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_states_carry_on_from_one_call_to_the_next(backend):
    x = torch.randn(8, 3, 5)
    torch.manual_seed(0)
    whole = masked.MaskedLIFNode(
        surrogate_function=triangle(0.0), step_mode="m", backend=backend
    )
    halves = copy.deepcopy(whole)
    expected = whole(x)
    assert torch.equal(expected, torch.cat([halves(x[:3]), halves(x[3:])]))
    torch.testing.assert_close(whole.v, halves.v)
    functional.reset_net(whole)
    assert whole.v == 0.0


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_stored_potentials_are_the_hosts_and_pass_gradients(backend):
    x = torch.randn(6, 3, 5)
    node = masked.MaskedLIFNode(
        surrogate_function=triangle(0.0),
        step_mode="m",
        store_v_seq=True,
        backend=backend,
    )
    plain = neuron.LIFNode(
        surrogate_function=surrogate.PiecewiseQuadratic(2.0),
        step_mode="m",
        store_v_seq=True,
    )
    found = []
    for module in (node, plain):
        leaf = x.clone().requires_grad_()
        module(leaf)
        found.append(
            (module.v_seq, torch.autograd.grad(module.v_seq.square().sum(), leaf)[0])
        )
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_potentials_are_stored_where_the_host_stores_them(ours, theirs, step_mode):
    x = torch.rand(3, 2, 5)
    stored = []
    for node in (
        ours(surrogate_function=triangle(0.0), store_v_seq=True),
        theirs(surrogate_function=surrogate.PiecewiseQuadratic(2.0), store_v_seq=True),
    ):
        functional.set_step_mode(node, step_mode)
        for one in x if step_mode == "s" else [x]:
            node(one)
        stored.append([node.v_seq, *node._memories.values()])
    for a, b in zip(*stored, strict=True):
        if b is None:
            assert a is None
        else:
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (4, 0, 5), (4, 1), (4,)])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_shapes_at_the_edge_are_the_hosts(ours, theirs, shape, backend):
    x = 2 * torch.rand(shape)
    node = ours(surrogate_function=triangle(0.0), step_mode="m", backend=backend)
    plain = theirs(surrogate_function=surrogate.PiecewiseQuadratic(2.0), step_mode="m")
    for a, b in zip(run(node, x), run(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize(
    "v",
    [
        0.3,
        torch.full((3, 5), 0.3),
        torch.full((3, 5), 0.3, dtype=torch.float64),
        torch.full((1, 5), 0.3).expand(3, 5),
        torch.tensor(0.3),
        torch.full((2, 5), 0.3),
    ],
    ids=["number", "tensor", "double", "expanded", "scalar", "other shape"],
)
def test_a_potential_set_by_hand_is_taken_as_the_host_takes_it(v, backend):
    x = 2 * torch.rand(4, 3, 5)
    node = masked.MaskedLIFNode(
        surrogate_function=triangle(0.0), step_mode="m", backend=backend
    )
    plain = neuron.LIFNode(
        surrogate_function=surrogate.PiecewiseQuadratic(2.0), step_mode="m"
    )
    node.v = plain.v = v
    for a, b in zip(run(node, x), run(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_a_potential_may_be_set_to_an_integer(ours, theirs):
    x = 2 * torch.rand(4, 3, 5)
    node = ours(surrogate_function=triangle(0.0), step_mode="m")
    node.v = 0.0
    expected = node(x)
    functional.reset_net(node)
    node.v = 0
    assert torch.equal(node(x), expected)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_potential_set_by_hand_receives_its_gradient(backend):
    v = torch.full((3, 5), 0.9, requires_grad=True)
    node = masked.MaskedLIFNode(
        surrogate_function=triangle(0.0), step_mode="m", backend=backend
    )
    node.v = v
    node(torch.full((2, 3, 5), 1.1)).sum().backward()
    assert (v.grad != 0).all()


@pytest.mark.parametrize(
    ("v_threshold", "backend"), [(0.4, "cpu"), (torch.tensor(0.4), "torch")]
)
def test_a_threshold_changed_later_counts(v_threshold, backend):
    x = torch.rand(4, 3, 50)
    node = masked.MaskedLIFNode(surrogate_function=triangle(0.0), step_mode="m")
    plain = neuron.LIFNode(
        surrogate_function=surrogate.PiecewiseQuadratic(2.0), step_mode="m"
    )
    before, _ = run(node, x)
    node.v_threshold = plain.v_threshold = v_threshold
    after, gradient = run(node, x)
    assert node.backend_in_use == backend
    expected, expected_gradient = run(plain, x)
    torch.testing.assert_close(after, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    assert not torch.equal(before, after)


def test_states_follow_the_module_to_another_type():
    node = masked.MaskedLIFNode(surrogate_function=triangle(), step_mode="m")
    x = torch.rand(3, 2, 5)
    node(x)
    state = node.v.clone()
    node.double()
    assert torch.equal(node.v, state.double())
    assert node(x.double()).dtype == node.v.dtype == torch.float64


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_detaching_cuts_the_graph_and_keeps_the_states(backend):
    node = masked.MaskedLIFNode(
        surrogate_function=triangle(), step_mode="m", store_v_seq=True, backend=backend
    )
    node(torch.rand(3, 2, 5, requires_grad=True))
    assert node.v.requires_grad
    # A state that is a view of all steps, as the host's kernels leave it.
    node.v = node.v_seq[-1]
    state = node.v.clone()
    functional.detach_net(node)
    assert torch.equal(node.v, state)
    assert not node.v.requires_grad
    assert not node.v_seq.requires_grad


@pytest.mark.skipif(
    not hasattr(functional, "set_backend"), reason="this release picks by itself"
)
def test_a_backend_set_by_the_host_is_kept_and_refused_when_it_cannot_run():
    net = torch.nn.Sequential(
        masked.MaskedLIFNode(surrogate_function=triangle()),
    )
    functional.set_step_mode(net, "m")
    functional.set_backend(net, "cupy")
    assert net[0].backend == "cupy"
    with pytest.raises(ValueError, match="cannot run on backend='cupy': needs a CUDA"):
        net(torch.rand(3, 2, 5))
    functional.set_backend(net, "torch")
    net(torch.rand(3, 2, 5))
    assert net[0].backend_in_use == "torch"


def test_functional_forward_leaves_the_memory_alone():
    node = masked.MaskedLIFNode(surrogate_function=triangle(0.0), step_mode="m")
    x = torch.randn(4, 3, 5)
    forward = to_functional_forward(node)
    (spikes,), states = forward((x,), (0.0,))
    assert node.v == 0.0
    assert torch.equal(spikes, node(x))
    torch.testing.assert_close(states[0], node.v)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_activation_checkpointing_sees_the_same_mask(backend):
    node = masked.MaskedLIFNode(
        surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.5)),
        step_mode="m",
        backend=backend,
    )
    block = torch.nn.Sequential(node, torch.nn.Dropout(0.5))
    x = torch.randn(5, 3, 40)

    def gradient(forward):
        torch.manual_seed(3)
        leaf = x.clone().requires_grad_()
        out = forward(leaf)
        functional.reset_net(node)
        out.sum().backward()
        functional.reset_net(node)
        return leaf.grad

    again = gradient(lambda y: checkpoint(block, y, use_reentrant=False))
    assert torch.equal(gradient(block), again)


def test_in_evaluation_the_host_runs_with_the_plain_base():
    node = masked.MaskedLIFNode(surrogate_function=triangle(0.9), step_mode="m")
    x = torch.randn(5, 3, 40)
    net = torch.nn.Sequential(node)
    plain = torch.nn.Sequential(
        neuron.LIFNode(surrogate_function=surrogate.PiecewiseQuadratic(2.0))
    )
    functional.set_step_mode(plain, "m")
    with dense(net), dense(plain):
        for a, b in zip(run(net, x), run(plain, x), strict=True):
            torch.testing.assert_close(a, b)
    assert node.backend_in_use == "host"


def test_auto_says_once_why_a_case_is_not_fused(caplog):
    caplog.set_level("INFO", logger="sj_ext.neuron")
    masked.masked._logged.clear()
    for _ in range(2):
        node = masked.MaskedLIFNode(
            surrogate_function=MaskedSurrogate("S2NN", BernoulliMask(0.5)),
            step_mode="m",
        )
        node(torch.randn(4, 2, 3))
        assert node.backend_in_use == "torch"
    assert len(caplog.messages) == 1
    assert "runs on torch, not on cpu" in caplog.messages[0]
    assert "S2NN" in caplog.messages[0]


def test_a_pinned_backend_that_cannot_run_raises():
    node = masked.MaskedQIFNode(
        surrogate_function=triangle(), step_mode="m", backend="cpu"
    )
    with pytest.raises(ValueError, match="MaskedQIFNode cannot run on backend='cpu'"):
        node(torch.randn(4, 2, 3))


@pytest.mark.parametrize("kernel", ["triton", "cupy", "cuda"])
def test_a_kernel_of_the_host_needs_a_gpu_and_says_so(kernel):
    node = masked.MaskedLIFNode(
        surrogate_function=triangle(), step_mode="m", backend=kernel
    )
    with pytest.raises(ValueError, match=f"{kernel}.*(needs a CUDA tensor|has no)"):
        node(torch.randn(4, 2, 3))


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", ["triton", "cupy", "cuda"])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_on_a_gpu_the_hosts_kernels_give_the_definitions_values(ours, theirs, kernel):
    x = torch.rand(7, 3, 700, device="cuda")
    pinned = ours(
        surrogate_function=triangle(0.0), step_mode="m", backend=kernel
    ).cuda()
    plain = theirs(
        surrogate_function=surrogate.PiecewiseQuadratic(2.0), step_mode="m"
    ).cuda()
    try:
        found = run(pinned, x)
    except ValueError as error:
        pytest.skip(str(error))
    for a, b in zip(found, run(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_half_precision_input_keeps_its_state_in_float32(dtype, backend):
    x = torch.rand(6, 3, 5).to(dtype)
    node = masked.MaskedLIFNode(
        surrogate_function=triangle(0.0), step_mode="m", backend=backend
    )
    wide = copy.deepcopy(node)
    spikes, again = node(x), node(x)
    assert spikes.dtype == dtype
    assert node.v.dtype == torch.float32
    expected = torch.cat([wide(x.float()), wide(x.float())])
    assert torch.equal(torch.cat([spikes, again]).float(), expected)
    assert node.backend_in_use == backend


def test_under_autocast_fusion_is_not_lost():
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        masked.MaskedLIFNode(surrogate_function=triangle(), step_mode="m"),
    )
    with torch.autocast("cpu", torch.bfloat16):
        spikes = net(torch.randn(4, 3, 6))
    spikes.float().sum().backward()
    assert net[1].backend_in_use == "cpu"
    assert net[0].weight.grad.dtype == torch.float32


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_manual_seed_alone_reproduces_a_pass_and_layers_draw_apart(backend):
    torch.manual_seed(0)
    x = torch.rand(5, 4, 200)
    nodes = [
        masked.MaskedLIFNode(
            surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.5)),
            step_mode="m",
            backend=backend,
        )
        for _ in range(2)
    ]

    def gradients():
        torch.manual_seed(5)
        return [run(node, x)[1] for node in nodes]

    first, again = gradients(), gradients()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])


def test_a_draw_shared_over_time_is_new_in_every_pass():
    node = masked.MaskedLIFNode(
        surrogate_function=MaskedSurrogate(
            "ATan", BernoulliMask(0.5, shared=("time",))
        ),
        step_mode="m",
        detach_reset=True,
    )
    x = torch.rand(3, 2, 300, requires_grad=True)

    def kept():
        (gradient,) = torch.autograd.grad(node(x)[-1].sum(), x)
        node.detach()  # and no reset: a draw that is kept would show
        return gradient[-1] != 0

    first, second = kept(), kept()
    assert not torch.equal(first, second)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="Expected `backend` to be one of auto, "):
        masked.MaskedLIFNode(surrogate_function=triangle(), backend="cuda9")


def test_arguments_may_be_given_by_position_as_to_the_host():
    surrogate_function = triangle()
    node = masked.MaskedLIFNode(3.0, False, 0.7, None, surrogate_function, True, "m")
    assert (node.tau, node.v_threshold, node.detach_reset) == (3.0, 0.7, True)
    assert node.surrogate_function is surrogate_function


def test_a_subclass_of_the_surrogate_is_never_bypassed():
    class Nothing(MaskedSurrogate):
        def multiplier(self, x, sequence=False):
            return torch.zeros((), dtype=torch.bool)

    node = masked.MaskedLIFNode(
        surrogate_function=Nothing("ATan", BernoulliMask(0.5)), step_mode="m"
    )
    _, gradient = run(node, torch.rand(4, 3, 5))
    assert node.backend_in_use == "torch"
    assert not gradient.any()


def test_a_subclass_with_equations_of_its_own_is_run_by_them():
    class Silent(masked.MaskedLIFNode):
        def multi_step_functional_forward(self, inputs, states, **kwargs):
            return (torch.zeros_like(inputs[0]),), states

    node = Silent(surrogate_function=triangle(), step_mode="m")
    assert not node(torch.rand(4, 3, 5) + 5).any()


def test_equations_that_no_pass_calls_are_refused_also_in_a_mixin():
    class Leaky:
        def neuronal_charge(self, x):
            self.v = x

    with pytest.raises(TypeError, match="got `neuronal_charge`, which no pass"):
        type("Mixed", (Leaky, masked.MaskedLIFNode), {})


class Integrates(masked.MaskedLIFNode):
    def neuronal_charge(self, x, v):
        return v + x

    def single_step_functional_forward(self, inputs, states, **kwargs):
        h = self.neuronal_charge(*inputs, *states)
        spikes = self.surrogate_function(h - self.v_threshold)
        return (spikes,), (h * (1 - spikes),)


def test_an_equation_that_a_parents_pass_calls_can_be_changed():
    class Doubles(Integrates):
        def neuronal_charge(self, x, v):
            return v + 2 * x

    node = Doubles(surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.5)))
    functional.set_step_mode(node, "m")
    assert node(torch.full((3, 2, 4), 0.6)).mean() == 1.0


def test_a_pinned_backend_refuses_steps_of_a_subclass():
    surrogate_function = MaskedSurrogate("ATan", BernoulliMask(0.5))
    node = Integrates(
        surrogate_function=surrogate_function, step_mode="m", backend="cpu"
    )
    with pytest.raises(ValueError, match="backend='cpu': its `single_step_functional"):
        node(torch.rand(3, 2, 4))


@pytest.mark.parametrize(
    "name", ["single_step_forward", "single_step_functional_forward"]
)
def test_steps_assigned_to_a_node_are_run(name):
    node = masked.MaskedLIFNode(
        surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.5)), step_mode="m"
    )
    plain, steps = getattr(node, name), []

    def counted(*args):
        steps.append(args)
        return plain(*args)

    setattr(node, name, counted)
    node(torch.rand(3, 2, 4))
    assert len(steps) == 3
    assert node.backend_in_use == "torch"


def test_a_plain_surrogate_is_refused():
    with pytest.raises(TypeError, match="to be a MaskedSurrogate, got ATan"):
        masked.MaskedLIFNode(surrogate_function=surrogate.ATan())


def test_channels_last_is_kept():
    x = torch.randn(12, 8, 4, 4).to(memory_format=torch.channels_last)
    node = masked.MaskedLIFNode(surrogate_function=triangle(), step_mode="m")
    spikes = node(x.unflatten(0, (4, 3)))
    assert node.backend_in_use == "cpu"
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_it_shows_its_backend():
    node = masked.MaskedLIFNode(surrogate_function=triangle(), backend="cpu")
    assert "masked backend=cpu" in repr(node)
    assert "tau=2.0" in repr(node)
