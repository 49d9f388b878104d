"""Loops compiled by numba at first use, and kept on disk where there is a place."""

from collections.abc import Callable
from typing import Any

import numba

_njit: Any = numba.njit
# The loops are memory-bound: what matters is that LLVM vectorises them. NumPy's rules
# of division take out a branch that prevents it.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function of arrays and numbers.

    Args:
        **options: Further ones of `numba.njit`.

    Returns:
        A decorator.
    """

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return _njit(cache=True, **_OPTIONS, **options)(function)
        except RuntimeError:
            # No folder that a cache could be written to.
            return _njit(**_OPTIONS, **options)(function)

    return decorated
