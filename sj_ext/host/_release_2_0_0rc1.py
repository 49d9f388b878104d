"""SpikingJelly 2.0.0rc1: CuPy and Triton kernels, chosen by a node's `backend`."""

from spikingjelly.activation_based import neuron
from torch import nn

_SWAPPING_IN_EVAL = (neuron.IFNode, neuron.LIFNode, neuron.ComplementaryLIFNode)


def nodes_without_gradient_in_eval(net: nn.Module) -> list[nn.Module]:
    """List the neurons of `net` that pass no gradient while in eval mode.

    Returns:
        The nodes that replace their surrogate by a plain step function unless
        `training` is set, which has no other effect on them.
    """
    return [m for m in net.modules() if isinstance(m, _SWAPPING_IN_EVAL)]


def multi_step_backends() -> dict[str, str]:
    """Say which multi-step kernels this release has and how one is chosen.

    Returns:
        What each kernel runs on, by its name.
    """
    return {
        "torch": "any device; any surrogate",
        "triton": "CUDA; node.backend = 'triton' for IF, LIF, ParametricLIF",
        "cupy": "CUDA with CuPy; node.backend = 'cupy' for six multi-step neurons",
    }
