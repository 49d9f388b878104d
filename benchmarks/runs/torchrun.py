"""What torchrun tells its processes, and how they work side by side instead."""

import os
from dataclasses import dataclass

import torch

__all__ = ["Place", "place", "processes_here", "stand_alone"]

_SET_BY_TORCHRUN = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
    *("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"),
    *("TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_ERROR_FILE"),
)


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is.

    Attributes:
        rank: Counted from 0.
        size: How many there are; 1 without torchrun.
    """

    rank: int = 0
    size: int = 1


def place() -> Place:
    """Say which process of a group this one is, also of one that Fabric started."""
    rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
    return Place(int(rank), int(os.environ.get("WORLD_SIZE", "1")))


def processes_here() -> int | None:
    """Say how many processes torchrun started on this machine; None without it."""
    if not torch.distributed.is_torchelastic_launched():
        return None
    return int(os.environ["LOCAL_WORLD_SIZE"])


def stand_alone() -> Place:
    """Leave the group that torchrun would make, and see one GPU only.

    Processes take the visible GPUs in turn; several share one where there are fewer.
    To be called before anything is computed on a GPU. Without torchrun nothing changes.

    Returns:
        The place of this process in the group that it left.
    """
    left = place()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    for name in _SET_BY_TORCHRUN:
        os.environ.pop(name, None)
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        visible = [str(gpu) for gpu in range(torch.cuda.device_count())]
    else:
        visible = [gpu for gpu in listed.split(",") if gpu]
    if left.size > 1 and visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[local_rank % len(visible)]
    return left
