"""Which layers of a network are meant: by name, glob, type or predicate."""

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeAlias, TypeGuard

from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import nn

Layers: TypeAlias = (
    str
    | type[nn.Module]
    | tuple[type[nn.Module], ...]
    | Callable[[str, nn.Module], bool]
    | Iterable["Layers"]
    | None
)
"""What `layers` of `taps` can be."""

_NEURONS = "spikingjelly.activation_based.neuron"
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrap(net: nn.Module) -> nn.Module:
    """See through `DataParallel` and `DistributedDataParallel`.

    Returns:
        The network inside, or `net` itself.
    """
    while isinstance(net, _WRAPPERS):
        net = net.module
    return net


def is_neuron(module: nn.Module) -> bool:
    """Tell whether a module is a neuron of the host, or derives from one."""
    return any(parent.__module__.startswith(_NEURONS) for parent in type(module).mro())


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module is a layer of its own.

    Returns:
        True for neurons of the host, whatever they hold, and for modules that hold
        none but surrogate functions.
    """
    return is_neuron(module) or all(
        isinstance(child, SurrogateFunctionBase) for child in module.children()
    )


def named_layers(net: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """List the modules of a network, but none that a leaf layer holds.

    Args:
        net: A module.
        name: Its own name.

    Yields:
        Names and modules, a module that has several names under the first. The network
        itself has the name of its class.
    """
    for found, module in _walk(net, name, set()):
        yield found or _own_name(net), module


def _walk(
    module: nn.Module, name: str, seen: set[nn.Module]
) -> Iterator[tuple[str, nn.Module]]:
    if module in seen:
        return
    seen.add(module)
    yield name, module
    if is_leaf(module):
        return
    for child_name, child in module.named_children():
        yield from _walk(child, f"{name}.{child_name}" if name else child_name, seen)


def select(net: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    """Find the layers that a user means.

    Args:
        net: A network without wrappers.
        layers: See `taps`.

    Returns:
        The layers by name, in the order of the network's definition.

    Raises:
        TypeError: If `layers` holds what is none of the above.
        ValueError: If something in it matches no layer.
    """
    parts = _Parts(net, dict(named_layers(net)), _by_whole_name(net))
    if layers is None:
        return {name: layer for name, layer in parts.layers.items() if is_leaf(layer)}
    found = _matching(parts, layers)
    # Parts of a neuron are found by their whole names alone.
    known = {**parts.layers, **parts.by_whole_name}
    return {name: layer for name, layer in known.items() if name in found}


class _Parts(NamedTuple):
    net: nn.Module
    layers: dict[str, nn.Module]
    by_whole_name: dict[str, nn.Module]


def _matching(parts: _Parts, layers: Layers) -> set[str]:
    found: set[str]
    net, known, by_whole_name = parts
    if isinstance(layers, str):
        if layers in by_whole_name:
            return {layers}
        leaf = is_leaf(net)
        found = {
            name
            for name, one in known.items()
            if (leaf or one is not net) and fnmatchcase(name, layers)
        }
        if not found:
            raise ValueError(_no_match(layers, list(known)))
    elif _are_types(layers):
        found = {name for name, layer in known.items() if isinstance(layer, layers)}
    elif callable(layers):
        # A network that has parts is no layer by name: to predicates it has none.
        whole = None if is_leaf(net) else net
        found = {
            name
            for name, layer in known.items()
            if layers("" if layer is whole else name, layer)
        }
    elif isinstance(layers, Iterable):
        items = list(layers)
        if not items:
            raise ValueError("Expected `layers` to name something, got nothing.")
        return set().union(*(_matching(parts, item) for item in items))
    else:
        raise TypeError(
            "Expected `layers` to be names, globs, types or predicates, got "
            f"{layers!r}."
        )
    if not found:
        raise ValueError(
            f"Expected `layers` to match something, got {layers!r}, which matches no "
            f"layer of {type(net).__name__}."
        )
    return found


def _by_whole_name(net: nn.Module) -> dict[str, nn.Module]:
    return {name or _own_name(net): one for name, one in net.named_modules()}


def _own_name(net: nn.Module) -> str:
    """Name a network by its class, unless a part of it has that name."""
    name = type(net).__name__
    taken = any(one.split(".")[0] == name for one, _ in net.named_modules())
    return f"{name} itself" if taken else name


def _are_types(layers: object) -> TypeGuard[type | tuple[type, ...]]:
    return isinstance(layers, type) or (
        isinstance(layers, tuple)
        and bool(layers)
        and all(isinstance(one, type) for one in layers)
    )


def _no_match(pattern: str, names: list[str]) -> str:
    near = get_close_matches(pattern, names, n=5, cutoff=0.5) or names[:5]
    return (
        f"Expected `layers` to match layers of the network, got {pattern!r}, which "
        f"matches none. Near are: {', '.join(near) or 'no others'}."
    )
