"""The fused CPU kernel equals the definition by torch, step by step, mask by mask."""

import math
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron, surrogate
from torch.utils.checkpoint import checkpoint

from sj_ext.neuron import MaskedIFNode, MaskedLIFNode
from sj_ext.neuron.backends import cpu
from sj_ext.neuron.dynamics import Dynamics
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate
from sj_ext.surrogate.constant import ConstantMask
from sj_ext.surrogate.functional import mask_gradient
from sj_ext.surrogate.window import WindowMask

BASES = {
    "Sigmoid": surrogate.Sigmoid(4.0),
    "ATan": surrogate.ATan(2.0),
    "PiecewiseQuadratic": surrogate.PiecewiseQuadratic(2.0),
    "PiecewiseExp": surrogate.PiecewiseExp(1.5),
    "SoftSign": surrogate.SoftSign(2.0),
    "SuperSpike": surrogate.SuperSpike(1.0),
    "Erf": surrogate.Erf(2.0),
}
NEURONS = ("IF", "LIF", "ParametricLIF")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def make_dynamics(
    kind="LIF", v_reset=0.0, detach=False, decay=True, tau=1.7, dtype=torch.float32
):
    return Dynamics(
        kind,
        v_threshold=0.7,
        v_reset=v_reset,
        detach_reset=detach,
        tau=tau if kind == "LIF" else None,
        decay_input=decay,
        w=torch.tensor(0.3, dtype=dtype, requires_grad=True)
        if kind == "ParametricLIF"
        else None,
    )


def naive(x_seq, v, dynamics, base, multiplier, scale):
    """The equations and nothing else: `multiplier(t, x)` is the mask of a step."""
    rest = dynamics.v_reset or 0.0
    spikes, potentials = [], []
    for t, x in enumerate(x_seq):
        share = 1.0 if dynamics.w is None else dynamics.w.sigmoid()
        tau = dynamics.tau or 1.0
        if dynamics.neuron == "IF":
            h = v + x
        elif dynamics.decay_input:
            h = v + (x - (v - rest)) / tau * share
        else:
            h = v - (v - rest) / tau * share + x
        over = h - dynamics.v_threshold
        s = base(mask_gradient(over, multiplier(t, over), scale))
        fired = s.detach() if dynamics.detach_reset else s
        if dynamics.v_reset is None:
            v = h - fired * dynamics.v_threshold
        else:
            v = fired * dynamics.v_reset + (1.0 - fired) * h
        spikes.append(s)
        potentials.append(v)
    return torch.stack(spikes), v, torch.stack(potentials)


def multiplier_of(rule, seed, x_seq):
    if isinstance(rule, BernoulliMask):
        keep = cpu.draw(seed, x_seq.shape, rule.p, x_seq.stride())
        return lambda t, x: keep[t]
    if isinstance(rule, WindowMask):
        return lambda t, x: x.detach().abs() < rule.half_width
    return lambda t, x: torch.ones_like(x, dtype=torch.bool)


def next_seed():
    """The seed that the next call will take."""
    state = torch.get_rng_state()
    seed = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64).item()
    torch.set_rng_state(state)
    return seed


def assert_equals_naive(
    x_seq, v, dynamics, base, rule, store=True, through=("spikes", "v_last", "v_seq")
):
    x_seq, v = x_seq.detach().requires_grad_(), v.detach().requires_grad_()
    masked = MaskedSurrogate(base, rule)
    assert cpu.refuses(x_seq, v, dynamics, masked) is None
    seed = next_seed()
    fused = cpu.multi_step(x_seq, v, dynamics, masked, store)
    expected = naive(
        x_seq, v, dynamics, base, multiplier_of(rule, seed, x_seq), rule.scale
    )
    assert (fused[2] is not None) == store
    wanted = [x_seq, v] + ([] if dynamics.w is None else [dynamics.w])
    names = [n for n in through if store or n != "v_seq"] or ["spikes"]
    results = []
    for outputs in (fused, expected):
        named = dict(zip(("spikes", "v_last", "v_seq"), outputs, strict=True))
        torch.manual_seed(5)
        chosen = [named[name] for name in names]
        cotangents = [torch.randn(o.shape, dtype=o.dtype) for o in chosen]
        results.append(torch.autograd.grad(chosen, wanted, cotangents))
    assert torch.equal(fused[0], expected[0])
    tolerance = TOLERANCE[x_seq.dtype]
    pairs = [*zip(*results, strict=True), (fused[1], expected[1])]
    if store:
        pairs.append((fused[2], expected[2]))
    for ours, theirs in pairs:
        scale = max(theirs.abs().max().item(), 1.0) if theirs.numel() else 1.0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.2])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kind", NEURONS)
