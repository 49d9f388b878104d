"""Replacing h far from the threshold masks exactly, on every kernel of the host."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import surrogate as host_surrogate
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from sj_ext import host
from sj_ext.neuron.backends import substitution
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate, WindowMask

FOLDER = Path(__file__).parent / "cuda_shim"
ROOT = Path(__file__).parents[2]
KERNELS = [name for name in host.multi_step_backends() if name != "torch"]


def _load_table():
    path = FOLDER / "substitution_table.py"
    spec = importlib.util.spec_from_file_location("substitution_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


table = _load_table()
TRIANGLE = host_surrogate.PiecewiseQuadratic(alpha=2.0)


def too_large(errors, limit):
    return {case: error for case, error in errors.items() if not error < limit}


def run_child(script, *arguments, **environment):
    path = [str(FOLDER), str(ROOT)]
    # The host that runs here must run there, wherever it is installed.
    path[1:1] = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("neuron", table.NEURONS)
def test_substitution_equals_a_true_mask_in_double_precision(neuron):
    errors = table.whole_table(
        "any", table.DOUBLE, neurons=(neuron,), dtype=torch.float64
    )
    assert len(errors) == 7 * len(list(table.variants(neuron)))
    assert not too_large(errors, 1e-10)


def test_the_table_notices_a_mask_that_is_not_applied(monkeypatch):
    monkeypatch.setattr(substitution, "_substitute_", lambda *_: None)
    errors = table.whole_table(
        "any",
        table.DOUBLE,
        bases=("ATan",),
        refused=lambda dynamics: dynamics.detach_reset,
        dtype=torch.float64,
    )
    assert min(errors.values()) > 1e-3


@pytest.mark.parametrize("neuron", ["IF", "LIF", "ParametricLIF", "QIF", "EIF"])
def test_with_a_detached_reset_any_multiplier_is_exact(neuron):
    for dynamics in table.variants(neuron):
        if dynamics.detach_reset:
            error = table.worst_error(
                dynamics,
                table.base_of("SoftSign"),
                "any",
                table.DOUBLE,
                store_v_seq=True,
                dtype=torch.float64,
                multiplier=1.7,
                scale=3.0,
            )
            assert error < 1e-10


@pytest.mark.skipif(host.RELEASE != "2.0.0", reason="has no operators for the CPU")
@pytest.mark.parametrize("neuron", table.NEURONS)
def test_substitution_equals_a_true_mask_on_the_hosts_cpu_operators(neuron):
    errors = table.whole_table("cuda", table.Kernels(), neurons=(neuron,))
    assert not too_large(errors, 1e-5)


@pytest.mark.skipif(host.RELEASE != "2.0.0", reason="has no operators for the CPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("neuron", ["LIF", "ParametricLIF"])
def test_half_precision_input_keeps_a_float32_state_and_gradient_of_w(neuron, dtype):
    for dynamics in table.variants(neuron):
        x, state, case, mask, draw = table.draw_case(
            dynamics, (5, 3, 4), torch.float32, "cpu", seed=1
        )
        x, cotangent = x.to(dtype), draw(5, 3, 4).to(dtype)
        surrogate = MaskedSurrogate(table.base_of("ATan"), mask)
        results = []
        for by_definition in (False, True):
            leaves = [x.detach().clone().requires_grad_()]
            current = case
            if neuron == "ParametricLIF":
                leaves.append(case.w.clone().requires_grad_())
                current = case._replace(w=leaves[1])
            if by_definition:
                spikes, v_seq = table.definition(
                    leaves[0].float(), state, current, surrogate
                )
                last = v_seq[-1]
            else:
                spikes, last, _ = substitution._run(
                    leaves[0],
                    state[0],
                    current,
                    surrogate,
                    False,
                    "cuda",
                    table.Kernels(),
                )
                assert spikes.dtype == dtype
                assert last.dtype == torch.float32
            loss = (spikes.float() * cotangent).sum()
            results.append([spikes.float(), *torch.autograd.grad(loss, leaves)])
        torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=0)
        # Both gradients of x are rounded to half precision, by different ways.
        torch.testing.assert_close(
            results[0][1].float(), results[1][1].float(), rtol=2e-2, atol=2e-2
        )
        assert neuron == "LIF" or results[0][2].dtype == torch.float32
        if neuron == "ParametricLIF" and not dynamics.detach_reset:
            torch.testing.assert_close(
                results[0][2], results[1][2], rtol=1e-5, atol=1e-5
            )


@pytest.fixture(scope="session")
def cupy_results(tmp_path_factory):
    """What the stand-in for CuPy found, computed once."""
    if "cupy" not in host.multi_step_backends():
        pytest.skip(f"SpikingJelly {host.RELEASE} has no CuPy kernels")
    return run_child("cupy_on_cpu.py", tmp_path_factory.mktemp("kernels"))


def test_cupy_kernels_run_on_the_cpu_equal_a_true_mask(cupy_results):
    if "table" not in cupy_results:
        pytest.skip("needs g++")
    # All but the Izhikevich kernel that does not detach a hard reset wholly.
    assert len(cupy_results["table"]) == 7 * (4 + 8 + 8 + 4 + 4 + 3)
    assert not too_large(cupy_results["table"], 1e-5)


def test_cupy_kernels_take_any_multiplier_with_a_detached_reset(cupy_results):
    if "weighed" not in cupy_results:
        pytest.skip("needs g++")
    assert len(cupy_results["weighed"]) == 14
    assert not too_large(cupy_results["weighed"], 1e-5)


def test_the_layout_of_the_input_is_that_of_spikes_and_gradient(cupy_results):
    if "layout" not in cupy_results:
        pytest.skip("needs g++")
    assert cupy_results["layout"] == [True]


def test_half_precision_input_is_computed_in_float32_on_cupy(cupy_results):
    if "half" not in cupy_results:
        pytest.skip("needs g++")
    assert cupy_results["half"]
    assert all(cupy_results["half"])


def test_cupy_kernels_of_all_seven_surrogates_become_ptx(cupy_results):
    compiled = cupy_results["ptx"]
    if isinstance(compiled, str):
        pytest.skip(compiled)
    assert compiled[0] == compiled[1] > 7 * 6


def test_triton_kernels_under_the_interpreter_equal_a_true_mask():
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton")
    results = run_child(
        "triton_on_cpu.py",
        TRITON_INTERPRET="1",
        SJ_USE_TRITON_OP="0",
        SJ_USE_WRAP_TRITON="0",
    )
    assert len(results["table"]) == 4 + 8 + 8 + 6 * 8
    assert not too_large(results["table"], 1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("neuron", table.NEURONS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_on_the_device_equal_a_true_mask(kernel, neuron):
    device = torch.device("cuda", torch.cuda.current_device())
    reasons = set()

    def refused(dynamics):
        reason = host.fused_refusal(kernel, dynamics, device)
        reasons.add(reason)
        return reason

    errors = table.whole_table(
        kernel,
        table.Kernels(),
        neurons=(neuron,),
        refused=refused,
        # More neurons than the 1024 threads of a block.
        shape=(4, 3, 1100),
        device=device,
    )
    if not errors:
        pytest.skip(str(reasons))
    assert not too_large(errors, 1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_layout_is_kept_on_the_device(kernel):
    x = torch.randn(6, 5, 4, 4, device="cuda").to(memory_format=torch.channels_last)
    x = x.unflatten(0, (3, 2)).requires_grad_()
    v = torch.zeros_like(x[0])
    dynamics = next(table.variants("LIF"))
    surrogate = MaskedSurrogate(TRIANGLE, BernoulliMask(0.5))
    reason = substitution.refuses(x, v, dynamics, surrogate, kernel)
    if reason:
        pytest.skip(reason)
    spikes, last, _ = substitution.multi_step(x, v, dynamics, surrogate, False, kernel)
    (gradient,) = torch.autograd.grad(spikes.sum() + last.sum(), x)
    assert spikes.stride() == x.stride() == gradient.stride()


def drawn_gradient(x, run=lambda function, x: function(x)):
    """The gradient through a LIF neuron whose mask comes from torch's generator."""
    dynamics = next(table.variants("LIF"))
    surrogate = MaskedSurrogate(TRIANGLE, BernoulliMask(0.5))

    def forward(x):
        spikes, _, _ = substitution._run(
            x, torch.zeros_like(x[0]), dynamics, surrogate, False, "any", table.DOUBLE
        )
        return spikes

    x = x.clone().requires_grad_()
    run(forward, x).sum().backward()
    return x.grad


