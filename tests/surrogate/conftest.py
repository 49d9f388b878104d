"""What the tests of several processes share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_BEGIN = """
import os
import sys
import torch
import torch.distributed as dist
torch.set_num_threads(1)
rank = int(sys.argv[1])
store = f"file://{sys.argv[2]}/store"
dist.init_process_group("gloo", store, rank=rank, world_size=2)
"""
_END = """
dist.barrier()
sys.stdout.flush()
os._exit(0)  # gloo's threads can abort a process that leaves in the usual way
"""


@pytest.fixture
def in_two_processes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], None]:
    """Run a script, which finds its `rank`, in two processes of one gloo group."""

    def run(script: str) -> None:
        folder = str(tmp_path_factory.mktemp("group"))
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), root]))
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _BEGIN + script + _END, str(rank), folder],
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
