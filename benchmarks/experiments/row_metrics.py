"""Which metrics the rows of a task can have; an experiment names one to compare by."""

import re
from collections.abc import Mapping

__all__ = ["ACCURACY", "METRICS_OF", "can_have", "refusal"]

ACCURACY = "test_accuracy"
"""Of the epoch that validation selected; what most experiments ask about."""

SIMILARITY = "cka_snn_and_ann"
"""Mean over layers."""

METRICS_OF: Mapping[str, tuple[str, ...]] = {
    "train": (
        ACCURACY,
        "last_epoch_accuracy",
        "best_on_test_accuracy",
        "mean_class_accuracy",
        "unweighted_accuracy",
        "validation_accuracy",
        "cross_entropy",
        "calibration_error",
        "gradient_density",
    ),
    "cka": (
        SIMILARITY,
        "{kind}_test_accuracy",
        "{kind}_accuracy_{words}",
        "{kind}_cka_attacked_{words}",
        "cka_{words}",
        "change_over_time_{words}",
    ),
    "fisher": (
        ACCURACY,
        "last_epoch_accuracy",
        "centroid_{measurement}_{when}",
        "relative_centroid_{measurement}_{when}",
    ),
    "prune": (
        ACCURACY,
        "last_epoch_accuracy",
        "sample_steps",
        "time_steps_of_rounds",
    ),
    "robustness": (
        ACCURACY,
        "worst_case_{words}_{budget}",
        "black_box_{words}_{budget}",
    ),
}
"""By task, first the one that arms are compared by where an experiment names none; what
stands in braces depends on the configuration."""

_PARTS = {
    "{kind}": "(snn|ann)",
    "{words}": r"\w+",
    "{measurement}": "(network|time_shuffled|stateless|true_labels|released)",
    "{when}": "(before|after)",
    "{budget}": r"\d+(\.\d+)?(e-?\d+)?",
}


def can_have(task: str, metric: str) -> bool:
    """Say whether a row of a task can be of a metric.

    Args:
        task: One of `METRICS_OF`.
        metric: Its name.

    Returns:
        Whether one of the task's names is it.
    """
    for pattern in METRICS_OF[task]:
        for part, expression in _PARTS.items():
            pattern = pattern.replace(part, expression)
        if re.fullmatch(pattern, metric):
            return True
    return False


def refusal(task: str, key: str, metric: str) -> str:
    """Say what is wrong with a metric that a key names.

    Args:
        task: One of `METRICS_OF`.
        key: Which names it.
        metric: Its name.

    Returns:
        A sentence; empty where nothing is wrong.
    """
    if can_have(task, metric):
        return ""
    return (
        f"Expected `{key}` to be a metric of the task {task} "
        f"({', '.join(METRICS_OF[task])}), got {metric}."
    )
