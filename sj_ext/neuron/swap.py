"""Masking all neurons of a network that is built already, and undoing it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import nn

from sj_ext.neuron.masked import (
    MaskedEIFNode,
    MaskedIFNode,
    MaskedIzhikevichNode,
    MaskedLIFNode,
    MaskedNode,
    MaskedParametricLIFNode,
    MaskedQIFNode,
)
from sj_ext.surrogate import MaskedSurrogate, MaskRule

_MASKED: dict[type[nn.Module], type[MaskedNode]] = {
    masked._host_class: masked
    for masked in (
        MaskedIFNode,
        MaskedLIFNode,
        MaskedParametricLIFNode,
        MaskedQIFNode,
        MaskedEIFNode,
        MaskedIzhikevichNode,
    )
}


@dataclass(frozen=True)
class SwapReport:
    """What `mask_neurons` or `unmask_neurons` did.

    Attributes:
        swapped: Names of the neurons that were changed, in the network's order.
        left: Reason by name for each neuron that was left as it is.
    """

    swapped: tuple[str, ...]
    left: Mapping[str, str]


def mask_neurons(
    net: nn.Module,
    mask: MaskRule | Mapping[str, Any],
    base: SurrogateFunctionBase | str | None = None,
    base_kwargs: Mapping[str, Any] | None = None,
    backend: str = "auto",
) -> SwapReport:
    """Give every spiking neuron of `net` a masked surrogate, in place.

    Each neuron object stays the same one: its parameters, states, hooks and name are
    kept, and state dicts fit both ways between the masked and the plain network.

    Args:
        net: A built network, one of the host's models for instance.
        mask: A rule, or its JSON form; each neuron gets a copy of its own.
        base: Surrogate for all neurons; None keeps the one that each has.
        base_kwargs: Arguments of a base given by name.
        backend: As for `MaskedNode`.

    Returns:
        Which neurons were changed, and why others were not.

    Raises:
        ValueError: If `net` has no neuron that can be masked.
    """
    swapped, left = [], {}
    for name, module in net.named_modules():
        if not _is_neuron(module):
            continue
        reason = _reason_to_leave(module)
        if reason is not None:
            left[name] = reason
            continue
        surrogate = MaskedSurrogate(
            copy.deepcopy(module.surrogate_function if base is None else base),
            copy.deepcopy(mask),
            base_kwargs,
        )
        surrogate.train(module.training)
        module.__class__ = _MASKED[type(module)]
        module.surrogate_function = surrogate
        module.backend = backend
        swapped.append(name)
    if not swapped:
        raise ValueError(
            "Expected `net` to have neurons that can be masked, got "
            f"{type(net).__name__} with none"
            + "".join(f"; {name}: {reason}" for name, reason in left.items())
            + "."
        )
    return SwapReport(tuple(swapped), left)


def unmask_neurons(net: nn.Module) -> SwapReport:
    """Turn masked neurons into the host's own again, each with its base, in place.

    Args:
        net: A network with masked neurons.

    Returns:
        Which neurons were changed; none is no error.
    """
    swapped = []
    for name, module in net.named_modules():
        if isinstance(module, MaskedNode):
            base = module.surrogate_function.base
            del module._chosen_backend
            module.__dict__.pop("backend_in_use", None)
            module.__class__ = module._host_class
            module.surrogate_function = base
            swapped.append(name)
    return SwapReport(tuple(swapped), {})


def _is_neuron(module: nn.Module) -> bool:
    is_node = isinstance(module, (neuron.BaseNode, neuron.SimpleBaseNode))
    return is_node or isinstance(
        getattr(module, "surrogate_function", None), SurrogateFunctionBase
    )


def _reason_to_leave(module: nn.Module) -> str | None:
    if isinstance(module, MaskedNode):
        return "it is masked already"
    if type(module) not in _MASKED:
        return f"there is no masked {type(module).__name__}"
    if isinstance(module.surrogate_function, MaskedSurrogate):
        return "its surrogate is masked already"
    return None
