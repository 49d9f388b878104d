"""The host's surrogate functions by name; the same in every supported release."""

from typing import Any

from spikingjelly.activation_based import surrogate


def surrogate_classes() -> dict[str, type[surrogate.SurrogateFunctionBase]]:
    """Find the host's surrogate functions.

    Returns:
        Class by class name, such as `{"ATan": ATan, ...}`, without the base class.
    """
    return {
        name: member
        for name, member in vars(surrogate).items()
        if isinstance(member, type)
        and issubclass(member, surrogate.SurrogateFunctionBase)
        and member is not surrogate.SurrogateFunctionBase
    }


def surrogate_arguments(function: surrogate.SurrogateFunctionBase) -> dict[str, Any]:
    """Read back the arguments that a surrogate function keeps, but `spiking`."""
    return dict(function._sg_params)
