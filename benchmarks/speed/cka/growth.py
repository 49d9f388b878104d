"""Time against n, D, L and T, beside what the count of operations foretells."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from benchmarks.speed.cka.candidates import OURS, PER_STEP
from benchmarks.speed.cka.features import Setting

_BASE = Setting("real", layers=16, samples=128, width=4096, T=4)
_GROWTH = {
    "samples": ("n", (64, 128, 256, 512)),
    "width": ("D", (1024, 2048, 4096, 8192, 16384)),
    "layers": ("L", (8, 16, 32, 64, 128)),
    "T": ("T", (2, 4, 8, 16)),
}
# A float64 product takes the time of two float32 ones.
_DOUBLE = 2


def growing(base: Setting) -> Iterator[tuple[str, int, Setting]]:
    """List smaller comparisons of which one of n, D, L and T grows.

    Args:
        base: Where they run.

    Yields:
        What grows, its value, and the setting; with T the features of one step stay.
    """
    small = replace(_BASE, device=base.device)
    for what, (symbol, values) in _GROWTH.items():
        for value in values:
            changed = replace(small, **{what: value})
            if what == "T":
                changed = replace(changed, width=small.width // small.T * value)
            yield symbol, value, changed


def operations(setting: Setting, name: str) -> float:
    """Count the float32 multiplications that a comparison takes.

    Args:
        setting: What is compared.
        name: A candidate; `PER_STEP` compares all steps of all layers.

    Returns:
        Half a Gram matrix for each layer, and half of the products of all rows, which
        are in float64 and so count twice.
    """
    n, T = setting.samples, setting.T
    grams = n**2 / 2 * sum(setting.widths) * T
    rows = setting.layers * (T if name == PER_STEP else 1)
    return grams + _DOUBLE * rows**2 / 2 * n**2 / 2


def growth_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw time against each size.

    Args:
        rows: With `symbol`, `value`, `timings` as dicts and `operations`, both by
            candidate.

    Returns:
        A panel for each size, measured times as marks; the dashed lines are the
        operations at the speed that the largest size of each reaches.
    """
    symbols = list(dict.fromkeys(row["symbol"] for row in rows))
    figure = Figure(figsize=(3.1 * len(symbols), 3.3), layout="constrained")
    panels = figure.subplots(1, len(symbols), sharey=True, squeeze=False)[0]
    for panel, symbol in zip(panels, symbols, strict=True):
        chosen = [row for row in rows if row["symbol"] == symbol]
        values = [row["value"] for row in chosen]
        for number, name in enumerate(chosen[0]["timings"]):
            measured = [row["timings"][name]["seconds"] * 1e3 for row in chosen]
            panel.plot(values, measured, "o-", color=f"C{number}", label=name)
            if name in (OURS, PER_STEP):
                counts = [row["operations"][name] for row in chosen]
                theory = [measured[-1] * one / counts[-1] for one in counts]
                panel.plot(values, theory, "--", color=f"C{number}", alpha=0.7)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(values, [str(value) for value in values])
        panel.set_xlabel(symbol)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("ms")
    panels[0].plot([], [], "--", color="0.4", label="count of operations")
    panels[0].legend(fontsize="x-small")
    return figure