def test_values_and_gradients_equal_the_definition(
    kind, base, v_reset, detach, decay, dtype
):
    x_seq = torch.randn(5, 3, 11, dtype=dtype)
    v = 0.3 * torch.randn(3, 11, dtype=dtype)
    dynamics = make_dynamics(kind, v_reset, detach, decay, dtype=dtype)
    assert_equals_naive(x_seq, v, dynamics, BASES[base], BernoulliMask(0.4, True))


@st.composite
def sequences(draw):
    """Inputs of several layouts: steps in order, permuted, apart, inside out."""
    T, *steps = shape = draw(
        st.lists(st.integers(1, 6), min_size=2, max_size=5).map(tuple)
    )
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layout = draw(st.sampled_from(["plain", "permuted", "apart", "inside out"]))
    if layout == "permuted":
        order = draw(st.permutations(range(len(steps))))
        x = torch.randn(T, *(steps[i] for i in order), dtype=dtype)
        back = [order.index(i) + 1 for i in range(len(steps))]
        return x.permute(0, *back)
    if layout == "apart":
        return torch.randn(2 * T, *steps, dtype=dtype)[::2]
    if layout == "inside out":
        return torch.randn(*steps, T, dtype=dtype).movedim(-1, 0)
    return torch.randn(shape, dtype=dtype)


