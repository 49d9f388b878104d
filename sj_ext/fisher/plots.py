"""The profile of Fisher information over time, drawn."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sj_ext.fisher.result import FisherResult


def draw(result: FisherResult, ax: Axes | None, label: str | None) -> Axes:
    """Draw what `FisherResult.plot` describes."""
    if ax is None:
        ax = Figure(layout="constrained").add_subplot()
    line = ax.errorbar(
        result.steps,
        result.total.numpy(),
        yerr=result.standard_error.nan_to_num(0.0).numpy(),
        marker="o",
        capsize=3,
        label=label or f"{result.estimator}, {result.labels} labels",
    )
    ax.axvline(
        result.information_centroid,
        linestyle="--",
        linewidth=1,
        color=line.lines[0].get_color(),
    )
    ax.set_xlabel("time steps in the output, t")
    ax.set_ylabel("Fisher information $I_t$")
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax
