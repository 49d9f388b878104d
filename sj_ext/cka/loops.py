"""Loads the compiled loops at their first use, which takes a second."""

from typing import Any


def kernels() -> Any:
    """Give the module of the compiled loops."""
    from sj_ext.cka import _numba_kernels

    return _numba_kernels