@given(
    x_seq=sequences(),
    kind=st.sampled_from(NEURONS),
    base=st.sampled_from(sorted(BASES)),
    v_reset=st.sampled_from([None, 0.0, 0.1]),
    detach=st.booleans(),
    decay=st.booleans(),
    tau=st.sampled_from([1.3, 2.0, 5.0]),
    store=st.booleans(),
    rule=st.sampled_from(
        [
            BernoulliMask(0.0),
            BernoulliMask(0.5),
            BernoulliMask(0.9, rescale=True),
            WindowMask(0.3),
            ConstantMask(0.25),
        ]
    ),
    through=st.sets(st.sampled_from(["spikes", "v_last", "v_seq"]), min_size=1),
)
def test_any_shape_and_layout_equals_the_definition(
    x_seq, kind, base, v_reset, detach, decay, tau, store, rule, through
):
    dynamics = make_dynamics(kind, v_reset, detach, decay, tau, x_seq.dtype)
    v = 0.3 * torch.randn(x_seq.shape[1:], dtype=x_seq.dtype)
    assert_equals_naive(
        x_seq, v, dynamics, BASES[base], rule, store, tuple(sorted(through))
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", NEURONS)
def test_a_layer_of_many_blocks_equals_the_definition(kind, dtype):
    x_seq = torch.randn(4, 3, 13, 1031, dtype=dtype)
    dynamics = make_dynamics(kind, dtype=dtype)
    v = torch.zeros_like(x_seq[0])
    assert_equals_naive(x_seq, v, dynamics, BASES["Sigmoid"], BernoulliMask(0.5))


def test_a_long_sequence_equals_the_definition():
    x_seq = torch.randn(300, 2, 700, dtype=torch.float64)
    dynamics = make_dynamics("ParametricLIF", dtype=torch.float64)
    v = torch.zeros_like(x_seq[0])
    assert_equals_naive(x_seq, v, dynamics, BASES["ATan"], BernoulliMask(0.5))


def test_derivatives_far_from_the_threshold_stay_finite():
    x_seq = torch.tensor([-1e6, -300.0, -30.0, 30.0, 300.0, 1e6]).repeat(2, 1, 1)
    for base in BASES.values():
        assert_equals_naive(
            x_seq, torch.zeros(1, 6), make_dynamics("IF"), base, ConstantMask(1.0)
        )


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("v_reset", [None, 0.0])
@pytest.mark.parametrize("base", BASES)
def test_an_infinite_potential_has_no_derivative_and_is_no_nan(base, v_reset, detach):
    x = torch.tensor([[0.3, -math.inf, math.inf, 1.0]])
    # Where the reset is not detached, torch too keeps only the last step free of NaN.
    free = v_reset is None or detach
    x_seq = torch.stack([x, torch.full_like(x, 0.5)] if free else [x])
    x_seq[-1, 0, 2] = math.inf if v_reset is None else x_seq[-1, 0, 2]
    v = torch.zeros_like(x)
    dynamics, mask = make_dynamics("IF", v_reset, detach), BernoulliMask(0.0)
    gradients = []
    for fused in (True, False):
        leaf = x_seq.clone().requires_grad_()
        if fused:
            masked = MaskedSurrogate(BASES[base], mask)
            spikes = cpu.multi_step(leaf, v, dynamics, masked, False)[0]
        else:
            spikes = naive(
                leaf, v, dynamics, BASES[base], multiplier_of(mask, 0, leaf), 1.0
            )[0]
        gradients.append(torch.autograd.grad(spikes.sum(), leaf)[0])
    # exp() is bounded below in the kernel.
    assert (gradients[0][:, 0, 1].abs() < 1e-30).all()
    finite = ~gradients[1].isnan()
    assert finite[-1, 0, :2].all()
    torch.testing.assert_close(
        gradients[0][finite], gradients[1][finite], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.1, 1.7, 2.0, 2.9, 3.7, 4.7])
