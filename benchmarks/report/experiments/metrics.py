"""What the metrics of the table of results are called where people read them."""

import re
from collections.abc import Iterable, Sequence

from benchmarks.experiments.row_metrics import ACCURACY

OPTIMISTIC = "best_on_test_accuracy"
"""Selected on what it is measured on, as the literature's figures mostly are."""

_SHARES = {
    ACCURACY: "selected on validation",
    "last_epoch_accuracy": "last epoch",
    OPTIMISTIC: "best on test (optimistic)",
    "mean_class_accuracy": "mean over classes",
}
_UNITS = {
    "calibration_error": "%",
    "cross_entropy": "nats",
    "gradient_density": "%",
}
_UNITS_OF_STUDIES = {
    r".*accuracy.*|worst_case_.*|black_box_.*|relative_centroid_.*": "%",
    r"centroid_.*": "steps",
}

_WORDS = {
    "ann": "ANN",
    "anns": "ANNs",
    "cka": "CKA",
    "snn": "SNN",
    "snns": "SNNs",
}


def named(metric: str) -> str:
    """Say over a column what a metric is, without its unit."""
    return _SHARES.get(metric, in_words(metric))


def in_words(metric: str) -> str:
    """Say in a sentence what a metric is."""
    return " ".join(_WORDS.get(word, word) for word in metric.split("_"))


def unit(metric: str) -> str:
    """Give the unit of a metric; empty where none is known."""
    if metric in _UNITS:
        return _UNITS[metric]
    for pattern, found in _UNITS_OF_STUDIES.items():
        if re.fullmatch(pattern, metric):
            return found
    return ""


def unit_of_difference(metric: str) -> str:
    """Give the unit of a difference of two figures of a metric."""
    return "points" if unit(metric) == "%" else unit(metric)


def with_unit(words: str, of: str) -> str:
    """Put a unit behind words, if there is one."""
    return f"{words}, {of}" if of else words


def main_ones(metrics: Sequence[str], primary: str = ACCURACY) -> list[str]:
    """Pick those of the main table.

    Args:
        metrics: That an experiment has, in order.
        primary: The one that arms are compared by.

    Returns:
        The primary one and the accuracies of the test part; all where there are no
        such accuracies.
    """
    if not any(metric in _SHARES for metric in metrics):
        return list(metrics)
    return [metric for metric in metrics if metric in _SHARES or metric == primary]


def of_training(metric: str) -> bool:
    """Whether every training run has a metric, so that no study is about it."""
    return metric in _SHARES or metric in _UNITS or metric.endswith("accuracy")


def ordered(metrics: Iterable[str], primary: str = ACCURACY) -> list[str]:
    """Arrange metrics.

    Args:
        metrics: Any.
        primary: The one that arms are compared by.

    Returns:
        That one, the known ones in the order of the report, then the others.
    """
    known = [primary, *(metric for metric in _SHARES if metric != primary)]
    return sorted(
        set(metrics),
        key=lambda m: (known.index(m) if m in known else len(known), m),
    )
