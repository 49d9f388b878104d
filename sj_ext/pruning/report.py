"""What a search has done so far: by layer, by round, and what it cost."""

import csv
import io
from dataclasses import asdict, dataclass, field, fields
from typing import Any

NOTE = (
    "Single weights are pruned: that saves storage and, in theory, synaptic "
    "operations; dense hardware runs no faster for it."
)


@dataclass(frozen=True)
class LayerReport:
    """One prunable layer.

    Attributes:
        name: Of the layer.
        shape: Of its weight.
        weights: How many there are.
        remaining: How many are not pruned.
        guarded: Rounds in which a limit changed how many remain.
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    remaining: int
    guarded: tuple[int, ...] = ()

    @property
    def sparsity(self) -> float:
        """Share of the weights that is pruned."""
        return 1 - self.remaining / self.weights


@dataclass(frozen=True)
class RoundReport:
    """One round of the search.

    Attributes:
        number: From 1.
        steps: Time steps T' of its scores.
        remaining: Prunable weights left after it, over all layers.
        sparsity: Share of them that is pruned.
        guarded: Layers that a limit kept from losing, or made lose, more weights.
        rewound: Whether weights went back to the rewind point.
        seconds: That scoring, pruning and rewinding took.
        scores: Name of the scores.
    """

    number: int
    steps: int
    remaining: int
    sparsity: float
    guarded: tuple[str, ...] = ()
    rewound: bool = False
    seconds: float = 0.0
    scores: str = ""


@dataclass(frozen=True)
class PruningReport:
    """The state of a search.

    Attributes:
        layers: The prunable layers, in the network's order.
        rounds: Those that have ended.
        left_whole: Names of parameters with two or more axes that are not pruned.
        cost: By purpose, see `CostLedger.state_dict`.
    """

    layers: tuple[LayerReport, ...]
    rounds: tuple[RoundReport, ...]
    left_whole: tuple[str, ...]
    cost: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of all prunable weights that is pruned."""
        weights = sum(layer.weights for layer in self.layers)
        return 1 - sum(layer.remaining for layer in self.layers) / weights

    def as_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it."""
        layers = [asdict(one) | {"sparsity": one.sparsity} for one in self.layers]
        return asdict(self) | {"layers": layers, "sparsity": self.sparsity}

    def to_csv(self) -> str:
        """Write the layers as CSV, a line each."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([one.name for one in fields(LayerReport)] + ["sparsity"])
        for layer in self.layers:
            shape = "x".join(map(str, layer.shape))
            guarded = " ".join(map(str, layer.guarded))
            writer.writerow(
                [
                    layer.name,
                    shape,
                    layer.weights,
                    layer.remaining,
                    guarded,
                    layer.sparsity,
                ]
            )
        return out.getvalue()

    def __str__(self) -> str:
        """Show the layers and what was left whole."""
        width = max(len(layer.name) for layer in self.layers)
        lines = [
            f"{layer.name:<{width}}  {layer.remaining:>9} of {layer.weights:>9}  "
            f"{layer.sparsity:7.2%} pruned"
            + (f", guarded in {len(layer.guarded)} rounds" if layer.guarded else "")
            for layer in self.layers
        ]
        lines.append(f"{self.sparsity:.2%} pruned after {len(self.rounds)} rounds")
        if self.left_whole:
            lines.append(f"left whole: {', '.join(self.left_whole)}")
        return "\n".join([*lines, NOTE])
