"""What a comparison by CKA found: matrices with names, intervals, plots and files."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Measure = Literal["cka", "rsa"]

MINIMUM_BATCHES = 5
"""Fewer batches give no interval: a bootstrap of them says next to nothing."""


@dataclass(frozen=True)
class ComparedLayers:
    """The layers of one of the two networks, in the order of execution.

    Attributes:
        names: Of the layers.
        steps: T of each of them; 1 where a layer has no time axis.
        label: Of the network, for plots and tables.
        record: What of the layers was compared: "output", "pre_reset" or
            "post_reset".
        constant: Names of those whose HSIC with themselves is zero, as that of a layer
            that gives the same for all samples, or, unbiased, for all but one.
            Their CKA is undefined: NaN.
        not_executed: Names that were selected and never ran; they are in no matrix.
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    label: str = "network"
    record: str = "output"
    constant: tuple[str, ...] = ()
    not_executed: tuple[str, ...] = ()

    def index(self, layer: str) -> int:
        """Find the row of a layer by its name.

        Args:
            layer: Its name.

        Returns:
            Its place in `names`.

        Raises:
            KeyError: If there is none of that name; the message lists near ones.
        """
        if layer in self.names:
            return self.names.index(layer)
        near = difflib.get_close_matches(layer, self.names, n=3, cutoff=0.4)
        hint = f"names like {', '.join(map(repr, near))}" if near else "no such name"
        raise KeyError(
            f"Expected `layer` to be one of the {len(self.names)} layers of "
            f"{self.label}, got {layer!r}: there are {hint}."
        )

    def rows(self, layer: str) -> slice:
        """Find the rows of a layer in a matrix of steps, by its name."""
        index = self.index(layer)
        first = sum(self.steps[:index])
        return slice(first, first + self.steps[index])


class BatchSums(NamedTuple):
    """HSIC of every batch, times its number of samples: CKA is a ratio of their sums.

    Attributes:
        xy: Between the layers of both networks, `[B, Lx, Ly]`, float64.
        xx: Of each layer of the first network with itself, `[B, Lx]`.
        yy: Of each layer of the second, `[B, Ly]`.
    """

    xy: Tensor
    xx: Tensor
    yy: Tensor


class TimeDynamics(NamedTuple):
    """How much the representation of each layer changes over the time steps.

    Attributes:
        layers: Names of the layers, in network order.
        change: Mean of 1 - CKA(t, t') over all pairs of steps t != t' at which the
            layer is not constant, `[L]`. NaN for a layer with fewer than two of them.
        first_last: CKA between the first and the last step, `[L]`; NaN for a layer
            with one step, or one that is constant at either.
        label: Of the network.
        constant_steps: Of each layer the steps, counted from 1, at which it is
            constant, as a neuron that is silent at first; they are in no pair.
    """

    layers: tuple[str, ...]
    change: Tensor
    first_last: Tensor
    label: str
    constant_steps: tuple[tuple[int, ...], ...]

    def plot(self, ax: "Axes | None" = None, label: str | None = None) -> "Axes":
        """Draw the change over time against the depth of the layer.

        Args:
            ax: Where to draw, several networks over one another if need be; None
                makes a figure.
            label: Of the curve; None takes that of the network.

        Returns:
            The axes; `ax.figure.savefig(...)` writes the figure.
        """
        from sj_ext.cka import plots

        return plots.time_dynamics(self, ax, label)