def test_the_triangle_has_the_hosts_value_on_its_edge(alpha):
    edge = torch.tensor(1 / alpha)
    near = torch.stack([edge, edge.nextafter(edge * 2), edge.nextafter(edge * 0)])
    over = torch.cat([near, -near])[None, None]
    base = surrogate.PiecewiseQuadratic(alpha)
    dynamics = make_dynamics("IF")._replace(v_threshold=0.0)
    ours, theirs = over.clone().requires_grad_(), over.clone().requires_grad_()
    masked = MaskedSurrogate(base, ConstantMask(1.0))
    cpu.multi_step(ours, torch.zeros(1, 6), dynamics, masked, False)[0].sum().backward()
    base(theirs).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize("v_reset", [None, 0.0, 0.15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spikes_and_potentials_equal_the_hosts_neurons_to_the_bit(
    v_reset, decay, dtype
):
    x_seq = torch.randn(20, 4, 5000, dtype=dtype)
    common = {"v_threshold": 0.7, "v_reset": v_reset, "step_mode": "m"}
    common["store_v_seq"] = True
    nodes = {
        "IF": neuron.IFNode(**common),
        "LIF": neuron.LIFNode(tau=1.7, decay_input=decay, **common),
        "ParametricLIF": neuron.ParametricLIFNode(
            init_tau=1.7, decay_input=decay, **common
        ),
    }
    for kind, node in nodes.items():
        expected = node(x_seq).detach()
        dynamics = make_dynamics(kind, v_reset, decay=decay)
        if kind == "ParametricLIF":
            dynamics = dynamics._replace(w=node.w)
        masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
        v = torch.full_like(x_seq[0], v_reset or 0.0)
        spikes, v_last, v_seq = cpu.multi_step(x_seq, v, dynamics, masked, True)
        assert torch.equal(spikes, expected)
        assert torch.equal(v_seq, node.v_seq)
        assert torch.equal(v_last, node.v)


def run(x_seq, rule=None, dynamics=None, base="ATan"):
    masked = MaskedSurrogate(base, rule or BernoulliMask(0.5))
    v = torch.zeros_like(x_seq[0]).detach()
    return cpu.multi_step(x_seq, v, dynamics or make_dynamics(), masked, True)


def test_channels_last_is_kept():
    x = torch.randn(12, 3, 8, 9).to(memory_format=torch.channels_last)
    x_seq = x.unflatten(0, (3, 4)).requires_grad_()
    spikes, v_last, v_seq = run(x_seq)
    spikes.sum().backward()
    assert not x_seq.is_contiguous()
    assert spikes.stride() == v_seq.stride() == x_seq.stride()
    assert x_seq.grad.stride() == x_seq.stride()
    assert v_last.stride() == x_seq[0].stride()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", NEURONS)
def test_half_precision_input_has_a_float32_state(kind, dtype):
    x_seq = torch.randn(6, 3, 40).to(dtype).requires_grad_()
    wide = x_seq.detach().float().requires_grad_()
    grads, results = [], []
    for x in (x_seq, wide):
        torch.manual_seed(3)
        dynamics = make_dynamics(kind)
        results.append(run(x, dynamics=dynamics))
        results[-1][0].sum().backward()
        grads.append(x.grad)
    (spikes, v_last, v_seq), expected = results
    assert spikes.dtype == x_seq.grad.dtype == dtype
    assert v_last.dtype == v_seq.dtype == torch.float32
    assert torch.equal(spikes.float(), expected[0])
    assert torch.equal(v_seq, expected[2])
    assert torch.equal(grads[0], grads[1].to(dtype))


def test_manual_seed_alone_reproduces_a_run():
    x_seq = torch.randn(4, 2, 500, requires_grad=True)

    def gradient(seed):
        torch.manual_seed(seed)
        return torch.autograd.grad(run(x_seq)[0].sum(), x_seq)[0]

    assert torch.equal(gradient(1), gradient(1))
    assert not torch.equal(gradient(1), gradient(2))


def test_two_calls_have_draws_of_their_own():
    x_seq = torch.randn(4, 2, 500, requires_grad=True)
    first, second = (
        torch.autograd.grad(run(x_seq)[0].sum(), x_seq)[0] for _ in range(2)
    )
    assert not torch.equal(first, second)


def test_checkpointing_sees_the_same_mask_in_both_passes():
    x_seq = torch.randn(4, 2, 500, requires_grad=True)
    torch.manual_seed(7)
    (plain,) = torch.autograd.grad(run(x_seq)[0].sum(), x_seq)
    torch.manual_seed(7)
    spikes = checkpoint(lambda x: run(x)[0], x_seq, use_reentrant=False)
    torch.rand(3)
    (again,) = torch.autograd.grad(spikes.sum(), x_seq)
    assert torch.equal(plain, again)


def test_the_seed_is_drawn_whether_or_not_gradients_are_recorded():
    x_seq = torch.randn(4, 2, 5)
    states = []
    for recorded in (True, False):
        torch.manual_seed(7)
        with torch.set_grad_enabled(recorded):
            run(x_seq)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_rules_without_chance_take_no_random_number():
    before = torch.get_rng_state()
    run(torch.zeros(2, 3, 4), WindowMask(0.2))
    run(torch.zeros(2, 3, 4), ConstantMask(0.5))
    assert torch.equal(before, torch.get_rng_state())


def test_the_number_of_threads_changes_no_bit():
    x_seq = torch.randn(4, 3, 20_000, requires_grad=True)
    dynamics = make_dynamics("ParametricLIF")
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            torch.manual_seed(0)
            outputs = run(x_seq, dynamics=dynamics)
            grads = torch.autograd.grad(
                outputs, (x_seq, dynamics.w), [torch.ones_like(o) for o in outputs]
            )
            results.append((*outputs, *grads))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_calls_from_several_threads_do_not_disturb_one_another():
    x_seq = torch.randn(4, 3, 20_000)
    expected = run(x_seq)[0]
    found = []

    def call():
        found.extend(run(x_seq)[0] for _ in range(5))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 20
    assert all(torch.equal(spikes, expected) for spikes in found)


def test_batched_gradients_equal_single_ones():
    x_seq = torch.randn(4, 2, 9, requires_grad=True)
    dynamics = make_dynamics("ParametricLIF")
    spikes, v_last, _ = run(x_seq, dynamics=dynamics)
    cotangents = torch.randn(3, *spikes.shape), torch.randn(3, *v_last.shape)
    wanted = (x_seq, dynamics.w)
    batched = torch.autograd.grad(
        (spikes, v_last), wanted, cotangents, retain_graph=True, is_grads_batched=True
    )
    for i in range(3):
        single = torch.autograd.grad(
            (spikes, v_last), wanted, [c[i] for c in cotangents], retain_graph=True
        )
        for a, b in zip(batched, single, strict=True):
            assert torch.equal(a[i], b)


def test_a_second_derivative_is_refused():
    x_seq = torch.randn(4, 2, 9, requires_grad=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(run(x_seq)[0].sum(), x_seq, create_graph=True)


def test_an_input_changed_in_place_before_backward_is_refused():
    x_seq = torch.randn(4, 2, 9, requires_grad=True) * 1.0
    spikes = run(x_seq)[0]
    x_seq.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()


def test_an_input_of_no_elements_gives_none():
    x_seq = torch.zeros(3, 0, 4, requires_grad=True)
    spikes, v_last, _ = run(x_seq)
    spikes.sum().backward()
    assert spikes.shape == (3, 0, 4)
    assert v_last.shape == (0, 4)
    assert x_seq.grad.shape == (3, 0, 4)


def test_a_compiled_graph_holds_it_without_a_break():
    x_seq = torch.randn(3, 4, 5, requires_grad=True)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    results = []
    for function in (run, compiled):
        torch.manual_seed(1)
        spikes, v_last, _ = function(x_seq)
        gradient = torch.autograd.grad(spikes.sum() + v_last.sum(), x_seq)
        results.append((spikes, v_last, *gradient))
    for ours, eager in zip(*results, strict=True):
        assert torch.equal(ours, eager)


def test_the_operators_keep_what_their_schemas_promise():
    x_seq = torch.randn(3, 4, 5).transpose(1, 2)
    forward = (x_seq, torch.zeros(5, 4), None, 2.0, True, 1.0, 0.0, True)
    seed = torch.tensor(3)
    slope = (False, 1, 2.0, 0, 0.5, 1.0, 0.0)
    backward = (torch.randn(3, 5, 4), None, None, *forward[:3], seed, *forward[3:7])
    checks = ("test_schema", "test_faketensor")
    ops = torch.ops.sj_ext
    torch.library.opcheck(ops.fused_neuron.default, forward, test_utils=checks)
    torch.library.opcheck(
        ops.fused_neuron_backward.default, (*backward, *slope), test_utils=checks
    )


class TriangleOfOurOwn(surrogate.PiecewiseQuadratic):
    """Might have another derivative than its parent."""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": torch.zeros(2, 3, 4, dtype=torch.int64)}, "of type torch.int64"),
        ({"x": torch.zeros(2, 3, 4, device="meta")}, "not on the CPU"),
        ({"x": torch.zeros(0, 3, 4)}, r"not \[T, N, ...\]"),
        ({"v": torch.zeros(3, 4, dtype=torch.float64)}, "the potential of"),
        ({"v": torch.zeros(3, 5)}, r"of shape \[3, 5\]"),
        ({"dynamics": make_dynamics("QIF")}, "no fused QIF neuron"),
        ({"dynamics": make_dynamics()._replace(tau=None)}, "tau is None"),
        ({"dynamics": make_dynamics()._replace(v_threshold=torch.ones(1))}, "Tensor"),
        ({"base": surrogate.Rect(1.0)}, "no fused derivative of Rect"),
        ({"base": TriangleOfOurOwn(1.0)}, "derivative of TriangleOfOurOwn"),
        ({"base": surrogate.ATan(torch.tensor(2.0))}, "alpha is tensor"),
        ({"base": surrogate.ATan(2.0, spiking=False)}, "set not to spike"),
        ({"rule": BernoulliMask(0.5, shared=("time",))}, "shares its draws"),
    ],
)
def test_what_it_cannot_run_exactly_it_refuses_with_a_reason(change, reason):
    x_seq = change.get("x", torch.zeros(2, 3, 4))
    v = change.get("v", torch.zeros(x_seq.shape[1:]))
    dynamics = change.get("dynamics", make_dynamics())
    masked = MaskedSurrogate(
        change.get("base", surrogate.ATan()), change.get("rule", BernoulliMask(0.5))
    )
    said = cpu.refuses(x_seq, v, dynamics, masked)
    with pytest.raises(ValueError, match=reason) as error:
        cpu.multi_step(x_seq, v, dynamics, masked, False)
    assert said is not None
    assert said in str(error.value)


# Subclasses of the neurons that run on it.


class DoublesItsInput(MaskedLIFNode):
    def single_step_forward(self, x):
        return super().single_step_forward(2 * x)


class DoublesItsInputFunctionally(MaskedLIFNode):
    def single_step_functional_forward(self, inputs, states, **kwargs):
        return super().single_step_functional_forward(
            (2 * inputs[0],), states, **kwargs
        )


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("kind", [DoublesItsInput, DoublesItsInputFunctionally])
def test_a_step_that_a_subclass_defines_is_never_bypassed(kind, backend):
    x_seq = torch.randn(5, 3, 40)
    settings = {"step_mode": "m", "store_v_seq": True}
    own, plain = (
        make(
            surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.0)),
            backend=backend,
            **settings,
        )
        for make in (kind, MaskedLIFNode)
    )
    for _ in range(2):
        spikes, expected = own(x_seq), plain(2 * x_seq)
        assert torch.equal(spikes, expected)
        assert torch.equal(own.v_seq, plain.v_seq)
        assert torch.equal(own.v, plain.v)
    assert own.backend_in_use == "torch"
    assert plain.backend_in_use == ("cpu" if backend == "auto" else "torch")
    if kind is DoublesItsInputFunctionally:
        state = (torch.zeros(3, 40),)
        (again,), _ = own.functional_forward((x_seq,), state)
        (expected,), _ = plain.functional_forward((2 * x_seq,), state)
        assert torch.equal(again, expected)


