"""What the tests of several processes share."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_BEGIN = """
import sys
import torch
import torch.distributed as dist
torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", sys.argv[2], rank=rank, world_size=2)
"""
_END = """
dist.destroy_process_group()
"""


@pytest.fixture
def in_two_processes() -> Callable[[str], None]:
    """Run a script, which finds its `rank`, in two processes of one gloo group."""

    def run(script: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), root]))
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _BEGIN + script + _END, str(rank), address],
                env={**os.environ, "PYTHONPATH": path},
            )
            for rank in range(2)
        ]
        try:
            assert [process.wait(timeout=120) for process in processes] == [0, 0]
        finally:
            for process in processes:
                process.kill()

    return run
