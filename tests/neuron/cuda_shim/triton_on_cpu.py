"""Run the table of equality on the host's Triton kernels under Triton's interpreter.

Started as a child process with TRITON_INTERPRET=1 and this folder on the path; prints
errors by case as JSON.
"""

import contextlib
import json
from importlib import import_module
from types import SimpleNamespace

import torch

# The launchers ask for CUDA tensors and select their device, the kernels do not.
torch.cuda.device = lambda _: contextlib.nullcontext()
torch._check = lambda *_: None

import substitution_table as table  # noqa: E402

from sj_ext import host  # noqa: E402

NEURONS = ("IF", "LIF", "ParametricLIF")


def call_triton_directly():
    """Put 2.0.0's Triton functions where its operators would choose by device."""
    from sj_ext.host import _release_2_0_0 as release

    release._operators = lambda name: SimpleNamespace(
        forward=_triton(name)._forward_impl, backward=_triton(name)._backward_impl
    )

    def _triton(name):
        return import_module(f"spikingjelly._ops.{release._FAMILIES[name]}.triton")


def let_scalars_be_indices():
    """Take a scalar out of its array of length 1, as NumPy no longer does unasked."""
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor

    def patch(tensor, scope):
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch


def leave_out_tuning():
    """Give each of rc1's kernels one configuration: tuning needs a device."""
    from sj_ext.host import _release_2_0_0rc1 as release

    for name in release._TRITON_MODULES.values():
        for kernel in vars(import_module(f"{release._TRITON}.{name}")).values():
            if hasattr(kernel, "configs"):
                kernel.configs = kernel.configs[:1]


def main():
    """Run the cases that differ in the kernel, and all surrogates on one."""
    let_scalars_be_indices()
    if host.RELEASE == "2.0.0":
        call_triton_directly()
    else:
        leave_out_tuning()
    kernels = table.Kernels()
    # More neurons than the 128 or 256 of one block.
    settings = {"shape": (3, 5, 60)}
    errors = table.whole_table("triton", kernels, NEURONS, ("ATan",), **settings)
    errors |= table.whole_table(
        "triton", kernels, ("LIF",), tuple(table.BASES), **settings
    )
    print(json.dumps({"table": errors}))


if __name__ == "__main__":
    main()