def test_the_seed_alone_reproduces_the_mask():
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    gradients = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        gradients.append(drawn_gradient(x))
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("rule", [BernoulliMask(0.5), WindowMask(0.4)])
def test_the_mask_is_drawn_again_from_the_random_state_of_the_pass(rule):
    x = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    dynamics = next(table.variants("LIF"))
    masked = MaskedSurrogate("ATan", rule)
    torch.manual_seed(3)
    spikes, _, v_seq = substitution._run(
        x, torch.zeros_like(x[0]), dynamics, masked, True, "any", table.DOUBLE
    )
    gradients = [
        torch.autograd.grad(one.sum(), x, retain_graph=True)[0][t]
        for t, one in enumerate(spikes)
    ]
    before = torch.cat([torch.zeros_like(x[:1]), v_seq[:-1]])
    over_seq = charged(dynamics, before, x) - dynamics.v_threshold
    torch.manual_seed(3)
    again = substitution.multiplier(masked, x, over_seq)
    # In double precision the derivative far out is not yet rounded to zero.
    assert torch.equal(again, torch.stack(gradients) > 1e-30)


def charged(dynamics, v, x):
    rest = dynamics.v_reset or 0.0
    if dynamics.decay_input:
        return v + (x - (v - rest)) / dynamics.tau
    return v - (v - rest) / dynamics.tau + x


