"""`python -m benchmarks fisher --config FILE`: information through training."""

import csv
import io
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import fisher as figures
from benchmarks.report.page import Picture, Table, write_page
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.folder import now
from benchmarks.runs.progress import Reporter, duration
from benchmarks.studies.fisher.config import FisherConfig, read
from benchmarks.studies.fisher.runs import Followed, follow
from sj_ext.files import write_text
from sj_ext.fisher import FisherResult

_COLUMNS = (
    "run",
    "test accuracy",
    "centroid before",
    "after",
    "time-shuffled, after",
    "stateless, before",
    "stateless, after",
    "true labels, after",
    "released, after",
    "bias of the released centroid",
)


_EQUAL_STEPS = "none: equal steps"
"""In place of a centroid on time-shuffled input, which is the input itself."""


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read a configuration from the command line, train, measure, and report."""
    study(read(arguments), reporter)


def study(config: FisherConfig, reporter: Reporter) -> Path:
    """Follow Fisher information through training, or go on where that stopped.

    Written into the study's folder, each file once it is complete: `config.yaml`,
    `networks/` with the training runs, a folder of results for each run,
    `profiles.csv`, `centroids.csv`, `plots/`, `report.html` and, last, `result.json`.

    Args:
        config: All that determines the study.
        reporter: Shows progress.

    Returns:
        The study's folder.
    """
    start = time.perf_counter()
    folder = config.folder
    if (folder / "result.json").exists():
        reporter.line(f"{config.name}: already complete, see {folder / 'report.html'}")
        return folder
    write_text(folder / "config.yaml", config.to_yaml())
    found = [follow(config, arm, reporter) for arm in config.arms()]
    environment = describe_environment()
    write_text(folder / "profiles.csv", _csv(_profile_rows(found)))
    write_text(folder / "centroids.csv", _csv(_centroid_rows(found)))
    table = Table(_COLUMNS, [_cells(one) for one in found])
    _write_report(folder / "report.html", config, found, table, environment)
    content = {
        "digest": config.digest(),
        "samples": config.samples,
        "batch_size": config.batch_size,
        "released_batch_size": config.released_batch_size,
        "columns": table.columns,
        "rows": table.rows,
        "runs": [_summary(one) for one in found],
        "seconds": time.perf_counter() - start,
        "environment": environment,
        "ended": now(),
    }
    write_text(folder / "result.json", json.dumps(content, indent=1) + "\n")
    for row in table.rows:
        named = zip(_COLUMNS[1:], row[1:], strict=True)
        reporter.line(f"{row[0]}: {', '.join(f'{n} {v}' for n, v in named)}")
    reporter.line(f"report: {(folder / 'report.html').absolute()}")
    reporter.line(f"plots:  {(folder / 'plots').absolute()}")
    reporter.line(f"took {duration(time.perf_counter() - start)}")
    return folder


def _ends(followed: Followed, name: str) -> tuple[FisherResult, FisherResult]:
    """Give the results before training and after it."""
    results = list(followed.profiles[name].values())
    return results[0], results[-1]


def _cells(followed: Followed) -> list[str]:
    accuracy = followed.run.read_result()["test_accuracy"]["last"]
    before, after = _ends(followed, "network")
    null_before, null_after = _ends(followed, "stateless")
    _, exact = _ends(followed, "true-labels")
    _, released = _ends(followed, "released")
    bias = released.information_centroid - exact.information_centroid
    shuffled = _EQUAL_STEPS
    if "time-shuffled" in followed.profiles:
        shuffled = _said(_ends(followed, "time-shuffled")[1])
    return [
        followed.arm.label,
        f"{accuracy:.1%}",
        _said(before),
        _said(after),
        shuffled,
        *map(_said, (null_before, null_after, exact, released)),
        f"{bias:+.2f}",
    ]


def _said(result: FisherResult) -> str:
    return f"{result.information_centroid:.2f} ± {result.centroid_standard_error:.2f}"


def _summary(followed: Followed) -> dict[str, Any]:
    """Say in numbers what the figures of a run show; undefined ones are null."""
    return {
        "label": followed.arm.label,
        "settings": dict(followed.arm.settings),
        "network": followed.run.path.name,
        "test_accuracy": followed.run.read_result()["test_accuracy"],
        "profiles": {
            name: {str(epoch): _numbers(result) for epoch, result in profiles.items()}
            for name, profiles in followed.profiles.items()
        },
    }


def _numbers(result: FisherResult) -> dict[str, Any]:
    return {
        "centroid": _number(result.information_centroid),
        "centroid_standard_error": _number(result.centroid_standard_error),
        "information": [_number(value) for value in result.total.tolist()],
        "standard_error": [_number(value) for value in result.standard_error.tolist()],
        "loss": [_number(value) for value in result.prefix_loss.tolist()],
        "accuracy": [_number(value) for value in result.prefix_accuracy.tolist()],
        "confidence": [_number(value) for value in result.prefix_confidence.tolist()],
        "samples": result.samples,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _each(
    found: Sequence[Followed],
) -> Iterator[tuple[tuple[str, str, int], FisherResult]]:
    for one in found:
        for name, profiles in one.profiles.items():
            for epoch, result in profiles.items():
                yield (one.arm.label, name, epoch), result


def _profile_rows(found: Sequence[Followed]) -> Iterator[Sequence[object]]:
    yield ["run", "measurement", "epoch", "layer", "step", "information", "error"]
    for key, result in _each(found):
        parts = {"total": (result.total, result.standard_error)}
        for layer, values in result.per_layer.items():
            parts[layer] = (values, result.layer_standard_error[layer])
        for layer, (values, errors) in parts.items():
            columns = zip(result.steps, values.tolist(), errors.tolist(), strict=True)
            for row in columns:
                yield [*key, layer, *row]


def _centroid_rows(found: Sequence[Followed]) -> Iterator[Sequence[object]]:
    yield ["run", "measurement", "epoch", "layer", "centroid", "error"]
    for key, result in _each(found):
        error = result.centroid_standard_error
        yield [*key, "total", result.information_centroid, error]
        for layer in result.per_layer:
            yield [*key, layer, result.layer_centroid(layer), ""]


def _csv(rows: Iterator[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _write_report(
    path: Path,
    config: FisherConfig,
    found: Sequence[Followed],
    table: Table,
    environment: Mapping[str, Any],
) -> None:
    write_page(
        path,
        title=f"Fisher information of the prefixes through training: {config.name}",
        introduction=[
            "I_t is the trace of the Fisher information of what the network answers "
            "after t steps: how much that answer depends on the weights. It is not the "
            "information that arrives at step t, and it falls as a network grows "
            "confident, whatever happens in time. So a centroid that moves to early "
            f"steps means nothing by itself: {_criterion(found)}",
            f"Exact by sample on {config.samples} test samples, labels drawn from the "
            "network; true labels where that is said. Released: the squared mean "
            f"gradient of batches of {config.released_batch_size}. Errors are standard "
            "errors over samples (released: over batches), one network each.",
        ],
        table=table,
        pictures=_pictures(config, found),
        facts={
            "samples": f"test part of {config.train.data.name}",
            **{k: v for k, v in environment.items() if not isinstance(v, (dict, list))},
        },
    )


def _criterion(found: Sequence[Followed]) -> str:
    """Say what a centroid has to be held against, by what was measured."""
    stateless = (
        "that of a linear readout without any state, trained on steps that are "
        "independent draws from one distribution"
    )
    still = [one.arm.label for one in found if "time-shuffled" not in one.profiles]
    if len(still) < len(found):
        text = (
            "it has to move further than that of the same network on time-shuffled "
            f"input, and than {stateless}."
        )
    else:
        text = f"it has to move further than {stateless}."
    if still:
        whose = "" if len(still) == len(found) else f" of {'; '.join(still)}"
        text += (
            f" All steps of the data{whose} are equal, so time-shuffled input would be "
            "the same input: that null says nothing there and is left out, and the "
            "claim rests on the stateless null alone, which sees other steps than the "
            "network does."
        )
    return text


def _pictures(config: FisherConfig, found: Sequence[Followed]) -> list[Picture]:
    pictures = []
    for one in found:
        profiles, stem = one.profiles, one.arm.folder
        title = ": ".join([config.name, *([one.arm.label] if config.sweep else [])])
        pictures += [
            Picture(
                f"profiles_{stem}",
                figures.profiles(profiles, title),
                "Fisher information over the length of the prefix, epoch by epoch: of "
                "the network, of the same trained network given time-shuffled input "
                "(where steps differ), and of a stateless readout on steps that are "
                "independent draws from one distribution; and the centroids of all.",
            ),
            Picture(
                f"centroids_{stem}",
                figures.centroids(profiles, title),
                "The information centroid through training, with standard errors and "
                "the nulls; and the centroid of every layer.",
            ),
            Picture(
                f"bias_{stem}",
                figures.bias(profiles, title),
                "What the released procedure gives, beside the exact empirical Fisher "
                "information of the same samples. Without bias the ratio would be 1.",
            ),
            Picture(
                f"answers_{stem}",
                figures.answers(profiles["network"], title),
                "What the prefixes answer: loss, accuracy, and mean largest "
                "probability.",
            ),
            Picture(
                f"layers_{stem}",
                figures.layers(profiles["network"], title),
                "Fisher information of every layer, before training and after it.",
            ),
        ]
    if len(found) > 1:
        pictures.append(
            Picture(
                "sweep",
                figures.sweep({one.arm.label: one.profiles for one in found}),
                "The information centroid through training, run by run, each with its "
                "nulls.",
            )
        )
    return pictures
