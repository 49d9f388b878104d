"""SpikingJelly 2.0.0: native CUDA and Triton kernels, picked by the host itself."""

from spikingjelly.activation_based import neuron
from torch import nn


def nodes_without_gradient_in_eval(net: nn.Module) -> list[nn.Module]:
    """List the neurons of `net` that pass no gradient while in eval mode.

    Returns:
        The nodes that replace their surrogate by a plain step function unless
        `training` is set, which has no other effect on them.
    """
    return [m for m in net.modules() if isinstance(m, neuron.ComplementaryLIFNode)]


def multi_step_backends() -> dict[str, str]:
    """Say which multi-step kernels this release has and how one is chosen.

    Returns:
        What each kernel runs on, by its name.
    """
    return {
        "torch": "any device; any surrogate",
        "triton": "CUDA; chosen by the host for its seven fused surrogates",
        "cuda": "CUDA; chosen by the host where its native extension was built",
    }
