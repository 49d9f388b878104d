"""The tasks that experiments can have, each with how its figures become rows."""

from importlib import import_module

from benchmarks.experiments.kinds.base import Kind, Measured, Origin, Wanted

__all__ = ["Kind", "Measured", "Origin", "Wanted", "kind_of"]

_KINDS = {
    "train": "Train",
    "cka": "Cka",
    "fisher": "Fisher",
    "prune": "Prune",
    "robustness": "Robustness",
}


def kind_of(task: str) -> Kind:
    """Give the kind of a task; imported when needed, as plots take seconds to load.

    Args:
        task: As experiments name it.

    Returns:
        The kind.
    """
    module = import_module(f"benchmarks.experiments.kinds.{task}")
    kind: Kind = getattr(module, _KINDS[task])()
    return kind