def test_equations_that_no_pass_would_call_are_refused():
    with pytest.raises(TypeError, match="got `neuronal_charge`, which no pass of"):

        class Charged(MaskedLIFNode):
            def neuronal_charge(self, x):
                self.v = self.v + 2 * x


def test_kernels_compile_where_no_cache_can_be_written():
    from sj_ext.compiled import compiled

    # Code without a file has no place for a cache: the same branch as a read-only home.
    scope = {}
    exec("def twice(x): return 2 * x", scope)
    assert compiled()(scope["twice"])(21) == 42


# The draw.

SEED = 0x1234_5678_9ABC_DEF0


def centred(seed, shape, p=0.5):
    return cpu.draw(seed, shape, p).double() - (1 - p)


def assert_uncorrelated(a, b, p=0.5):
    n = a.numel()
    assert (a * b).sum().abs() < 5 * math.sqrt(n) * p * (1 - p)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("seed", [0, 1, -1, SEED])
def test_the_keep_rate_is_one_minus_p(p, seed):
    kept = centred(seed, (4, 250_000), p)
    assert kept.sum().abs() < 5 * math.sqrt(kept.numel() * p * (1 - p))


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_draws_of_different_steps_are_independent(p):
    mask = centred(SEED, (12, 100_000), p)
    for t in range(11):
        for later in range(t + 1, 12):
            assert_uncorrelated(mask[t], mask[later], p)


