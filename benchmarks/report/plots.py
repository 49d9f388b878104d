"""Figures of training runs; each function draws one and touches no global state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

History = Sequence[Mapping[str, float]]
"""One mapping an epoch, as in `metrics.csv`."""

_OFF, _ON = np.array([0.85, 0.20, 0.15]), np.array([0.10, 0.35, 0.80])


def learning_curves(histories: Mapping[str, History]) -> Figure:
    """Draw accuracy and loss against epochs, a colour for each run.

    Args:
        histories: Metrics by the label of the run.

    Returns:
        Two panels: validation solid, training dotted.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    for number, (label, history) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in history]
        for panel, key in ((accuracy, "accuracy"), (loss, "loss")):
            style = {"color": f"C{number}"}
            validation = [row[f"validation_{key}"] for row in history]
            training = [row[f"train_{key}"] for row in history]
            panel.plot(epochs, validation, label=label, **style)
            panel.plot(epochs, training, linestyle=":", **style)
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="accuracy")
    loss.set(xlabel="epoch", ylabel="cross-entropy", title="loss")
    for panel in (accuracy, loss):
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    accuracy.plot([], [], color="0.4", label="validation")
    accuracy.plot([], [], color="0.4", linestyle=":", label="training")
    accuracy.legend(fontsize="small")
    return figure


def readout_weights(history: History) -> Figure:
    """Draw the weight of each time step, a line for each epoch.

    Args:
        history: Metrics with the keys `readout_weight_0`, `readout_weight_1`, ...:
            the weights that the epoch was trained and validated with.

    Returns:
        Weights against time steps, later epochs darker.

    Raises:
        ValueError: If the metrics hold no weights.
    """
    T = sum(key.startswith("readout_weight_") for key in history[0])
    if not T:
        raise ValueError("Expected `history` with readout weights, got none.")
    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    panel = figure.subplots()
    # The colour map's last fifth is too pale for lines.
    colours = colormaps["viridis_r"]
    scale = Normalize(1 - 0.25 * len(history), len(history))
    steps = np.arange(1, T + 1)
    for row in history:
        weights = [row[f"readout_weight_{t}"] for t in range(T)]
        panel.plot(steps, weights, color=colours(scale(row["epoch"])), marker=".")
    panel.axhline(1.0, color="0.6", linewidth=0.8, zorder=0)
    panel.set(xlabel="time step", ylabel="weight w", xticks=steps)
    panel.set_title("weights of the readout, epoch by epoch")
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=panel, label="epoch")
    bar.ax.set_ylim(1, max(2, len(history)))
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
    return figure


def layer_bars(
    layers: Mapping[str, Mapping[str, Mapping[str, float]]], key: str, title: str
) -> Figure:
    """Draw one figure of each layer side by side for all runs.

    Args:
        layers: Run label, then layer name, then the layer's figures.
        key: Which of the figures.
        title: Of the panel.

    Returns:
        Bars grouped by layer, in the order of the network.
    """
    figure = Figure(figsize=(7.4, 3.0), layout="constrained")
    panel = figure.subplots()
    names = list(next(iter(layers.values())))
    width = 0.8 / len(layers)
    for number, (label, found) in enumerate(layers.items()):
        offset = (number - (len(layers) - 1) / 2) * width
        heights = [found[name][key] for name in names]
        panel.bar(np.arange(len(names)) + offset, heights, width, label=label)
    panel.set_xticks(range(len(names)), names)
    panel.set_title(title)
    panel.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def event_frames(
    frames: NDArray[np.uint8], labels: Sequence[str], title: str
) -> Figure:
    """Draw event frames as pictures, a row for each sample and a column a step.

    Args:
        frames: Counts `[n, T, 2, H, W]`; channel 0 is OFF, channel 1 ON.
        labels: Name of each sample.
        title: Of the figure.

    Returns:
        ON in blue, OFF in red, both mixed, no event white.
    """
    n, T = frames.shape[:2]
    figure = Figure(figsize=(T * 0.9 + 0.6, n * 0.9 + 0.5), layout="constrained")
    panels = figure.subplots(n, T, squeeze=False)
    for row, (sample, label) in enumerate(zip(frames, labels, strict=True)):
        for t in range(T):
            panel = panels[row, t]
            panel.imshow(_colour(sample[t]), interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            if row == 0:
                panel.set_title(f"t = {t + 1}", fontsize="small")
            if t == 0:
                panel.set_ylabel(label, rotation=0, ha="right", va="center")
    figure.suptitle(title)
    return figure


def _colour(counts: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mix white with the colour of each polarity: `[2, H, W]` to `[H, W, 3]`."""
    share = np.minimum(counts / 2.0, 1.0)[..., None]
    return np.clip(1.0 - share[0] * (1 - _OFF) - share[1] * (1 - _ON), 0.0, 1.0)
