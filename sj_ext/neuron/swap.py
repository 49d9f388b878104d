"""Masking all neurons of a network that is built already, and undoing it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import nn

from sj_ext import host
from sj_ext.neuron.masked import (
    MaskedEIFNode,
    MaskedIFNode,
    MaskedIzhikevichNode,
    MaskedLIFNode,
    MaskedNode,
    MaskedParametricLIFNode,
    MaskedQIFNode,
    check_backend,
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
    """What `mask_neurons` or `unmask_neurons` did; names are in the network's order.

    Attributes:
        swapped: Names of the neurons that became masked ones, or the host's again.
        left: Reason by name for each neuron that was left as it is.
        surrogate_only: Names of the neurons that kept their class, for want of a
            masked one, and had only their surrogate exchanged: they run on the
            steps of that class.
    """

    swapped: tuple[str, ...]
    left: Mapping[str, str]
    surrogate_only: tuple[str, ...] = ()


def mask_neurons(
    net: nn.Module,
    mask: MaskRule | Mapping[str, Any],
    base: SurrogateFunctionBase | str | None = None,
    base_kwargs: Mapping[str, Any] | None = None,
    backend: str = "auto",
) -> SwapReport:
    """Give every spiking neuron of `net` a masked surrogate, in place.

    Each neuron object stays the same one: its parameters, states, hooks and name are
    kept, and state dicts fit both ways between the masked and the plain network. A
    neuron of a class that has no masked one, a class of your own among them, keeps it
    and has its surrogate exchanged.

    Args:
        net: A built network, one of the host's models for instance.
        mask: A rule, or its JSON form; each neuron gets a copy of its own.
        base: Surrogate for all neurons; None keeps the one that each has.
        base_kwargs: Arguments of a base given by name.
        backend: As for `MaskedNode`; neurons that keep their class have none.

    Returns:
        Which neurons were changed, and why others were not.

    Raises:
        ValueError: If `backend` is unknown, or `net` has no neuron that can be
            masked; then nothing was changed.
    """
    check_backend(backend)
    swapped, surrogate_only, left = [], [], {}
    # Listed first: what is put in is not to be visited.
    for name, module in list(net.named_modules()):
        if not _is_neuron(module):
            continue
        reason = _reason_to_leave(module, mask)
        if reason is not None:
            left[name] = reason
            continue
        surrogate = MaskedSurrogate(
            copy.deepcopy(module.surrogate_function if base is None else base),
            copy.deepcopy(mask),
            base_kwargs,
        )
        surrogate.train(module.training)
        module.surrogate_function = surrogate
        if type(module) in _MASKED:
            module.__class__ = _MASKED[type(module)]
            module.backend = backend
            swapped.append(name)
        else:
            surrogate_only.append(name)
    if not swapped and not surrogate_only:
        raise ValueError(
            "Expected `net` to have neurons that can be masked, got "
            f"{type(net).__name__} with none"
            + "".join(f"; {name}: {reason}" for name, reason in left.items())
            + "."
        )
    _forget_what_is_reset(net)
    return SwapReport(tuple(swapped), left, tuple(surrogate_only))


def unmask_neurons(net: nn.Module) -> SwapReport:
    """Turn masked neurons into the host's own again, each with its base, in place.

    Args:
        net: A network with masked neurons, or with neurons whose surrogate is masked.

    Returns:
        Which neurons were changed; none is no error.
    """
    swapped, surrogate_only, left = [], [], {}
    for name, module in list(net.named_modules()):
        masked = isinstance(module, MaskedNode)
        surrogate = getattr(module, "surrogate_function", None)
        if masked and type(module) not in _MASKED.values():
            left[name] = f"there is no unmasked {type(module).__name__}"
            continue
        if isinstance(surrogate, MaskedSurrogate):
            module.surrogate_function = surrogate.base
            if not masked:
                surrogate_only.append(name)
        if masked:
            for attribute in ("_chosen_backend", "backend_in_use"):
                module.__dict__.pop(attribute, None)
            module.__class__ = module._host_class
            swapped.append(name)
    _forget_what_is_reset(net)
    return SwapReport(tuple(swapped), left, tuple(surrogate_only))


def _is_neuron(module: nn.Module) -> bool:
    is_node = isinstance(module, (neuron.BaseNode, neuron.SimpleBaseNode))
    return is_node or isinstance(
        getattr(module, "surrogate_function", None), SurrogateFunctionBase
    )


# These call their surrogate once, on the whole sequence.
_WHOLE_SEQUENCE = (neuron.PSN, neuron.MaskedPSN, neuron.SlidingPSN)


def _reason_to_leave(
    module: nn.Module, mask: MaskRule | Mapping[str, Any]
) -> str | None:
    if isinstance(module, MaskedNode):
        return "it is masked already"
    surrogate = getattr(module, "surrogate_function", None)
    if isinstance(surrogate, MaskedSurrogate):
        return "its surrogate is masked already"
    if not isinstance(surrogate, SurrogateFunctionBase):
        return f"its surrogate_function is {_kind(surrogate)}, no surrogate of the host"
    if type(module) in _MASKED:
        return None
    if isinstance(module, _WHOLE_SEQUENCE) and _tells_axes_apart(mask):
        return f"it shows its surrogate all steps as one, where {mask!r} needs them"
    return host.surrogate_refusal(module)


def _tells_axes_apart(mask: MaskRule | Mapping[str, Any]) -> bool:
    config = mask.config() if isinstance(mask, MaskRule) else mask
    return bool(config.get("shared")) or config.get("name") == "top_k"


def _kind(surrogate: object) -> str:
    return "missing" if surrogate is None else f"a {type(surrogate).__name__}"


def _forget_what_is_reset(net: nn.Module) -> None:
    # A surrogate may keep a mask from step to step, and the host lists what
    # `reset_net` resets only once.
    for module in net.modules():
        functional.invalidate_reset_cache(module)