@dataclass(frozen=True, eq=False, repr=False)
class CKAResult:
    """CKA between all layers of two networks, or of one network and itself.

    Attributes:
        cka: `[Lx, Ly]`, float64. The unbiased estimator lies in [-1, 1] and nothing is
            clamped: negative values mean no similarity. NaN where a layer is constant.
        x: Layers of the first network, the rows.
        y: Layers of the second, the columns.
        samples: How many samples were compared.
        batches: How many batches they came in.
        time: What became of the time axis: "concat", "per_step" or "mean".
        estimator: "unbiased", "biased" or "exact".
        itself: Whether one network was compared with itself, in one pass.
        order_checked: What showed that both networks saw the same samples in the same
            order: "one loader", "targets", "index", "targets and index" or "nothing".
        per_step: CKA between all steps of all layers, `[sum of T, sum of T]`, rows
            ordered by layer and then by step; see `steps`. None unless `time` was
            "per_step".
        rsa: The second measure, `[Lx, Ly]`, or None.
        rsa_per_step: The second measure between all steps, or None.
        sums: HSIC by batch, for `interval`; None of the exact estimator, which has no
            batches.
    """

    cka: Tensor
    x: ComparedLayers
    y: ComparedLayers
    samples: int
    batches: int
    time: str = "concat"
    estimator: str = "unbiased"
    itself: bool = False
    order_checked: str = "one loader"
    per_step: Tensor | None = None
    rsa: Tensor | None = None
    rsa_per_step: Tensor | None = None
    sums: BatchSums | None = field(default=None)

    def __repr__(self) -> str:
        return (
            f"CKAResult({self.x.label} x {self.y.label}, {len(self.x.names)} x "
            f"{len(self.y.names)} layers, time={self.time!r}, {self.samples} samples "
            f"in {self.batches} batches, {self.estimator})"
        )

    @property
    def layers_x(self) -> tuple[str, ...]:
        """Names of the rows, in the order of execution."""
        return self.x.names

    @property
    def layers_y(self) -> tuple[str, ...]:
        """Names of the columns, in the order of execution."""
        return self.y.names

    def steps(
        self, layer_x: str, layer_y: str | None = None, measure: Measure = "cka"
    ) -> Tensor:
        """Pick the similarity between all time steps of a pair of layers.

        Args:
            layer_x: Name of a layer of the first network.
            layer_y: Name of a layer of the second; None takes the same name.
            measure: "cka" or "rsa".

        Returns:
            `[Tx, Ty]`, float64.

        Raises:
            ValueError: If the steps were not compared: `time` was not "per_step".
        """
        matrix = self.per_step if measure == "cka" else self.rsa_per_step
        if matrix is None:
            raise ValueError(
                f"Expected a result with {measure} of all steps, got one with "
                f"time={self.time!r}: measure with time='per_step'"
                + (" and rsa=True." if measure == "rsa" else ".")
            )
        return matrix[
            self.x.rows(layer_x), self.y.rows(layer_x if layer_y is None else layer_y)
        ]

    def diagonal(self) -> dict[tuple[str, str], float]:
        """Pick CKA between matching layers of the two networks.

        Layers match by their names. Where no name is common, and both networks have
        as many layers, they match by their place.

        Returns:
            CKA by the names in both networks, in the order of the first.
        """
        return {
            (self.x.names[i], self.y.names[j]): float(self.cka[i, j])
            for i, j in self.matching()
        }

    def matching(self) -> list[tuple[int, int]]:
        """Find which layers of the two networks match, as `diagonal` has it.

        Returns:
            Row and column of each pair, in the order of the first network.

        Raises:
            ValueError: If no name is common and the networks differ in depth.
        """
        column = {name: j for j, name in enumerate(self.y.names)}
        pairs = [
            (i, column[name]) for i, name in enumerate(self.x.names) if name in column
        ]
        if pairs:
            return pairs
        if len(self.x.names) == len(self.y.names):
            return [(i, i) for i in range(len(self.x.names))]
        raise ValueError(
            "Expected layers with common names, or as many in both networks, got "
            f"{len(self.x.names)} and {len(self.y.names)} with no name in common."
        )

    def interval(
        self, level: float = 0.95, resamples: int = 1000, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Estimate how sure `cka` is: percentile bootstrap over batches.

        Batches are drawn with replacement, and CKA is the ratio of the sums over those
        drawn (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).

        Args:
            level: Share of the resamples inside, in (0, 1).
            resamples: How many.
            seed: Of the draws: the same seed gives the same interval.

        Returns:
            Lower and upper end, each `[Lx, Ly]`, float64; NaN where `cka` is.

        Raises:
            ValueError: If an argument is out of range, the batches were fewer than
                five, or the estimator has none.
        """
        if not 0 < level < 1:
            raise ValueError(f"Expected `level` in (0, 1), got {level}.")
        if resamples < 1:
            raise ValueError(f"Expected `resamples` of at least 1, got {resamples}.")
        if self.sums is None:
            raise ValueError(
                "Expected a result with HSIC by batch, got one of the "
                f"{self.estimator!r} estimator without."
            )
        batches = len(self.sums.xy)
        if batches < MINIMUM_BATCHES:
            raise ValueError(
                f"Expected at least {MINIMUM_BATCHES} batches to draw from, got "
                f"{batches}: measure with smaller batches."
            )
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(batches, (resamples, batches), generator=generator)
        times = torch.zeros(resamples, batches, dtype=torch.float64)
        times.scatter_add_(1, drawn, torch.ones_like(times))
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        xx, yy = times @ self.sums.xx, times @ self.sums.yy
        # A row of layers at a time: all resamples of a deep pair would fill memory.
        rows = [
            _quantiles(times @ self.sums.xy[:, i], xx[:, i, None], yy, ends)
            for i in range(len(self.x.names))
        ]
        low, high = torch.stack(rows, dim=1)
        undefined = self.cka.isnan()
        return low.masked_fill(undefined, torch.nan), high.masked_fill(
            undefined, torch.nan
        )

    def time_dynamics(self) -> TimeDynamics:
        """Summarise how much every layer changes over time, against its depth.

        Returns:
            Figures for each layer, and a plot of them.

        Raises:
            ValueError: If the result is not of one network and itself, or `time` was
                not "per_step".
        """
        if not self.itself:
            raise ValueError(
                "Expected a result of one network and itself, got one of "
                f"{self.x.label} and {self.y.label}: measure CKA(net, "
                "time='per_step')."
            )
        blocks = [self.steps(name) for name in self.x.names]
        return TimeDynamics(
            layers=self.x.names,
            change=torch.stack([_mean_change(block) for block in blocks]),
            first_last=torch.stack(
                [block[0, -1] if len(block) > 1 else _NAN for block in blocks]
            ),
            label=self.x.label,
            constant_steps=tuple(_constant_steps(block) for block in blocks),
        )

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        measure: Measure = "cka",
        limits: tuple[float, float] | None = None,
        title: str | None = None,
    ) -> "Axes":
        """Draw all pairs of layers as a heat map, both axes upwards in network order.

        Args:
            ax: Where to draw; None makes a figure that fits the layers.
            measure: "cka" or "rsa".
            limits: Ends of the colours. None takes 0 to 1, and begins lower where
                values are negative; the colour bar shows them.
            title: None names the measure.

        Returns:
            The axes; `ax.figure.savefig(...)` writes the figure.
        """
        from sj_ext.cka import plots

        return plots.heat_map(self, ax, measure=measure, limits=limits, title=title)

    def plot_diagonal(
        self, ax: "Axes | None" = None, label: str | None = None, level: float = 0.95
    ) -> "Axes":
        """Draw CKA between matching layers against depth, with intervals.

        Args:
            ax: Where to draw, several results over one another if need be; None makes
                a figure.
            label: Of the curve; None names the two networks.
            level: Of the intervals, which are left out where there are fewer than
                five batches.

        Returns:
            The axes; `ax.figure.savefig(...)` writes the figure.
        """
        from sj_ext.cka import plots

        return plots.diagonal(self, ax, label, level)

    def plot_time(
        self,
        layer_x: str,
        layer_y: str | None = None,
        ax: "Axes | None" = None,
        *,
        measure: Measure = "cka",
        limits: tuple[float, float] | None = None,
    ) -> "Axes":
        """Draw all pairs of time steps of a pair of layers as a heat map.

        Args:
            layer_x: Name of a layer of the first network.
            layer_y: Name of a layer of the second; None takes the same name.
            ax: Where to draw; None makes a figure.
            measure: "cka" or "rsa".
            limits: Ends of the colours, as for `plot`.

        Returns:
            The axes; `ax.figure.savefig(...)` writes the figure.
        """
        from sj_ext.cka import plots

        return plots.time_map(self, layer_x, layer_y, ax, measure, limits)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write every value in a row of its own.

        Columns: layer_x, layer_y, step_x, step_y, cka, rsa, low, high. Steps count from
        1 and are empty where all were taken together; `low` and `high` are the ends of
        the 95% interval, empty where there is none. An undefined value is `nan`.

        Args:
            path: Of the file; a former one is replaced once the new one is complete.
        """
        from sj_ext.cka import storage

        storage.write_csv(self, path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything into one file of arrays (npz); nothing is pickled.

        Args:
            path: Of the file; a former one is replaced once the new one is complete.
        """
        from sj_ext.cka import storage

        storage.save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "CKAResult":
        """Read what `save` wrote.

        Args:
            path: Of the file.

        Returns:
            The result, bit for bit.
        """
        from sj_ext.cka import storage

        return storage.load(path)


_NAN = torch.tensor(torch.nan, dtype=torch.float64)


def _quantiles(xy: Tensor, xx: Tensor, yy: Tensor, ends: Tensor) -> Tensor:
    """Ends `[2, Ly]` over the resamples of `xy / sqrt(xx yy)`, `[R, Ly]`."""
    return torch.nanquantile(xy / (xx * yy).sqrt(), ends, dim=0)


def _mean_change(block: Tensor) -> Tensor:
    """Mean of 1 - CKA off the diagonal of `[T, T]`, over the pairs that have one."""
    apart = ~torch.eye(len(block), dtype=torch.bool)
    return 1 - block[apart].nanmean()


def _constant_steps(block: Tensor) -> tuple[int, ...]:
    undefined = block.diagonal().isnan().tolist()
    return tuple(step for step, one in enumerate(undefined, start=1) if one)


def mismatch(expected: Sequence[str], got: Sequence[str]) -> str:
    """Tell how two lists of names differ, in a few words."""
    missing = [name for name in expected if name not in got]
    new = [name for name in got if name not in expected]
    if missing or new:
        return f"missing {missing[:3]}, new {new[:3]}"
    return "the same names in another order"


def load_layers(about: dict[str, Any]) -> ComparedLayers:
    """Make `ComparedLayers` of a dict of their fields, as files and states have it."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in about.items()
    }
    return ComparedLayers(**fields)
