"""What several processes measured, brought together: one place for `torch.distributed`.

Without an initialised process group, everything is as with one process.
"""

from collections.abc import Callable
from typing import Any

import torch.distributed as dist


def is_distributed() -> bool:
    """Tell whether a process group has been initialised."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Give the number of this process among all of them, 0 where it is the only one."""
    return dist.get_rank() if is_distributed() else 0


def states_of_all(
    state_dict: Callable[[], dict[str, Any]], group: dist.ProcessGroup | None = None
) -> list[dict[str, Any]] | None:
    """Gather the state of an accumulator from every process, in the order of ranks.

    Args:
        state_dict: Gives the state of this process; must survive pickling.
        group: The processes; None means all.

    Returns:
        The same list in every process, or None where no group has been initialised.
    """
    if not is_distributed():
        return None
    states: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(states, state_dict(), group=group)
    return states
