"""Membrane potentials before and after the reset, without disturbing the pass.

A neuron's own single-step equations are run once more beside the pass, from the same
state. A surrogate that answers 0 leaves the charged potential h as the state, one that
answers the spikes of the pass leaves the potential v that it ends with.
"""

from typing import Any

import torch
from spikingjelly.activation_based import base, neuron
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext import host


def check_potential(name: str, node: nn.Module) -> None:
    """Check that a neuron has potentials before and after a reset.

    Args:
        name: Of the layer.
        node: A neuron of the host.

    Raises:
        TypeError: If it has none, as a PSN.
    """
    if (
        not isinstance(node, base.MemoryModule)
        or "v" not in host.memories(node)
        or not isinstance(getattr(node, "surrogate_function", None), nn.Module)
        or "s" not in node.supported_step_mode()
        or not _has_single_steps(type(node))
    ):
        raise TypeError(
            "Expected neurons with a potential `v` that is charged and reset step by "
            f"step, got {type(node).__name__} at {name!r}: leave it out of `layers`."
        )


def _has_single_steps(node: type[base.MemoryModule]) -> bool:
    own = (node.single_step_forward, node.single_step_functional_forward)
    given = base.MemoryModule
    return own != (given.single_step_forward, given.single_step_functional_forward)


def states(node: Any) -> dict[str, Any]:
    """Copy the memories of a neuron.

    Returns:
        Detached copies, by name.
    """
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else value
        for name, value in host.memories(node).items()
    }


@torch.no_grad()
def potentials(
    name: str, node: Any, before: dict[str, Any], inputs: Tensor, spikes: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the potentials of a pass that a neuron has just run.

    Args:
        name: Of the layer, for messages.
        node: A neuron of the host.
        before: Its `states` before the pass.
        inputs: What it was given, `[T, N, ...]`, or `[N, ...]` in single-step mode.
        spikes: What it answered, of the same shape.

    Returns:
        The potential before and after the reset, of the same shape.

    Raises:
        RuntimeError: If the neuron's equations do not give the spikes and the state
            of the pass again.
    """
    sequence = getattr(node, "step_mode", "s") == "m"
    steps = zip(
        inputs.detach() if sequence else [inputs.detach()],
        spikes.detach() if sequence else [spikes.detach()],
        strict=True,
    )
    state = before
    charged, reset = [], []
    for x, spike in steps:
        h, v, state = _step(name, node, state, x, spike)
        charged.append(h)
        reset.append(v)
    last = host.memories(node)["v"]
    # A fused kernel rounds otherwise than single steps do, no more.
    if not torch.allclose(reset[-1].float(), last.float(), rtol=1e-3, atol=1e-3):
        raise RuntimeError(_not_followed(name, node, "the state that it ended with"))
    if sequence:
        return torch.stack(charged), torch.stack(reset)
    return charged[0], last.detach().clone()


def _step(
    name: str, node: nn.Module, state: dict[str, Any], x: Tensor, spike: Tensor
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    silent = _Answer(None)
    _, charged = _run(node, silent, state, x)
    h = charged["v"]
    _check_charge(name, node, silent, h)
    for surrogate in (_Answer(spike), node.surrogate_function):
        output, after = _run(node, surrogate, state, x)
        if torch.equal(output.to(spike.dtype), spike):
            return h, after["v"], after
    raise RuntimeError(_not_followed(name, node, "its spikes"))


def _check_charge(name: str, node: nn.Module, asked: "_Answer", h: Tensor) -> None:
    threshold = getattr(node, "v_threshold", None)
    if not isinstance(threshold, float):
        return
    # Where a neuron asks twice, the first question is the one about the threshold.
    argument = asked.arguments[0]
    near = 1e-3 * max(1.0, float(h.abs().max()))
    if all(
        float((argument - one).abs().max()) > near
        for one in (h - threshold, h / threshold)
    ):
        raise RuntimeError(_not_followed(name, node, "its potential before the reset"))


def _not_followed(name: str, node: nn.Module, what: str) -> str:
    return (
        f"Expected {type(node).__name__} at {name!r} to have single-step equations "
        f"that give {what} again, got others: leave it out of `layers`."
    )


def _run(
    node: nn.Module, surrogate: Any, state: dict[str, Any], x: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    twin = host.twin(node, surrogate, states=state)
    host.set_step_mode(twin, "s")
    if isinstance(node, neuron.BaseNode):
        twin.store_v_seq = False
    host.set_kernel(twin, "torch")
    return twin.single_step_forward(x), host.memories(twin)


class _Answer(SurrogateFunctionBase):
    """A surrogate that answers what it was told, or 0, and keeps what it was asked."""

    def __init__(self, spike: Tensor | None) -> None:
        # Nodes in eval mode replace a surrogate that says it spikes.
        super().__init__(spiking=False)
        self._spike = spike
        self.arguments: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Answer."""
        self.arguments.append(x)
        if self._spike is None:
            return torch.zeros_like(x)
        return self._spike.to(x.dtype)
