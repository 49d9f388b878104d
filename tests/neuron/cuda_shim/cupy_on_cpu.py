"""Run the table of equality on the host's CuPy kernels, compiled for the CPU.

Started as a child process with this folder first on the path, so that `cupy` is the
stand-in, and with a folder to build in as argument. Prints errors by case as JSON, and
how many of the kernels NVRTC made PTX of.
"""

import json
import shutil
import sys
from pathlib import Path

import cupy
import torch

# The stand-in's arrays and CPU tensors both call their device -1.
torch.cuda.current_device = lambda: -1

import substitution_table as table  # noqa: E402
from spikingjelly import configure  # noqa: E402

from sj_ext import host  # noqa: E402


def refused(dynamics):
    """Ask the door, which also compares the host's functions with what it passes."""
    return host.fused_refusal("cupy", dynamics, torch.device("cpu"))


def run(**settings):
    """Run the table over more neurons than one block has threads."""
    return table.whole_table("cupy", table.Kernels(), refused=refused, **settings)


def weighed():
    """The cases where a multiplier weighs the gradient of the spikes."""
    errors = {}
    for neuron in ("IF", "LIF", "ParametricLIF", "QIF", "EIF"):
        for dynamics in table.variants(neuron):
            if dynamics.detach_reset:
                key = f"weighed {neuron} {dynamics.v_reset} {dynamics.decay_input}"
                errors[key] = table.worst_error(
                    dynamics,
                    table.base_of("ATan"),
                    "cupy",
                    table.Kernels(),
                    store_v_seq=False,
                    shape=(4, 7, 11),
                    multiplier=1.3,
                    scale=2.0,
                )
    return errors


def keeps_layout():
    """Whether channels-last goes in and comes out, in forward and backward."""
    x = torch.randn(3, 2, 5, 4, 4).flatten(0, 1)
    x = x.to(memory_format=torch.channels_last).unflatten(0, (3, 2)).requires_grad_()
    v = torch.zeros_like(x[0])
    dynamics = next(table.variants("LIF"))
    mask = table.FixedMask(torch.rand(x.shape) < 0.5)
    surrogate = table.MaskedSurrogate(table.base_of("ATan"), mask)
    spikes, last, _ = table._run(
        x, v, dynamics, surrogate, False, "cupy", table.Kernels()
    )
    gradient = torch.autograd.grad(spikes.sum() + last.sum(), x)[0]
    return [spikes.stride() == x.stride() == gradient.stride()]


def half_is_float32_rounded():
    """Whether float16 input gives the float32 result of that input, rounded."""
    same = []
    for name in ("LIF", "ParametricLIF", "QIF"):
        dynamics = next(table.variants(name))
        x_seq, state, dynamics, mask, _ = table.draw_case(
            dynamics, (4, 7, 11), torch.float16, "cpu", seed=0
        )
        surrogate = table.MaskedSurrogate(table.base_of("Erf"), mask)
        if dynamics.w is not None:
            dynamics = dynamics._replace(w=dynamics.w.float())
        results = []
        for x in (x_seq.requires_grad_(), x_seq.detach().float().requires_grad_()):
            spikes, last, _ = table._run(
                x, state[0].float(), dynamics, surrogate, False, "cupy", table.Kernels()
            )
            # A loss that rounds nothing on its way back.
            loss = spikes.sum() + last.sum()
            results.append((spikes, last, *torch.autograd.grad(loss, x)))
        half, full = results
        same += [a.dtype == torch.float16 for a in (half[0], half[2])]
        same += [
            bool(torch.equal(a, b.to(a.dtype))) for a, b in zip(*results, strict=True)
        ]
        same.append(half[1].dtype == full[1].dtype == torch.float32)
    return same


def to_ptx():
    """Compile every collected kernel with the options that the host gives CuPy."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        return f"needs NVRTC: {error}"
    source = "\n".join(cupy.sources().values()).encode()
    _, program = nvrtc.nvrtcCreateProgram(source, b"kernels.cu", 0, [], [])
    options = [b"--gpu-architecture=compute_90"]
    options += [option.encode() for option in configure.cuda_compiler_options]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(log.decode())
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = b" " * size
    nvrtc.nvrtcGetPTX(program, ptx)
    text = ptx.decode()
    return [text.count(".entry"), len(cupy.sources())]


def main():
    """Collect, compile, run."""
    # The 77 neurons need three blocks.
    configure.cuda_threads = 32
    settings = {"shape": (4, 7, 11)}
    run(**settings)
    weighed()
    keeps_layout()
    half_is_float32_rounded()
    result = {"ptx": to_ptx()}
    if shutil.which("g++"):
        cupy.compile_all(Path(sys.argv[1]))
        result |= {
            "table": run(**settings),
            "weighed": weighed(),
            "layout": keeps_layout(),
            "half": half_is_float32_rounded(),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
