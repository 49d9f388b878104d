"""The table of equality for h-substitution, and the definition it is held against.

A plain module, so that a child process that stubs CuPy or interprets Triton can run it
as well as the tests.
"""

import itertools
import math
from collections.abc import Iterator

import torch
from spikingjelly.activation_based import surrogate as host_surrogate

from sj_ext.neuron.backends.substitution import Kernels, _run
from sj_ext.neuron.dynamics import Dynamics
from sj_ext.surrogate import MaskedSurrogate, MaskRule
from sj_ext.surrogate.functional import mask_gradient

BASES = {
    "Sigmoid": 4.0,
    "ATan": 2.0,
    "PiecewiseQuadratic": 2.0,
    "PiecewiseExp": 1.5,
    "SoftSign": 2.0,
    "SuperSpike": 1.0,
    "Erf": 2.0,
}
CONSTANTS = {
    "QIF": {"v_c": 0.8, "a0": 1.0, "v_rest": -0.05},
    "EIF": {"delta_T": 1.0, "theta_rh": 0.8, "v_rest": -0.05},
    "Izhikevich": {
        "v_c": 0.8,
        "a0": 1.0,
        "v_rest": -0.05,
        "a": 0.3,
        "b": 0.2,
        "tau_w": 3.0,
    },
}
NEURONS = ("IF", "LIF", "ParametricLIF", *CONSTANTS)


class FixedMask(MaskRule):
    """Multiplies by what it is told to."""

    def __init__(self, values, scale=1.0):
        self._values, self._scale = values, scale
        self.binary = values.dtype == torch.bool

    @property
    def scale(self):
        return self._scale

    def multiplier(self, x, sequence=False):
        assert sequence
        assert self._values.device == x.device
        return self._values

    def config(self):
        return {"name": "fixed"}


def variants(neuron: str) -> Iterator[Dynamics]:
    """Reset x detach x decay_input of one neuron, w not filled in."""
    decays = (True, False) if neuron in ("LIF", "ParametricLIF") else (True,)
    for v_reset, detach, decay in itertools.product(
        (-0.1, None), (False, True), decays
    ):
        yield Dynamics(
            neuron,
            v_threshold=0.7,
            v_reset=v_reset,
            detach_reset=detach,
            tau=None if neuron in ("IF", "ParametricLIF") else 1.7,
            decay_input=decay,
            constants=tuple(CONSTANTS.get(neuron, {}).items()),
        )


def base_of(name: str):
    return getattr(host_surrogate, name)(alpha=BASES[name])


def definition(x_seq, state, dynamics, surrogate):
    """Step by step, as the host's torch path, the mask on the derivative."""
    weights = surrogate.multiplier(x_seq, sequence=True).expand(x_seq.shape)
    c = {"tau": dynamics.tau, **dict(dynamics.constants)}
    tau, rest = c["tau"], 0.0 if dynamics.v_reset is None else dynamics.v_reset
    q = None if dynamics.w is None else dynamics.w.sigmoid()
    v, spikes, states = state[0], [], []
    w = state[1] if len(state) > 1 else None
    for x, weight in zip(x_seq, weights, strict=True):
        match dynamics.neuron, dynamics.decay_input:
            case "IF", _:
                h = v + x
            case "LIF", True:
                h = v + (x - (v - rest)) / tau
            case "LIF", False:
                h = v - (v - rest) / tau + x
            case "ParametricLIF", True:
                h = v + (x - (v - rest)) * q
            case "ParametricLIF", False:
                h = v - (v - rest) * q + x
            case "QIF", _:
                h = v + (x + c["a0"] * (v - c["v_rest"]) * (v - c["v_c"])) / tau
            case "EIF", _:
                rise = c["delta_T"] * ((v - c["theta_rh"]) / c["delta_T"]).exp()
                h = v + (x + c["v_rest"] - v + rise) / tau
            case "Izhikevich", _:
                h = v + (x + c["a0"] * (v - c["v_rest"]) * (v - c["v_c"]) - w) / tau
        masked = mask_gradient(h - dynamics.v_threshold, weight, surrogate.mask.scale)
        spike = surrogate.base(masked)
        if w is not None:
            w = w + (c["a"] * (h - c["v_rest"]) - w) / c["tau_w"] + c["b"] * spike
        s = spike.detach() if dynamics.detach_reset else spike
        if dynamics.v_reset is None:
            v = h - s * dynamics.v_threshold
        else:
            v = s * dynamics.v_reset + (1 - s) * h
        spikes.append(spike)
        states.append((v,) if w is None else (v, w))
    return torch.stack(spikes), *(torch.stack(one) for one in zip(*states, strict=True))


