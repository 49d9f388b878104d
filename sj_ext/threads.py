"""Shares the work of compiled loops, which hold no lock, among threads."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def in_chunks(
    run: Callable[[int, int], None], length: int, chunk: int, threads: int
) -> None:
    """Run a loop in pieces, each thread taking the next when it is done with one.

    Args:
        run: Does the part of the loop from a start to a stop.
        length: Where the last part stops.
        chunk: Length of each part but the last.
        threads: How many work at most, the calling one among them.
    """
    if threads <= 1 or length <= chunk:
        if length:
            run(0, length)
        return
    waiting = deque(range(0, length, chunk))

    def work() -> None:
        while True:
            try:
                start = waiting.popleft()
            except IndexError:
                return
            run(start, min(start + chunk, length))

    # The calling thread works too, as torch's own does.
    others = [_pool().submit(work) for _ in range(min(threads, len(waiting)) - 1)]
    work()
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sj_ext")


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork.
    os.register_at_fork(after_in_child=_pool.cache_clear)