@pytest.mark.parametrize("shared", [("time",), ("batch",), ("time", "batch")])
def test_a_draw_that_is_shared_masks_as_its_expansion_does(shared):
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    dynamics = next(table.variants("LIF"))
    rule = BernoulliMask(0.5, shared=shared)
    torch.manual_seed(7)
    drawn = rule.multiplier(x, sequence=True)
    assert drawn.shape != x.shape
    gradients = []
    for mask in (rule, table.FixedMask(drawn.expand(x.shape))):
        torch.manual_seed(7)
        leaf = x.clone().requires_grad_()
        spikes, _, _ = substitution._run(
            leaf,
            torch.zeros_like(x[0]),
            dynamics,
            MaskedSurrogate(TRIANGLE, mask),
            False,
            "any",
            table.DOUBLE,
        )
        gradients.append(torch.autograd.grad(spikes.sum(), leaf)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_sees_the_same_mask_in_both_passes(reentrant):
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    torch.manual_seed(3)
    plain = drawn_gradient(x)
    torch.manual_seed(3)
    again = drawn_gradient(
        x, lambda function, x: checkpoint(function, x, use_reentrant=reentrant)
    )
    assert torch.equal(again, plain)


@pytest.mark.parametrize("neuron", table.NEURONS)
def test_no_more_is_kept_for_backward_than_by_the_host(neuron):
    """The substituted h stands where h stood; ParametricLIF's factor where x did."""
    dynamics = next(table.variants(neuron))
    x, state, case, mask, _ = table.draw_case(
        dynamics, (5, 3, 4), torch.float64, "cpu", seed=0
    )
    if case.w is not None:
        case = case._replace(w=case.w.requires_grad_())
    kept = []

    def keep(tensor):
        kept.append(tensor.numel() // x.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        substitution._run(
            x.requires_grad_(),
            state if len(state) > 1 else state[0],
            case,
            MaskedSurrogate(TRIANGLE, mask),
            False,
            "any",
            table.DOUBLE,
        )
    assert sum(kept) == (1 if neuron in ("IF", "LIF") else 2)


def test_a_cpu_tensor_is_refused():
    x = torch.zeros(2, 3, 4)
    dynamics = next(table.variants("LIF"))
    surrogate = MaskedSurrogate(TRIANGLE, BernoulliMask(0.5))
    for kernel in KERNELS:
        reason = substitution.refuses(x, x[0], dynamics, surrogate, kernel)
        assert reason == "needs a CUDA tensor, got one on cpu"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": torch.float64}, "take no torch.float64"),
        ({"v_dtype": torch.float16}, "keep the state in float32"),
        ({"shape": (2, 0)}, "no kernel for input"),
        ({"kernel": "abacus"}, "has no abacus kernels"),
        ({"base": host_surrogate.S2NN()}, "fuses no S2NN"),
        ({"base": host_surrogate.ATan(spiking=False)}, "fuses no ATan"),
        ({"base": host_surrogate.PiecewiseExp(alpha=1e-20)}, "is not zero at 1e+20"),
        ({"mask": BernoulliMask(0.5, rescale=True)}, "only with detach_reset=True"),
        ({"neuron": "Izhikevich"}, "has not 1 state tensors"),
        ({"neuron": "ParametricLIF"}, "needs a scalar w"),
        ({"neuron": "QIF", "constants": ()}, "lack v_rest"),
    ],
)
def test_what_would_not_be_exact_is_refused_with_the_reason(changes, reason):
    with FakeTensorMode():
        x = torch.empty(
            changes.get("shape", (2, 3)),
            dtype=changes.get("dtype", torch.float32),
            device="cuda",
        )
        v = torch.empty(
            x.shape[1:], dtype=changes.get("v_dtype", torch.float32), device="cuda"
        )
    dynamics = next(table.variants(changes.get("neuron", "LIF")))
    if "constants" in changes:
        dynamics = dynamics._replace(constants=changes["constants"])
    surrogate = MaskedSurrogate(
        changes.get("base", TRIANGLE), changes.get("mask", BernoulliMask(0.5))
    )
    kernel = changes.get("kernel", "triton")
    found = substitution.refuses(x, v, dynamics, surrogate, kernel)
    assert reason in found


@pytest.mark.parametrize("neuron", table.NEURONS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_private_functions_of_the_host_are_as_they_were(kernel, neuron):
    from sj_ext.host._selection import module

    if host.RELEASE == "2.0.0":
        assert module._interface_change(neuron) is None
    elif kernel == "cupy":
        assert module._cupy_interface_change(neuron) is None
    elif neuron in module._TRITON_MODULES:
        assert module._triton_interface_change(neuron) is None


@pytest.mark.parametrize("alpha", [0.01, 0.5, 2.0, 100.0])
@pytest.mark.parametrize("base", table.BASES)
def test_derivatives_of_the_fused_surrogates_vanish_far_out(base, alpha):
    assert substitution._vanishes(getattr(host_surrogate, base)(alpha=alpha))


def test_a_kernel_of_the_other_release_is_refused():
    dynamics = next(table.variants("LIF"))
    other = "cupy" if host.RELEASE == "2.0.0" else "cuda"
    reason = host.fused_refusal(other, dynamics, torch.device("cuda"))
    assert f"has no {other} kernels" in reason
