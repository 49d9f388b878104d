"""`python -m benchmarks cka`: compare spiking networks with their ANN twins by CKA."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import cka as figures
from benchmarks.report.page import Picture, Table, write_page
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.folder import RunFolder, now
from benchmarks.runs.progress import Reporter, duration
from benchmarks.studies.cka.arms import Arm, arms, label
from benchmarks.studies.cka.attacked import measure_attacked
from benchmarks.studies.cka.comparisons import measure
from benchmarks.studies.cka.config import CkaConfig, read
from benchmarks.studies.cka.curves import (
    Curve,
    attacked_curves,
    similarity_curves,
    time_curves,
    to_csv,
)
from benchmarks.tasks.train import train
from sj_ext.cka import CKAResult
from sj_ext.files import write_text

_COLUMNS = (
    "networks",
    "SNN accuracy",
    "ANN accuracy",
    "SNN and ANN",
    "two SNNs",
    "two ANNs",
    "untrained",
    "permuted",
    "SNN change",
    "ANN change",
)


@dataclass(frozen=True)
class _Compared:
    """An arm with what was found."""

    arm: Arm
    accuracy: dict[str, list[float]]
    results: dict[str, CKAResult]
    similarity: list[Curve]
    change: list[Curve]
    attacked: dict[str, list[Curve]]
    accuracy_under_attack: dict[str, dict[str, float]]


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read a configuration from the command line, train, compare, and report."""
    compare(read(arguments), reporter)


def compare(config: CkaConfig, reporter: Reporter) -> Path:
    """Train the networks of a comparison and compare them, or go on where it stopped.

    Written into the comparison's folder, each file once it is complete: `config.yaml`,
    a folder of results for each arm, `similarity.csv`, `time.csv`, `plots/`,
    `report.html` and, last, `result.json`; with an attack also `attacked.csv`.

    Args:
        config: All that determines the comparison.
        reporter: Shows progress.

    Returns:
        The comparison's folder.
    """
    start = time.perf_counter()
    folder = Path(config.output) / f"{config.name}-{config.digest()}"
    if (folder / "result.json").exists():
        reporter.line(f"{config.name}: already complete, see {folder / 'report.html'}")
        return folder
    write_text(folder / "config.yaml", config.to_yaml())
    found = []
    for arm in arms(config):
        accuracy = {
            kind: [_accuracy(train(training, reporter)) for training in trainings]
            for kind, trainings in (("snn", arm.snn), ("ann", arm.ann))
        }
        results = measure(arm, config, folder / arm.folder, reporter)
        similarity = similarity_curves(results, config.resamples)
        attacked, under_attack = _attacked(arm, config, folder, reporter)
        found.append(
            _Compared(
                arm,
                accuracy,
                results,
                similarity,
                time_curves(results),
                attacked,
                under_attack,
            )
        )
    environment = describe_environment()
    _write_tables(folder, found)
    _write_report(folder / "report.html", config, found, environment)
    content = {
        "digest": config.digest(),
        "arms": [_summary(compared) for compared in found],
        "environment": environment,
        "ended": now(),
    }
    write_text(folder / "result.json", json.dumps(content, indent=1) + "\n")
    reporter.line(f"report: {(folder / 'report.html').absolute()}")
    reporter.line(f"plots:  {(folder / 'plots').absolute()}")
    reporter.line(f"took {duration(time.perf_counter() - start)}")
    return folder


def _attacked(
    arm: Arm, config: CkaConfig, folder: Path, reporter: Reporter
) -> tuple[dict[str, list[Curve]], dict[str, dict[str, float]]]:
    if config.attack is None:
        return {}, {}
    results, accuracy = measure_attacked(arm, config, folder / arm.folder, reporter)
    curves = {
        kind.upper(): attacked_curves(found, config.resamples)
        for kind, found in results.items()
    }
    return curves, accuracy


def _accuracy(folder: RunFolder) -> float:
    return folder.read_result()["test_accuracy"]["selected"]


def _summary(compared: _Compared) -> dict[str, Any]:
    """Say in numbers what the figures of an arm show; undefined ones are null."""
    first = next(iter(compared.results.values()))
    return {
        "label": compared.arm.label,
        "settings": dict(compared.arm.settings),
        "networks": [
            RunFolder(training).path.name
            for training in (*compared.arm.snn, *compared.arm.ann)
        ],
        "test_accuracy": compared.accuracy,
        "samples": first.samples,
        "batches": first.batches,
        "mean_cka": {curve.label: _number(curve) for curve in compared.similarity},
        "mean_change": {curve.label: _number(curve) for curve in compared.change},
        **(
            {
                "accuracy_under_attack": compared.accuracy_under_attack,
                "mean_cka_under_attack": {
                    kind: {curve.label: _number(curve) for curve in curves}
                    for kind, curves in compared.attacked.items()
                },
            }
            if compared.attacked
            else {}
        ),
        "constant_layers": {
            name: sorted({*result.x.constant, *result.y.constant})
            for name, result in compared.results.items()
            if result.x.constant or result.y.constant
        },
    }


def _number(curve: Curve) -> float | None:
    return None if curve.mean != curve.mean else curve.mean