@pytest.mark.parametrize("lag", [1, 2, 3, 8, 16, 48, 64, 1024, 2304, 4096, 65536])
def test_draws_of_neighbours_and_samples_are_independent(lag):
    mask = centred(SEED, (4, 200_000))
    assert_uncorrelated(mask[:, lag:], mask[:, :-lag])


@pytest.mark.parametrize("lag", [1, 2, 64, 4096])
def test_a_step_is_no_shifted_copy_of_the_next(lag):
    mask = centred(SEED, (4, 200_000))
    assert_uncorrelated(mask[1:, lag:], mask[:-1, :-lag])
    assert_uncorrelated(mask[:-1, lag:], mask[1:, :-lag])


@pytest.mark.parametrize(
    "other", [SEED + 1, SEED ^ (1 << 63), SEED + 2**32, SEED + 0x9E3779B97F4A7C15, 0]
)
def test_draws_of_different_seeds_are_independent(other):
    first, second = (centred(seed, (4, 200_000)) for seed in (SEED, other))
    assert_uncorrelated(first, second)
    assert_uncorrelated(first[1:], second[:-1])


def chi_square(counts, expected):
    return ((counts - expected) ** 2 / expected).sum().item()


def bytes_of(mask):
    """Read the last axis, of length 8, as the bits of a number."""
    return (mask.long() << torch.arange(8)).sum(-1).flatten()


