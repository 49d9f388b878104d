"""One surrogate for all neurons while a network is measured or attacked."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from spikingjelly.activation_based import functional
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import nn

from sj_ext import host
from sj_ext.registry import create
from sj_ext.surrogate.masked import MaskedSurrogate


def build_probe(
    probe: SurrogateFunctionBase | str | Mapping[str, Any] | None,
) -> SurrogateFunctionBase | None:
    """Make a surrogate from its name.

    Args:
        probe: A surrogate, the name of a registered one, `{"name": ..., "alpha": ...}`
            with its arguments, or None.

    Returns:
        The surrogate, or None.

    Raises:
        TypeError: If it is something else, or a masked surrogate.
    """
    if isinstance(probe, str):
        probe = create("surrogate", probe)
    elif isinstance(probe, Mapping) and "name" in probe:
        arguments = {key: value for key, value in probe.items() if key != "name"}
        probe = create("surrogate", probe["name"], **arguments)
    dense = isinstance(probe, SurrogateFunctionBase)
    if probe is not None and (not dense or isinstance(probe, MaskedSurrogate)):
        raise TypeError(
            "Expected `probe` to be an unmasked surrogate function of the host, its "
            f"name or None, got {probe!r}."
        )
    return probe


def probe_name(probe: SurrogateFunctionBase | None) -> str | None:
    """Say which surrogate it is, with its arguments: `ATan(alpha=2.0)`."""
    if probe is None:
        return None
    given = host.surrogate_arguments(probe).items()
    arguments = ", ".join(f"{name}={value!r}" for name, value in given)
    return f"{type(probe).__name__}({arguments})"


@contextmanager
def probed(net: nn.Module, probe: SurrogateFunctionBase | None) -> Iterator[None]:
    """Let every neuron of `net` differentiate its spikes through `probe`.

    The spikes stay the same. Afterwards each neuron has its own surrogate again.

    Args:
        net: A network; nothing happens if `probe` is None.
        probe: Copied for each neuron.

    Yields:
        Nothing.
    """
    nodes = [
        (module, module.surrogate_function)
        for module in net.modules()
        if isinstance(getattr(module, "surrogate_function", None), nn.Module)
    ]
    if probe is None or not nodes:
        yield
        return
    try:
        for node, _ in nodes:
            node.surrogate_function = copy.deepcopy(probe)
        _forget_resettable_modules(net)
        yield
    finally:
        for node, original in nodes:
            node.surrogate_function = original
        _forget_resettable_modules(net)


def _forget_resettable_modules(net: nn.Module) -> None:
    # The host notes once what `reset_net` resets, and a mask may be kept over time.
    for module in net.modules():
        functional.invalidate_reset_cache(module)
