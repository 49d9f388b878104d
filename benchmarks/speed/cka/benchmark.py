"""CKA of all layers against pytorch-cka, the released procedure and Grams alone."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks.runs.progress import Reporter
from benchmarks.speed import results
from benchmarks.speed.cka.candidates import (
    FLOOR,
    OURS,
    PEER,
    PER_STEP,
    RELEASED,
    alone,
    candidate,
    floors,
    names,
    pair_stage,
    peer_version,
)
from benchmarks.speed.cka.equality import Accuracy, check_equality, check_network
from benchmarks.speed.cka.exact import ExactSetting, measure_exact
from benchmarks.speed.cka.features import Features, Kind, Setting
from benchmarks.speed.cka.growth import growing, growth_figure, operations
from benchmarks.speed.cka.network import (
    NetworkSetting,
    network_candidate,
    network_names,
)
from benchmarks.speed.options import SpeedOptions
from benchmarks.speed.peak import peak_bytes
from benchmarks.speed.timing import Timing, interleaved
from sj_ext import register

_KINDS: tuple[Kind, ...] = ("real", "spikes", "offset")
_PAIR_LAYERS = 73
_WARM_UP = {"layers": 4, "samples": 16, "width": 128}


@dataclass
class CKAOptions(SpeedOptions):
    """What `speed cka` can be told.

    Args:
        device: cpu or cuda.
        repetitions: Timed runs of each candidate; odd, for medians.
        output: Folder of the result and the plot.
        layers: L of the features that are compared.
        samples: n, of a batch.
        width: Largest number of features of a layer, all steps together.
        T: Time steps.
        network_samples: Of each batch through a network; 0 leaves that part out.
        exact_samples: Of the exact form; 0 leaves that part out.
        growth: Whether to measure how time grows.
        peak: Whether to measure peak memory, which takes a process for each candidate.
    """

    layers: int = 40
    samples: int = 256
    width: int = 16384
    T: int = 4
    network_samples: int = 128
    exact_samples: int = 10_000
    growth: bool = True
    peak: bool = True


@register("speed", "cka")
def run(options: CKAOptions, reporter: Reporter) -> None:
    """Time CKA of all layers against peers, from features, networks and files."""
    if peer_version() is None:
        reporter.line(f"{PEER} is not installed (extra `peers`): no rows of it")
    base = Setting(
        "real",
        options.layers,
        options.samples,
        options.width,
        options.T,
        options.place(),
    )
    found, rows = {}, []
    for kind in _KINDS:
        features = Features(replace(base, kind=kind))
        found[kind] = check_equality(features)
        _show_accuracy(reporter, features.setting.title, found[kind])
        if kind != "offset":
            rows.append(measure(features, options))
            _show(reporter, rows[-1])
        del features
    rows.append(_measure_pairs(base, options))
    _show(reporter, rows[-1])
    if options.network_samples:
        rows.append(_measure_network(options))
        _show(reporter, rows[-1])
    content = {
        "peer": peer_version(),
        "accuracy": {
            kind: {name: asdict(one) for name, one in by_name.items()}
            for kind, by_name in found.items()
        },
        "rows": [_plain(row) for row in rows],
        "exact": _measure_exact(options, reporter),
    }
    results.write("cka", options, content, reporter)
    if options.growth:
        growth = _measure_growth(base, options, reporter)
        results.write("cka-growth", options, {"rows": growth}, reporter)


def measure(features: Features, options: CKAOptions) -> dict[str, Any]:
    """Time all candidates on features that lie in memory.

    Args:
        features: Each candidate has them in the layout that it takes.
        options: Repetitions, and whether peak memory is measured: what is needed above
            the features.

    Returns:
        `title`, `part` and the `timings` by candidate.
    """
    setting = features.setting
    listed = [*names(), *floors(setting)]
    timings = interleaved(
        {name: candidate(name, features) for name in listed},
        options.repetitions,
        setting.device,
    )
    if options.peak:
        tiny = replace(setting, **_WARM_UP)
        timings = _with_peaks(
            timings,
            lambda name: partial(alone, name, setting),
            lambda name: partial(alone, name, tiny),
            setting.device,
        )
    return {"part": setting.kind, "title": setting.title, "timings": timings}


def _measure_pairs(base: Setting, options: CKAOptions) -> dict[str, Any]:
    setting = replace(base, layers=_PAIR_LAYERS, width=512)
    grams = torch.stack([x[0] @ x[0].T for x in Features(setting).stepwise])
    listed = [*(name for name in names() if name != PER_STEP), FLOOR]
    timings = interleaved(
        {
            "one product alone" if name == FLOOR else name: pair_stage(grams, name)
            for name in listed
        },
        options.repetitions,
        base.device,
    )
    title = f"pair stage, Grams given: L = {_PAIR_LAYERS}, n = {base.samples}"
    return {"part": "pairs", "title": title, "timings": timings}


def _measure_network(options: CKAOptions) -> dict[str, Any]:
    setting = NetworkSetting(
        samples=options.network_samples, T=options.T, device=options.place()
    )
    candidates = {name: network_candidate(setting, name) for name in network_names()}
    matrices = {
        name: run()
        for name, run in candidates.items()
        if name in (OURS, PER_STEP, PEER)
    }
    difference = check_network(matrices)
    timings = interleaved(candidates, options.repetitions, setting.device)
    candidates.clear()
    if options.peak:
        tiny = replace(setting, depth=8, samples=8, size=8)
        timings = _with_peaks(
            timings,
            lambda name: partial(network_candidate, setting, name),
            lambda name: partial(network_candidate, tiny, name),
            setting.device,
        )
    return {
        "part": "network",
        "title": setting.title,
        "timings": timings,
        "largest_difference": difference,
    }


def _measure_exact(options: CKAOptions, reporter: Reporter) -> dict[str, Any] | None:
    if not options.exact_samples:
        return None
    found = measure_exact(ExactSetting(options.exact_samples), options.output)
    reporter.line(
        f"{found['title']}: {found['seconds']:.1f} s (products alone "
        f"{found['floor_seconds']:.1f} s), peak of the process "
        f"{found['peak_resident_bytes'] / 1e9:.2f} GB"
    )
    return found


def _measure_growth(
    base: Setting, options: CKAOptions, reporter: Reporter
) -> list[dict[str, Any]]:
    rows = []
    for symbol, value, setting in growing(base):
        features = Features(setting)
        listed = [name for name in names() if name != RELEASED]
        timings = interleaved(
            {name: candidate(name, features) for name in listed},
            options.repetitions,
            base.device,
        )
        row = {
            "symbol": symbol,
            "value": value,
            "title": f"{symbol} = {value}: {setting.title}",
            "operations": {name: operations(setting, name) for name in listed},
            "timings": timings,
        }
        _show(reporter, row)
        rows.append(_plain(row))
    path = options.output / f"speed-cka-growth-{base.device.type}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    growth_figure(rows).savefig(path, dpi=120)
    reporter.line(f"plotted in {path}")
    return rows


def _with_peaks(
    timings: dict[str, Timing],
    make: Callable[[str], Callable[[], Any]],
    warm_up: Callable[[str], Callable[[], Any]],
    device: torch.device,
) -> dict[str, Timing]:
    return {
        name: replace(timing, peak_bytes=peak_bytes(make(name), warm_up(name), device))
        for name, timing in timings.items()
    }


def _show(reporter: Reporter, row: Mapping[str, Any]) -> None:
    timings = row["timings"]
    reference = PEER if PEER in timings else OURS
    results.show(reporter, row["title"], timings, reference)


def _show_accuracy(
    reporter: Reporter, title: str, found: Mapping[str, Accuracy]
) -> None:
    reporter.line(title)
    for name, one in found.items():
        reporter.line(
            f"  {name}: largest error {one.error:.1e}, {one.nan} NaN and "
            f"{one.impossible} impossible of {one.entries}"
        )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    timings: dict[str, Timing] = row["timings"]
    plain = {name: asdict(timing) for name, timing in timings.items()}
    return {**row, "timings": plain}
