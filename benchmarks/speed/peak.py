"""Peak memory of a piece of work, each in a process of its own.

What ran before in the same process leaves freed pages and grown pools behind, so that
two candidates measured one after the other would not start alike.
"""

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.runs.workers import pool_of

Work = Callable[[], object]
_PASSES = 2


def peak_bytes(
    make: Callable[[], Work], warm_up: Callable[[], Work], device: torch.device
) -> int:
    """Measure the most memory that some work needs at once.

    A new process runs the small work of `warm_up`, which loads compilers and
    libraries, makes the real one, and runs it twice: what the first pass leaves, such
    as an optimizer's state, is there in the second. What `make` allocates (a network,
    its input) is not counted.

    Args:
        make: Makes the work; like `warm_up` it must be picklable.
        warm_up: Makes the same work with tiny shapes.
        device: Where it runs.

    Returns:
        On a CPU the growth of the process's resident memory to its peak, in bytes; on
        a CUDA device that of the memory which torch has allocated there.
    """
    with pool_of(1) as pool:
        threads = torch.get_num_threads()
        return pool.submit(_measure, make, warm_up, device, threads).result()


def _measure(
    make: Callable[[], Work],
    warm_up: Callable[[], Work],
    device: torch.device,
    threads: int,
) -> int:
    torch.set_num_threads(threads)
    _passes(warm_up())
    work = make()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _passes(work)
        return torch.cuda.max_memory_allocated(device) - before
    before = _begin_in_process()
    _passes(work)
    return max(0, _peak_of_process() - before)


def _passes(work: Work) -> None:
    for _ in range(_PASSES):
        work()


def _begin_in_process() -> int:
    _give_free_memory_back()
    try:
        # Linux: lets the peak fall to what is resident now.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status("VmRSS")
    except OSError:
        return _peak_of_process()


def _peak_of_process() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        # A peak that never falls: too small a growth where the warm-up reached higher.
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _give_free_memory_back() -> None:
    # Free pages that stay with the allocator would serve the work unseen.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