def _write_tables(folder: Path, found: Sequence[_Compared]) -> None:
    similarity = [(c.arm.label, curve) for c in found for curve in c.similarity]
    change = [(c.arm.label, curve) for c in found for curve in c.change]
    write_text(folder / "similarity.csv", to_csv(similarity, "cka"))
    write_text(folder / "time.csv", to_csv(change, "change"))
    attacked = [
        (f"{c.arm.label}, {kind}", curve)
        for c in found
        for kind, curves in c.attacked.items()
        for curve in curves
    ]
    if attacked:
        write_text(folder / "attacked.csv", to_csv(attacked, "cka"))
    for compared in found:
        pairs = folder / compared.arm.folder / "snn-ann.csv"
        compared.results["snn-ann"].to_csv(pairs)


def _write_report(
    path: Path,
    config: CkaConfig,
    found: Sequence[_Compared],
    environment: Mapping[str, Any],
) -> None:
    first = next(iter(found[0].results.values()))
    write_page(
        path,
        title=f"Spiking networks beside their ANN twins: {config.name}",
        introduction=[
            "Linear CKA with the unbiased HSIC, steps concatenated, between layers of "
            "a spiking network and of an ANN that differs in the neuron alone, on "
            f"{first.samples} test samples in {first.batches} batches. The two "
            "networks of a comparison never have the same seed.",
            "The ceiling is how alike two networks of one kind are; the floor are "
            "networks before training (with batch statistics of the training part) and "
            "networks that see different samples. Bands are 95% intervals over "
            "batches, not over seeds. Figures of the table are means over the layers; "
            "change is the mean of 1 - CKA between different time steps of a layer.",
        ],
        table=Table(_COLUMNS, [_row(compared) for compared in found]),
        pictures=_pictures(config, found),
        facts={
            "samples": f"test part of {config.train.data.name}",
            "seeds": ", ".join(map(str, config.seeds)),
            **{k: v for k, v in environment.items() if not isinstance(v, (dict, list))},
        },
    )


def _row(compared: _Compared) -> list[str]:
    accuracy = [
        " / ".join(f"{share:.1%}" for share in compared.accuracy[kind])
        for kind in ("snn", "ann")
    ]
    change = {curve.label: curve for curve in compared.change}
    shown = [*compared.similarity, change["SNN"], change["ANN"]]
    return [compared.arm.label, *accuracy, *(f"{curve.mean:.2f}" for curve in shown)]


def _pictures(config: CkaConfig, found: Sequence[_Compared]) -> list[Picture]:
    pictures = [
        Picture(
            f"snn_against_ann_{compared.arm.folder}",
            figures.against(
                compared.results["snn-ann"], compared.similarity, compared.arm.label
            ),
            "Above: CKA between every layer of the SNN and every layer of the ANN. "
            "Below: matching layers, between their ceilings and floors.",
        )
        for compared in found
    ]
    for key, values in asdict(config.sweep).items():
        if values is not None and len(values) > 1:
            pictures += _sweep(key, found)
    pictures.append(
        Picture(
            "time_against_depth",
            figures.time_against_depth(
                {compared.arm.label: compared.change for compared in found},
                "Time dynamics against depth",
            ),
            "How much the representation of a layer changes over time: 0 where all "
            "steps say the same, 1 where they have no more to do with each other than "
            "permuted samples.",
        )
    )
    pictures += [
        Picture(
            f"clean_against_attacked_{compared.arm.folder}",
            figures.side_by_side(
                {
                    _under_attack(kind, compared): curves
                    for kind, curves in compared.attacked.items()
                },
                f"Clean against attacked, layer by layer ({compared.arm.label})",
            ),
            "CKA of each layer on clean inputs and the same layer on attacked ones. "
            "Ceiling: the attack's own changes at random places of the same sample, as "
            "large but without direction. Floor: other samples.",
        )
        for compared in found
        if compared.attacked
    ]
    return pictures


def _under_attack(kind: str, compared: _Compared) -> str:
    left = compared.accuracy_under_attack[kind.lower()]
    return (
        f"{kind}: accuracy {left['clean']:.1%}, attacked {left['attacked']:.1%}, "
        f"changed elsewhere {left['noisy']:.1%}"
    )


def _sweep(key: str, found: Sequence[_Compared]) -> list[Picture]:
    """Draw the arms that differ in one value alone, beside one another."""
    groups: dict[str, dict[str, list[Curve]]] = {}
    for compared in found:
        others = {k: v for k, v in compared.arm.settings.items() if k != key}
        value = label({key: compared.arm.settings[key]})
        group = groups.setdefault(label(others) if others else "", {})
        group[value] = compared.similarity
    pictures = []
    for number, (others, group) in enumerate(groups.items(), start=1):
        name = "Residual against plain" if key == "residual" else f"By {key}"
        stem = "residual_against_plain" if key == "residual" else f"by_{key}"
        pictures.append(
            Picture(
                f"{stem}_{number}" if len(groups) > 1 else stem,
                figures.side_by_side(group, f"{name} ({others})" if others else name),
                "CKA of matching layers of SNN and ANN, between ceilings and floors: "
                f"{', '.join(group)}.",
            )
        )
    return pictures