def _slope(name, alpha, x):
    size = x.abs()
    match name:
        case "Sigmoid":
            s = torch.sigmoid(alpha * x)
            return alpha * s * (1 - s)
        case "ATan":
            return alpha / 2 / (1 + (math.pi / 2 * alpha * x) ** 2)
        case "PiecewiseQuadratic":
            return (alpha - alpha**2 * size).clamp_min(0)
        case "PiecewiseExp":
            return alpha / 2 * torch.exp(-alpha * size)
        case "SoftSign":
            return 1 / (2 * alpha * (1 / alpha + size) ** 2)
        case "SuperSpike":
            return alpha / (1 + size) ** 2
        case "Erf":
            return alpha / math.sqrt(math.pi) * torch.exp(-((alpha * x) ** 2))


def _forward(kernel, x_seq, state, dynamics, base, store_v_seq):
    """What the host's forward kernels compute, in any precision."""
    charged = []
    keep = FixedMask(torch.ones((), dtype=torch.bool))

    class Spy(torch.nn.Module):
        def forward(self, x):
            charged.append(x + dynamics.v_threshold)
            return (x >= 0).to(x.dtype)

    surrogate = MaskedSurrogate(base, keep)
    surrogate.base = Spy()
    spikes, *states = definition(x_seq, state, dynamics, surrogate)
    previous = torch.cat((state[0][None], states[0][:-1]))
    if dynamics.neuron == "ParametricLIF":
        workspace = (x_seq, previous)
    else:
        workspace = (previous,) if dynamics.neuron in CONSTANTS else ()
    if not store_v_seq:
        states = [one[-1].clone() for one in states]
    return spikes, tuple(states), torch.stack(charged), workspace, None


def _backward(kernel, gs, grads, h_seq, workspace, context, dynamics, base, store):
    """What the host's backward kernels compute from h, in any precision."""
    c = {"tau": dynamics.tau, **dict(dynamics.constants)}
    q = None if dynamics.w is None else dynamics.w.detach().sigmoid()
    grad_x = torch.empty_like(h_seq)
    carry, carry_w, grad_q = torch.zeros_like(h_seq[0]), 0.0, 0.0
    for t in reversed(range(len(h_seq))):
        h = h_seq[t]
        s = (h >= dynamics.v_threshold).to(h.dtype)
        slope = _slope(type(base).__name__, base.alpha, h - dynamics.v_threshold)
        through = torch.ones_like(h) if dynamics.v_reset is None else 1 - s
        if not dynamics.detach_reset:
            jump = -dynamics.v_threshold
            jump = jump if dynamics.v_reset is None else dynamics.v_reset - h
            through = through + jump * slope
        last = t == len(h_seq) - 1
        arrives = [g[t] if store else g if last else torch.zeros_like(g) for g in grads]
        gh = gs[t] * slope + (arrives[0] + carry) * through
        by_v, by_x = 1.0, 1.0
        if dynamics.neuron == "LIF":
            by_v, by_x = 1 - 1 / c["tau"], 1 / c["tau"]
        elif dynamics.neuron == "ParametricLIF":
            by_v, by_x = 1 - q, q
        elif dynamics.neuron in CONSTANTS:
            v, by_x = workspace[-1][t], 1 / c["tau"]
            if dynamics.neuron == "EIF":
                rise = ((v - c["theta_rh"]) / c["delta_T"]).exp()
                by_v = 1 + (rise - 1) / c["tau"]
            else:
                by_v = 1 + c["a0"] * (2 * v - c["v_rest"] - c["v_c"]) / c["tau"]
        if dynamics.neuron == "Izhikevich":
            gw = arrives[1] + carry_w
            gh = gh + gw * (c["b"] * slope + c["a"] / c["tau_w"])
            carry_w = gw * (1 - 1 / c["tau_w"]) - gh / c["tau"]
        grad_x[t] = gh * (by_x if dynamics.decay_input else 1.0)
        carry = gh * by_v
        if dynamics.neuron == "ParametricLIF" and workspace:
            x_seq, previous = workspace
            rest = 0.0 if dynamics.v_reset is None else dynamics.v_reset
            by_q = rest - previous[t] + (x_seq[t] if dynamics.decay_input else 0.0)
            grad_q = grad_q + (gh * by_q).sum()
    inits = (carry, carry_w) if dynamics.neuron == "Izhikevich" else (carry,)
    grad_w = grad_q * q * (1 - q) if isinstance(grad_q, torch.Tensor) else None
    return grad_x, inits, grad_w


