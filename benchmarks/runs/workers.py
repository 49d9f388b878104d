"""Many small jobs in several processes, each with one thread."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

import torch


def done_by_workers(
    do: Callable[..., None], jobs: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[int]:
    """Do jobs, several at a time, in their order.

    Args:
        do: Called with the words of each job; as these, it must survive pickling.
        jobs: The words.
        workers: Processes; one is this one.

    Yields:
        The number of each job as soon as it is done.
    """
    if workers == 1:
        for number, job in enumerate(jobs):
            do(*job)
            yield number
        return
    with pool_of(workers) as pool:
        futures = {pool.submit(do, *job): n for n, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            # After an error, what has not begun is not begun.
            for future in futures:
                future.cancel()


def pool_of(workers: int) -> ProcessPoolExecutor:
    """Make processes for jobs, which end with this one, even where it is killed.

    Args:
        workers: How many.

    Returns:
        The pool, to be closed.
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, spawn, initializer=_end_with_parent)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: Any) -> None:
    parent.join()
    # At once: a worker waits for jobs in C code, or is in the midst of one, which
    # whoever goes on with it resumes.
    os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: small networks gain nothing by more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
