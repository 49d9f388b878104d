"""What the metrics of the table of results are called where people read them."""

from collections.abc import Iterable, Sequence

PRIMARY = "test_accuracy"
"""The metric that arms are compared by."""
OPTIMISTIC = "best_on_test_accuracy"
"""Selected on what it is measured on, as the literature's figures mostly are."""

_SHARES = {
    PRIMARY: "selected on validation",
    "last_epoch_accuracy": "last epoch",
    OPTIMISTIC: "best on test (optimistic)",
    "mean_class_accuracy": "mean over classes",
}
_UNITS = {
    "calibration_error": "%",
    "cross_entropy": "nats",
    "gradient_density": "%",
}


_WORDS = {
    "ann": "ANN",
    "anns": "ANNs",
    "cka": "CKA",
    "snn": "SNN",
    "snns": "SNNs",
}


def named(metric: str) -> str:
    """Say what a metric is, without its unit."""
    words = (_WORDS.get(word, word) for word in metric.split("_"))
    return _SHARES.get(metric, " ".join(words))


def unit(metric: str) -> str:
    """Give the unit of a metric; empty where none is known."""
    return "%" if "accuracy" in metric else _UNITS.get(metric, "")


def main_ones(metrics: Sequence[str]) -> list[str]:
    """Pick those of the main table: the accuracies of the test part, else all."""
    return [metric for metric in metrics if metric in _SHARES] or list(metrics)


def of_training(metric: str) -> bool:
    """Whether every training run has a metric, so that no study is about it."""
    return metric in _SHARES or metric in _UNITS or metric.endswith("accuracy")


def ordered(metrics: Iterable[str]) -> list[str]:
    """Arrange metrics: the known ones in the order of the report, then the others."""
    known = list(_SHARES)
    return sorted(
        set(metrics),
        key=lambda m: (known.index(m) if m in known else len(known), m),
    )
