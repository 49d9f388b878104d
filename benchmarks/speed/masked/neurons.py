"""The neurons that are compared: the host's, the definition, the peer's and ours."""

from collections.abc import Callable

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from benchmarks.speed.masked.released import ReleasedMaskedLIF
from sj_ext import host
from sj_ext.neuron import MaskedLIFNode
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate

HOST = "host, unmasked"
TORCH = "masked, step by step"
OURS = "masked, ours"
RELEASED = "released procedure"

THRESHOLD, TAU = 0.5, 2.0
DROPPED = {HOST: 0.0, TORCH: 0.5, OURS: 0.5, RELEASED: 0.5}
"""The share of surrogate derivatives that each candidate drops."""


def neurons(backend: str, host_kernel: str) -> dict[str, Callable[[], nn.Module]]:
    """List the candidates.

    All are leaky neurons with the triangle 2 - 4|x| and a hard reset to 0 that is not
    detached.

    Args:
        backend: What ours runs on, see `sj_ext.neuron.MaskedNode`.
        host_kernel: What the host's runs on, see `host_kernels`.

    Returns:
        A factory of nodes in multi-step mode by candidate.
    """

    def masked(name: str, on: str) -> nn.Module:
        mask = BernoulliMask(DROPPED[name])
        return MaskedLIFNode(
            tau=TAU,
            v_threshold=THRESHOLD,
            surrogate_function=MaskedSurrogate(_triangle(), mask),
            step_mode="m",
            backend=on,
        )

    return {
        HOST: lambda: _hosts_own(host_kernel),
        TORCH: lambda: masked(TORCH, "torch"),
        OURS: lambda: masked(OURS, backend),
        RELEASED: lambda: ReleasedMaskedLIF(DROPPED[RELEASED], THRESHOLD, TAU),
    }


def host_kernels(device: torch.device) -> list[str]:
    """List what the host's own neuron can run on.

    Args:
        device: With its index.

    Returns:
        Names of its fused multi-step kernels for the device, or `["torch"]` where it
        has none. A release that chooses by itself has one at most.
    """
    if device.type != "cuda":
        return ["torch"]
    masked = MaskedSurrogate(_triangle(), BernoulliMask())
    dynamics = MaskedLIFNode(tau=TAU, surrogate_function=masked).dynamics()
    usable = [
        kernel
        for kernel in host.multi_step_backends()
        if kernel != "torch" and host.fused_refusal(kernel, dynamics, device) is None
    ]
    return usable or ["torch"]


def ran_on(net: nn.Module) -> str | None:
    """Say what the masked neurons of a network ran on in its last pass.

    Args:
        net: A network, or a single node.

    Returns:
        The backend, or backends, by name; None where no masked neuron ran.
    """
    nodes = (node for node in net.modules() if isinstance(node, MaskedLIFNode))
    found = {node.backend_in_use for node in nodes} - {None}
    return ", ".join(sorted(found)) or None


def _hosts_own(kernel: str) -> nn.Module:
    node = neuron.LIFNode(
        tau=TAU,
        v_threshold=THRESHOLD,
        surrogate_function=_triangle(),
        step_mode="m",
    )
    host.set_kernel(node, kernel)
    return node


def _triangle() -> nn.Module:
    return surrogate.PiecewiseQuadratic(alpha=2.0)
