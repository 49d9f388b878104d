"""NumPy archives read by several threads at once."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["read_in_threads"]


@contextmanager
def read_in_threads() -> Iterator[None]:
    """Keep CPython's parser safe while threads read NumPy archives.

    NumPy parses the header of each array with `ast.literal_eval`. Where CPython counts
    the depth of that in one place for all threads (3.11, cpython issue 106905), a
    garbage collection that falls into one thread's parsing lets another in, and either
    may fail with "SystemError: AST constructor recursion depth mismatch". So there is
    no cyclic garbage collection in this context; reference counts free nearly all.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
