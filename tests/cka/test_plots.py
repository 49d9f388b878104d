"""Plots show every value where its names say, and leave matplotlib as it was."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from sj_ext.cka import CKA, Side


def network(depth, seed=0, dead=None):
    torch.manual_seed(seed)
    net = nn.Sequential()
    for i in range(depth):
        net.add_module(
            f"stage1.block{i}.norm.and.more".replace(".", "_"), nn.Linear(4, 4)
        )
        if i == dead:
            nn.init.zeros_(net[i].weight)
    return net


def measured(*models, batches=6, T=3, **options):
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(T, 8, 4, generator=generator) for _ in range(batches)]
    labels = ("SNN", "ANN")
    sides = [Side(m, T=T, label=n) for m, n in zip(models, labels, strict=False)]
    return CKA(*sides, time="per_step", **options).measure(x, progress=False)


@pytest.fixture(autouse=True)
def _no_figure_of_pyplot():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


def shown(ax):
    (image,) = ax.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_a_heat_map_shows_the_matrix_upwards_in_network_order():
    result = measured(network(5), network(4, seed=1), rsa=True)
    ax = result.plot()
    np.testing.assert_array_equal(shown(ax), result.cka.numpy())
    assert ax.images[0].origin == "lower"
    assert len(names(ax.yaxis)) == 5
    assert len(names(ax.xaxis)) == 4
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("SNN", "ANN")
    assert ax.get_title() == "CKA of SNN and ANN"
    ax.figure.canvas.draw()
    other = result.plot(measure="rsa", title="ranks")
    np.testing.assert_array_equal(shown(other), result.rsa.numpy())
    assert other.get_title() == "ranks"
    with pytest.raises(ValueError, match="Expected `measure` to be 'cka', or 'rsa'"):
        measured(network(2)).plot(measure="rsa")


def test_names_of_a_deep_network_are_thinned_until_they_do_not_touch():
    ax = measured(network(73)).plot()
    figure = ax.figure
    figure.canvas.draw()
    for axis, side in ((ax.xaxis, "x"), (ax.yaxis, "y")):
        assert 10 < len(names(axis)) < 73
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        starts = [getattr(box, f"{side}0") for box in boxes]
        ends = [getattr(box, f"{side}1") for box in boxes]
        assert all(a <= b for a, b in zip(ends, starts[1:], strict=False))
        assert len(axis.get_minorticklocs()) > 0
    assert max(map(len, names(ax.xaxis))) <= 26


def test_the_colours_begin_below_zero_where_values_do():
    result = measured(network(5), network(5, seed=1))
    lowest = float(result.cka.min())
    low, high = result.plot().images[0].get_clim()
    assert high == 1.0
    assert (low == 0.0) if lowest >= 0 else (lowest - 0.05 <= low <= lowest)
    ax = result.plot(limits=(0.5, 0.6))
    assert ax.images[0].get_clim() == (0.5, 0.6)
    labels = [other.get_ylabel() for other in ax.figure.axes]
    assert "CKA, colours from 0.5 to 0.6" in labels


def test_an_undefined_layer_is_hatched_and_explained():
    ax = measured(network(4, dead=1), network(4, seed=1)).plot()
    assert np.isnan(shown(ax)[1]).all()
    assert ax.patch.get_hatch()
    assert any("hatched" in other.get_ylabel() for other in ax.figure.axes)
    assert not measured(network(3)).plot().patch.get_hatch()


def test_the_diagonal_has_an_interval_where_there_are_batches():
    result = measured(network(5), network(5, seed=1))
    ax = result.plot_diagonal()
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), result.cka.diagonal())
    (band,) = ax.collections
    low, high = (end.diagonal().numpy() for end in result.interval())
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(low.min())
    assert heights.max() == pytest.approx(high.max())
    assert len(names(ax.xaxis)) == 5
    bottom, top = ax.get_ylim()
    assert bottom < low.min()
    assert high.max() < top
    few = measured(network(5), network(5, seed=1), batches=4).plot_diagonal(
        ax, label="few"
    )
    assert few is ax
    assert len(ax.lines) == 2
    assert len(ax.collections) == 1
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["SNN and ANN", "few"]


def test_time_maps_and_dynamics_show_steps():
    result = measured(network(3))
    name = result.layers_x[1]
    ax = result.plot_time(name)
    np.testing.assert_array_equal(shown(ax), result.steps(name).numpy())
    assert names(ax.xaxis) == ["1", "2", "3"]
    curve = result.time_dynamics().plot(label="net")
    np.testing.assert_array_equal(
        curve.lines[0].get_ydata(), result.time_dynamics().change.numpy()
    )


def test_plots_draw_where_they_are_told():
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    result = measured(network(3))
    assert result.plot(left) is left
    assert result.plot_time(result.layers_x[0], ax=right) is right


def test_matplotlib_is_imported_only_to_plot():
    script = "import sys, sj_ext.cka; assert 'matplotlib.figure' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
