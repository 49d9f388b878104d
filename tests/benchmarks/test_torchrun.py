"""Each process of torchrun takes a GPU of its own and leaves the group."""

import os

import pytest
import torch

from benchmarks.runs.torchrun import Place, stand_alone


@pytest.fixture
def started(monkeypatch):
    """Set what torchrun sets for one of four processes on two machines."""

    def as_rank(rank, visible, there):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
        words = {"RANK": rank, "LOCAL_RANK": rank % 2, "WORLD_SIZE": 4}
        words |= {"LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "none"}
        for name, value in words.items():
            monkeypatch.setenv(name, str(value))
        # Set, so that what the test leaves is put back, before it is taken away.
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")

    return as_rank


@pytest.mark.parametrize(
    ("rank", "visible", "there", "taken"),
    [
        (3, None, 2, "1"),
        (2, None, 2, "0"),
        (3, "4,7", 2, "7"),
        (3, "MIG-a,MIG-b", 0, "MIG-b"),
        (3, "5", 1, "5"),
        (3, None, 0, None),
        (3, "", 0, ""),
    ],
)
def test_processes_take_the_visible_gpus_in_turn(started, rank, visible, there, taken):
    started(rank, visible, there)
    assert stand_alone() == Place(rank, 4)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == taken
    assert not torch.distributed.is_torchelastic_launched()
    assert "WORLD_SIZE" not in os.environ


def test_without_torchrun_all_gpus_stay_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert stand_alone() == Place(0, 1)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
