"""What the host's nodes keep to themselves: memories, step mode, stored potentials.

The same in every supported release.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import nn


def memories(node: nn.Module) -> dict[str, Any]:
    """Read the memories of a node.

    Args:
        node: A module of the host that has memories, or any other.

    Returns:
        The values themselves by name, in the node's order, in a dictionary of its own;
        an empty one if the node has none.
    """
    return dict(getattr(node, "_memories", {}))


def set_memories(node: nn.Module, values: Iterable[Any]) -> None:
    """Replace the memories of a node.

    Args:
        node: A module of the host that has memories.
        values: One for each memory, in the node's order.

    Raises:
        ValueError: If there are more or fewer values than memories.
    """
    kept: Any = node._memories
    for name, value in zip(kept, values, strict=True):
        kept[name] = value


def set_step_mode(node: nn.Module, step_mode: str) -> None:
    """Set a step mode without the host's setter, which refuses some.

    Args:
        node: A module of the host that has a step mode.
        step_mode: `"s"` or `"m"`; nothing checks whether the node supports it, or
            whether the kernel does that it is set to.
    """
    node.__dict__["_step_mode"] = step_mode


def set_store_v_seq(node: nn.Module, store_v_seq: bool) -> None:
    """Set whether potentials are stored, without dropping those that are.

    Args:
        node: A neuron of the host.
        store_v_seq: Whether its next multi-step pass stores them; the host's setter
            drops `v_seq` besides.
    """
    node.__dict__["_store_v_seq"] = store_v_seq


def twin(
    node: nn.Module,
    surrogate: nn.Module,
    states: Mapping[str, Any] | None = None,
    kind: type[nn.Module] | None = None,
    without: Collection[str] = (),
) -> Any:
    """Make a node that shares another's parameters but nothing that a pass changes.

    Args:
        node: A neuron of the host, or of a class derived from one.
        surrogate: Stands in for its `surrogate_function`.
        states: Memories of the twin by name, copied into a dictionary of its own; None
            starts from the values that those of `node` have.
        kind: The class of the twin; None takes that of `node`.
        without: Attributes of the node that the twin is to be without.

    Returns:
        The twin, which was not initialized: its parameters, buffers, hooks and
        settings are those of the node.
    """
    made: Any = object.__new__(type(node) if kind is None else kind)
    made.__dict__.update(
        (name, value) for name, value in node.__dict__.items() if name not in without
    )
    made.__dict__["_modules"] = {**node._modules, "surrogate_function": surrogate}
    made.__dict__["_memories"] = memories(node) if states is None else dict(states)
    return made
