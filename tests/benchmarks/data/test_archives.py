"""Threads that read NumPy archives side by side do not disturb each other."""

import ast
import gc
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.data.archives import read_in_threads

HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2, 34, 34), }"


class Cycle:
    """Garbage whose collection lets other threads in."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        time.sleep(0.0001)


def parse(depth):
    return parse(depth - 1) if depth else ast.literal_eval(HEADER)


def work(depth):
    for _ in range(200):
        Cycle()
        assert parse(depth)["shape"] == (4, 2, 34, 34)


def test_headers_are_parsed_by_threads_of_all_depths():
    thresholds = gc.get_threshold()
    gc.set_threshold(13)
    try:
        with read_in_threads(), ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(work, range(4)))) == 4
    finally:
        gc.set_threshold(*thresholds)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_afterwards_as_it_was(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with read_in_threads():
            assert not gc.isenabled()
        with pytest.raises(KeyError), read_in_threads():
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
