"""The report of all experiments as one HTML file that fetches nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmarks.experiments.rows import Row
from benchmarks.report.experiments.heat_map import HeatMap
from benchmarks.report.experiments.metrics import of_training
from benchmarks.report.experiments.plots import WIDTH, Plot, plots_of
from benchmarks.report.experiments.summary import ExperimentSummary
from benchmarks.report.experiments.tables import (
    Column,
    grouped,
    main_table,
    other_table,
    sentences,
)
from sj_ext.files import write_text


@dataclass(frozen=True)
class Section:
    """An experiment as the page shows it.

    Attributes:
        experiment: At one size.
        columns: Of its table.
        others: Of a second one, with the other figures; empty without.
        said: What it shows, in sentences.
        plots: Below the table.
        provenance: Where its figures come from, by what is said.
    """

    experiment: ExperimentSummary
    columns: Sequence[Column]
    others: Sequence[Column]
    said: Sequence[str]
    plots: Sequence[Plot]
    provenance: Mapping[str, str]

    @property
    def is_study(self) -> bool:
        """Whether it is about more than what every training run has."""
        return not all(map(of_training, self.experiment.metrics))


def section(experiment: ExperimentSummary) -> Section:
    """Lay out an experiment.

    Args:
        experiment: At one size.

    Returns:
        What the page shows of it.
    """
    return Section(
        experiment,
        main_table(experiment),
        other_table(experiment),
        sentences(experiment),
        plots_of(experiment),
        provenance(experiment.rows),
    )


def provenance(rows: Sequence[Row]) -> dict[str, str]:
    """Say where figures come from; what differs between rows is listed.

    Args:
        rows: Of an experiment.

    Returns:
        Texts by what they are of.
    """

    def different(values: Sequence[object]) -> str:
        return ", ".join(dict.fromkeys(map(str, values)))

    dates = sorted(row.date for row in rows)
    return {
        "commit": different(
            [f"{r.commit[:10]}{'' if r.clean else ' with changes'}" for r in rows]
        ),
        "SpikingJelly": different([row.spikingjelly for row in rows]),
        "torch": different([row.torch for row in rows]),
        "Python": different([row.python for row in rows]),
        "device": different(
            [f"{r.device} ({r.processor}, {_threads(r.threads)})" for r in rows]
        ),
        "data": different([f"{r.data} ({r.data_checksum[:10]})" for r in rows]),
        "splits": different([f"{r.split} ({r.split_checksum[:10]})" for r in rows]),
        "epochs": different([row.epochs for row in rows]),
        "dates": dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}",
        "configurations": different([row.digest for row in rows]),
    }


def write_experiments(
    path: Path,
    experiments: Sequence[ExperimentSummary],
    maps: Sequence[HeatMap],
    environment: Mapping[str, Any],
    sources: Sequence[str],
) -> None:
    """Write the report.

    Args:
        path: The HTML file.
        experiments: In the order of the page.
        maps: Heat maps below them.
        environment: Where the page is written, as `describe_environment` gives it.
        sources: Names of the tables of results.
    """
    templates = Environment(
        loader=PackageLoader("benchmarks.report", "templates/experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["groups"] = grouped
    page = templates.get_template("page.html.j2").render(
        sections=[section(experiment) for experiment in experiments],
        maps=maps,
        facts=_facts(environment, sources),
        plot_width=WIDTH,
    )
    write_text(path, page)


def _facts(environment: Mapping[str, Any], sources: Sequence[str]) -> dict[str, str]:
    commit = environment["commit"] or "none: no git checkout"
    packages = environment["packages"]
    return {
        "tables of results": ", ".join(sources),
        "page written with commit": commit
        + (" with changes" if environment["dirty"] else ""),
        "SpikingJelly": environment["host"],
        "Python": environment["python"],
        "packages": ", ".join(f"{name} {found}" for name, found in packages.items()),
        "platform": environment["platform"],
        "processor": f"{environment['cpu']}, {_threads(environment['threads'])}",
        "GPU": environment["gpu"] or "none",
    }


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