DOUBLE = Kernels(_forward, _backward)
"""Kernels of our own that read h as the host's do, for any dtype on any device."""


def draw_case(dynamics, shape, dtype, device, seed, multiplier=None, scale=1.0):
    """Make input, states, surrogate-independent mask and a filled-in w."""
    random = torch.Generator().manual_seed(seed)

    def draw(*size):
        drawn = torch.randn(*size, generator=random, dtype=torch.float64)
        return drawn.to(device=device, dtype=dtype)

    # An exponential neuron that is driven harder overflows with a soft reset.
    x_seq = draw(*shape) * (0.5 if dynamics.neuron == "EIF" else 1.2) + 0.4
    count = 2 if dynamics.neuron == "Izhikevich" else 1
    state = tuple(draw(*shape[1:]) * 0.3 for _ in range(count))
    keep = torch.rand(*shape, generator=random).to(device)
    keep = keep < 0.5 if multiplier is None else keep.to(dtype) * multiplier
    if dynamics.neuron == "ParametricLIF":
        w = torch.tensor(-0.4, dtype=dtype, device=device)
        dynamics = dynamics._replace(w=w)
    return x_seq, state, dynamics, FixedMask(keep, scale), draw


def worst_error(
    dynamics,
    base,
    kernel,
    kernels,
    *,
    store_v_seq,
    shape=(5, 3, 4),
    dtype=torch.float32,
    device="cpu",
    seed=0,
    multiplier=None,
    scale=1.0,
) -> float:
    """Run one case on kernels and by definition.

    Returns:
        The largest difference of a value or gradient, relative to the largest value
        of its tensor where that is above 1; infinite where spikes differ.
    """
    x_seq, state, dynamics, mask, draw = draw_case(
        dynamics, shape, dtype, device, seed, multiplier, scale
    )
    surrogate = MaskedSurrogate(base, mask)
    cotangents = [draw(*shape) for _ in range(1 + len(state))]
    results = []
    for by_definition in (False, True):
        x = x_seq.clone().requires_grad_()
        initial = tuple(one.clone().requires_grad_() for one in state)
        case, leaves = dynamics, [x, *initial]
        if dynamics.w is not None:
            w = dynamics.w.clone().requires_grad_()
            case, leaves = dynamics._replace(w=w), [*leaves, w]
        if by_definition:
            spikes, *seqs = definition(x, initial, case, surrogate)
            last = [one[-1] for one in seqs]
        else:
            v = initial if len(initial) > 1 else initial[0]
            spikes, last, seqs = _run(
                x, v, case, surrogate, store_v_seq, kernel, kernels
            )
            as_list = list if len(initial) > 1 else lambda one: [one]
            last, seqs = as_list(last), as_list(seqs) if store_v_seq else None
        outputs = [spikes, *last, *(seqs if store_v_seq else [])]
        loss = (spikes * cotangents[0]).sum()
        for one, cotangent in zip(last, cotangents[1:], strict=True):
            loss = loss + (one * cotangent[-1]).sum()
        if store_v_seq:
            for one, cotangent in zip(seqs, cotangents[1:], strict=True):
                loss = loss + (one * cotangent).sum()
        results.append([*outputs, *torch.autograd.grad(loss, leaves)])
    if not torch.equal(results[0][0], results[1][0]):
        return math.inf
    return max(
        float(((got - want).abs().max() / want.abs().max().clamp_min(1.0)).detach())
        if torch.isfinite(got).all()
        else math.inf
        for got, want in zip(*results, strict=True)
    )


def whole_table(
    kernel,
    kernels,
    neurons=NEURONS,
    bases=tuple(BASES),
    refused=lambda dynamics: None,
    **settings,
):
    """Run every case of some neurons that is not refused.

    Returns:
        The error of each case, by a name that tells it.
    """
    errors = {}
    for name in neurons:
        for base in bases:
            for index, dynamics in enumerate(variants(name)):
                if refused(dynamics):
                    continue
                key = (
                    f"{name} {base} reset={dynamics.v_reset} "
                    f"detach={dynamics.detach_reset} decay={dynamics.decay_input}"
                )
                errors[key] = worst_error(
                    dynamics,
                    base_of(base),
                    kernel,
                    kernels,
                    store_v_seq=index % 2 == 0,
                    seed=index,
                    **settings,
                )
    return errors
