"""A made-up table of results and a made-up comparison by CKA, for tests of the report.

The figures are drawn at random: they say nothing about any network.
"""

from dataclasses import replace

import numpy as np
import torch

from benchmarks.experiments.rows import Row
from sj_ext.cka import CKAResult, ComparedLayers

HOSTILE = '<script>document.title = "broken in"</script> & "quotes"'
ROW = Row(
    experiment="made_up",
    size="demo",
    arm="base",
    metric="test_accuracy",
    reported=None,
    reported_deviation=None,
    reported_source="",
    measured=0.0,
    deviation=None,
    seed="0",
    split="event_digits",
    epochs=6,
    data="event_digits",
    data_checksum="a" * 64,
    split_checksum="b" * 64,
    commit="c" * 40,
    clean=True,
    spikingjelly="2.0.0",
    torch="2.11.0",
    python="3.11.9",
    device="cpu",
    processor="a processor",
    threads=1,
    date="2026-01-02",
    digest="0123456789",
)
SECOND_HAND = "reported (second-hand), ablation table"


def attribution():
    """Six arms with three seeds, of four metrics; two have reported figures."""
    generator = np.random.default_rng(0)
    arms = {
        "base": (94.0, 82.7),
        "scaled by 1-p": (93.8, None),
        "calibrated window": (94.4, None),
        "dense noise": (94.1, None),
        "MSG": (97.2, 83.3),
        HOSTILE: (93.0, None),
    }
    rows = []
    for arm, (level, reported) in arms.items():
        for seed in range(3):
            value = level + (seed - 1) * 0.8 + 0.2 * generator.normal()
            of = {
                "test_accuracy": value,
                "last_epoch_accuracy": value - 0.3,
                "best_on_test_accuracy": value + 0.9,
                "mean_class_accuracy": value - 0.1,
            }
            for metric, measured in of.items():
                row = replace(
                    ROW,
                    size="full",
                    arm=arm,
                    metric=metric,
                    measured=measured,
                    seed=str(seed),
                    digest=f"{len(rows):010d}",
                )
                if metric == "test_accuracy" and reported is not None:
                    row = replace(
                        row,
                        reported=reported,
                        reported_deviation=0.34,
                        reported_source=SECOND_HAND,
                    )
                rows.append(row)
    return rows


def sweep():
    """A sweep of one number, with two seeds."""
    rows = []
    for p in (0.1, 0.25, 0.5, 0.75, 0.9):
        for seed in range(2):
            measured = 95 - 12 * (p - 0.5) ** 2 + 0.3 * (seed - 0.5)
            rows.append(
                replace(
                    ROW,
                    experiment="made_up_sweep",
                    size="full",
                    arm=f"MSG, p {p}",
                    measured=measured,
                    seed=str(seed),
                    clean=False,
                )
            )
    return rows


def study():
    """Rows that stand for three seeds each, of metrics that are no accuracies."""
    return [
        replace(
            ROW,
            experiment="made_up_study",
            arm=arm,
            metric=metric,
            measured=value,
            deviation=0.1 * value,
            seed="0 1 2",
        )
        for arm, values in {
            "T = 4": {"information_centroid": 2.1, "seconds": 0.034},
            "T = 10": {"information_centroid": 4.2, "seconds": 12345.0},
        }.items()
        for metric, value in values.items()
    ]


def rows():
    """All of them."""
    return [*attribution(), *sweep(), *study()]


def comparison(rows=7, columns=9):
    """A comparison by CKA, with a layer that is constant."""
    x = [f"layer{i // 3}.{i % 3}.neuron" for i in range(rows)]
    y = [f"layer{i // 3}.{i % 3}.relu" for i in range(columns)]
    i, j = torch.arange(rows)[:, None], torch.arange(columns)[None]
    cka = torch.exp(-((i / rows - j / columns) ** 2) * 6).double()
    cka[2] = torch.nan
    return CKAResult(
        cka=cka,
        x=ComparedLayers(tuple(x), (4,) * rows, label="SNN", constant=(x[2],)),
        y=ComparedLayers(tuple(y), (4,) * columns, label="ANN"),
        samples=451,
        batches=9,
    )
