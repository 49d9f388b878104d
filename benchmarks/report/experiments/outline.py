"""What an experiment's file says of its table: title, order of arms, references."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.experiments.description import Size, available, read_experiment
from benchmarks.experiments.row_metrics import ACCURACY

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.%])")
_FEWEST_POINTS = 3


@dataclass(frozen=True)
class Sweep:
    """Arms that differ in one number of their labels.

    Attributes:
        label: What they have in common, with "..." in place of the number.
        axis: What the number is of.
        points: Number and label of each arm, in the order of the numbers.
    """

    label: str
    axis: str
    points: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Outline:
    """How an experiment is shown.

    Attributes:
        title: One line on what it asks.
        notes: Further lines.
        arms: Labels in the order of the file.
        references: What an arm is compared with, by its label; none of a reference,
            and none where the file's `reference` is not in the cell of an arm.
        primary: Metric that they are compared by.
    """

    title: str
    notes: tuple[str, ...]
    arms: tuple[str, ...]
    references: Mapping[str, str]
    primary: str = ACCURACY

    @property
    def sweeps(self) -> list[Sweep]:
        """Groups of at least three arms that differ in one number alone."""
        return sweeps(self.arms)


def outline_of(name: str, size: str, labels: Sequence[str]) -> Outline:
    """Look an experiment up; where it has no file its rows must do.

    Args:
        name: Of the experiment.
        size: `"demo"` or `"full"`.
        labels: Of the arms that have results, in the order of the rows.

    Returns:
        The outline.
    """
    if name not in available():
        # Nothing says what is compared with what, but for a name that does.
        return Outline(name, (), tuple(labels), _references(labels, "base"))
    found = read_experiment(name)
    which: Size = "demo" if size == "demo" else "full"
    planned = [cell.label for cell in found.cells(which)]
    order = [label for label in planned if label in labels]
    order += [label for label in labels if label not in planned]
    notes = [f"arXiv {found.paper}: {found.table}.", found.recipe]
    if size == "demo":
        notes.append(f"Demo size. {found.demo.note}")
    return Outline(
        found.title,
        tuple(note.strip() for note in notes if note.strip()),
        tuple(order),
        _references(order, found.compared_with),
        found.primary_of(which),
    )


def sweeps(labels: Sequence[str]) -> list[Sweep]:
    """Find arms that differ in one number alone.

    Args:
        labels: Of the arms.

    Returns:
        Groups of at least three, in the order of their first arm.
    """
    groups: dict[tuple[str, str], dict[float, str]] = {}
    for label in labels:
        for found in _NUMBER.finditer(label):
            ends = label[: found.start()], label[found.end() :]
            groups.setdefault(ends, {})[float(found[0])] = label
    return [
        Sweep(
            f"{before}...{after}",
            before.rpartition(",")[2].strip(" =") or "value",
            tuple(sorted(group.items())),
        )
        for (before, after), group in groups.items()
        if len(group) >= _FEWEST_POINTS
    ]


def _references(labels: Sequence[str], reference: str) -> dict[str, str]:
    """Pair arms with their reference, in the same cell of the grid or of all.

    Args:
        labels: Of the arms: each a name, then its cell.
        reference: A name, or a whole label.

    Returns:
        Labels by label; an arm without a reference in its cell is in no pair.
    """
    found = {}
    for label in labels:
        parts = label.split(", ")
        # The shortest cell first: names of arms may have commas, too.
        for first in range(len(parts), 0, -1):
            candidate = ", ".join([reference, *parts[first:]])
            if candidate in labels:
                if candidate != label:
                    found[label] = candidate
                break
    return found