@pytest.mark.parametrize("along", ["neurons", "steps"])
def test_patterns_of_eight_draws_are_equally_frequent(along):
    if along == "neurons":
        patterns = bytes_of(cpu.draw(SEED, (4, 400_000), 0.5).view(4, -1, 8))
    else:
        patterns = bytes_of(cpu.draw(SEED, (8, 200_000), 0.5).T)
    counts = torch.bincount(patterns, minlength=256).double()
    statistic = chi_square(counts, patterns.numel() / 256)
    assert abs(statistic - 255) < 5 * math.sqrt(2 * 255)


@pytest.mark.parametrize("p", [0.5, 0.99])
def test_no_bit_of_the_counter_shows_in_the_draw(p):
    neurons = 2**19
    kept = cpu.draw(SEED, (2, neurons), p).double().sum(0)
    index = torch.arange(neurons)
    variance = 2 * (neurons / 2) * p * (1 - p)
    terms = [
        (kept[(index >> bit) & 1 == 1].sum() - neurons * (1 - p)) ** 2 / variance
        for bit in range(19)
    ]
    assert sum(terms) - 19 < 5 * math.sqrt(2 * 19)


def test_nothing_is_dropped_at_p_0():
    assert cpu.draw(SEED, (2, 1000), 0.0).all()


def test_a_mask_of_permuted_steps_counts_in_the_order_of_memory():
    x_seq = torch.empty(3, 4, 5, 6).permute(0, 3, 1, 2)
    mask = cpu.draw(SEED, x_seq.shape, 0.5, x_seq.stride())
    plain = cpu.draw(SEED, (3, 4, 5, 6), 0.5)
    assert torch.equal(mask, plain.permute(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("base", ["Sigmoid", "PiecewiseExp", "Erf"])
def test_a_derivative_that_underflows_is_exactly_zero(base, dtype):
    node = MaskedIFNode(
        surrogate_function=MaskedSurrogate(base, BernoulliMask(0.0), {"alpha": 4.0}),
        step_mode="m",
        backend="cpu",
    )
    x_seq = torch.tensor([[[-1e4, -300.0, 1.5, 300.0, 1e4]]], dtype=dtype)
    x_seq.requires_grad_()
    node(x_seq).sum().backward()
    assert (x_seq.grad != 0).tolist() == [[[False, False, True, False, False]]]
