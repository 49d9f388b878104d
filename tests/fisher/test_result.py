"""Results: the centroid with its error, files without pickle, tables and plots."""

import csv

import pytest
import torch
from matplotlib.axes import Axes

from sj_ext.fisher import FisherResult, TemporalFisher, information_centroid
from tests.fisher import networks, reference
from tests.fisher.networks import K, N, T


@pytest.fixture(scope="module")
def result():
    torch.manual_seed(0)
    net = networks.ready(networks.OtherParameters())
    net.head.bias.requires_grad_(False)
    x = torch.rand(T, 4 * N, 8).double()
    fisher = TemporalFisher(net, labels="empirical", probe="ATan")
    return fisher.measure([(x, torch.randint(K, (4 * N,)))], progress=False)


def test_the_centroid_is_the_mean_step_weighted_by_information():
    assert information_centroid(torch.tensor([0.0, 0.0, 3.0])) == 3
    assert information_centroid(torch.tensor([1.0, 1.0, 2.0])) == 2.25
    assert information_centroid(torch.tensor([1.0, 1.0]), [2, 10]) == 6
    assert information_centroid(torch.ones(5, 4)).tolist() == [2.5] * 5
    assert information_centroid(torch.zeros(3)).isnan()
    with pytest.raises(ValueError, match="length 3"):
        information_centroid(torch.ones(3), [1, 2])


def test_the_error_of_the_centroid_is_that_of_bootstrapped_samples():
    torch.manual_seed(0)
    net = networks.fully_connected()
    x, target = torch.rand(T, 40, 8).double(), torch.randint(K, (40,))
    rows = sum(reference.squared_norms(net, x, target).values())
    whole = TemporalFisher(net, labels="empirical")
    whole = whole.measure([(x, target)], progress=False)
    drawn = torch.randint(40, (2000, 40))
    spread = information_centroid(rows[drawn].mean(1)).std()
    assert whole.centroid_standard_error == pytest.approx(float(spread), rel=0.15)


def test_a_saved_result_is_loaded_as_it_was(result, tmp_path):
    path = tmp_path / "deep" / "result.npz"
    result.save(path)
    loaded = FisherResult.load(path)
    for name, value in vars(result).items():
        other = getattr(loaded, name)
        if isinstance(value, dict):
            assert list(value) == list(other), name
            assert all(torch.equal(value[key], other[key]) for key in value), name
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, other), name
        else:
            assert value == other, name
    assert loaded.looped
    assert loaded.frozen == ("head.bias",)
    assert [file.name for file in path.parent.iterdir()] == ["result.npz"]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "result.npz"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="a file with a FisherResult"):
        FisherResult.load(path)


def test_the_table_has_a_row_for_every_layer_and_prefix(result, tmp_path):
    result.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == T * (1 + len(result.per_layer))
    assert float(rows[1]["information"]) == result.total[1].item()
    assert float(rows[1]["accuracy"]) == result.prefix_accuracy[1].item()
    last = list(result.per_layer)[-1]
    assert rows[-1]["layer"] == last
    assert float(rows[-1]["information"]) == result.per_layer[last][-1].item()


def test_a_layer_has_a_centroid_of_its_own(result):
    layer = next(iter(result.per_layer))
    expected = information_centroid(result.per_layer[layer], result.steps)
    assert result.layer_centroid(layer) == float(expected)
    with pytest.raises(KeyError, match="head"):
        result.layer_centroid("nothing")


def test_the_plot_draws_the_profile_and_the_centroid(result):
    axes = result.plot()
    assert isinstance(axes, Axes)
    assert result.plot(axes, label="again") is axes
    assert axes.lines[0].get_ydata().tolist() == result.total.tolist()
    assert axes.get_legend().texts[1].get_text() == "again"
