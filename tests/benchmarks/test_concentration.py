"""Training with a loss that differentiates the network, and the study of it."""

import copy
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from spikingjelly.activation_based import functional, layer
from torch import nn

import benchmarks
from benchmarks.__main__ import main
from benchmarks.data.batches import Batch
from benchmarks.report.readme.concentration import concentration_table
from benchmarks.runs.config import OptimizationConfig
from benchmarks.studies.fisher.config import read
from benchmarks.training.session import Session
from sj_ext.neuron import MaskedLIFNode
from sj_ext.readout import CrossEntropyLoss, RateReadout
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate, dense

T, N, K = 4, 6, 3

CONFIG = Path(benchmarks.__file__).parent / "configs" / "fisher" / "concentration.yaml"


def gradients(logits, parameters):
    total = logits.float().square().sum()
    return torch.autograd.grad(total, parameters, retain_graph=True)


class Looking(CrossEntropyLoss):
    """A cross-entropy that notes what it is given."""

    needs_parameters = True

    def __init__(self, net):
        super().__init__()
        self.net = [net]
        self.given = []

    def forward(self, logits, target, readout, parameters, evaluated):
        (net,) = self.net
        modes = {module.training for module in net.modules()}
        state = copy.deepcopy(net.state_dict())
        parameters = list(parameters)
        found = gradients(evaluated, parameters)
        self.given.append((logits, parameters, evaluated, found, modes, state))
        return super().forward(logits, target, readout)


def masked_network():
    torch.manual_seed(0)
    surrogate = MaskedSurrogate("ATan", BernoulliMask(0.9))
    net = nn.Sequential(
        layer.Flatten(),
        layer.Linear(2, 16),
        layer.BatchNorm1d(16),
        MaskedLIFNode(v_threshold=0.2, surrogate_function=surrogate, backend="torch"),
        nn.Dropout(0.5),
        layer.Linear(16, K),
    )
    functional.set_step_mode(net, "m")
    return net


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_loss_gets_the_network_as_in_evaluation_and_training_goes_on_as_without(
    precision,
):
    frames = torch.randint(4, (T, N, 2, 1, 1)).float()
    batch = Batch(frames, torch.arange(N) % K, torch.arange(N))
    trained = {}
    for name in ("plain", "looking"):
        net = masked_network()
        before = copy.deepcopy(net)
        loss = Looking(net) if name == "looking" else CrossEntropyLoss()
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
        session = Session(
            fabric, net, RateReadout(T), OptimizationConfig(epochs=1), 1, loss=loss
        )
        torch.manual_seed(1)
        session._train([batch], lambda _: None)
        trained[name] = net
    ((logits, parameters, evaluated, found, modes, state),) = loss.given
    assert state["2.num_batches_tracked"] == 1, "of the training pass alone"
    before.load_state_dict(state)
    with dense(before), fabric.autocast():
        expected = before(frames)
    torch.testing.assert_close(evaluated, expected)
    assert evaluated.shape == logits.shape
    assert not torch.equal(evaluated, logits)
    # Whole derivatives: masks that drop nine of ten would show.
    wanted = gradients(expected, list(before.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert [id(p) for p in parameters] == [id(p) for p in net.parameters()]
    assert modes == {True}
    for one, other in zip(
        trained["plain"].state_dict().values(), net.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), "no draw, no state and no statistic is changed"


def test_each_loss_has_runs_of_its_own_for_every_seed():
    config = read(["--config", str(CONFIG)])
    arms = config.arms()
    assert len({arm.folder for arm in arms}) == len(arms) == 15
    losses = {
        (a.train.loss.name, *map(a.train.loss.kwargs.get, ("direction", "labels")))
        for a in arms
    }
    assert losses == {
        ("cross_entropy", None, None),
        ("temporal_concentration", "early", None),
        ("temporal_concentration", "late", None),
        ("temporal_concentration", "early", "empirical"),
        ("temporal_concentration", "late", "empirical"),
    }
    assert {arm.train.seed for arm in arms} == {0, 1, 2}


def test_a_readout_without_shares_is_refused_before_anything_is_trained(
    tmp_path, capsys
):
    words = ["--config", str(CONFIG), "--train.readout.name", "max"]
    assert main(["fisher", *words, "--output", str(tmp_path)]) == 2
    assert "`train.readout`: Expected `readout` to be a" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.pt"))


def run(loss, accuracy, after):
    profile = {"0": {"centroid": 3.0}, "6": {"centroid": after}}
    names = ("network", "time-shuffled", "stateless", "true-labels")
    return {
        "settings": {"seed": 0, "loss": loss},
        "test_accuracy": {"last": accuracy},
        "profiles": dict.fromkeys(names, profile),
    }


ENVIRONMENT = {
    "threads": 1,
    "cpu": "CPU",
    "gpu": None,
    "host": "2.0.0",
    "packages": {"torch": "2"},
    "commit": "0123456789abcdef",
}


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_table_has_a_row_a_loss_with_means_over_seeds(seeds):
    late = {
        "name": "temporal_concentration",
        "kwargs": {"strength": 1.0, "direction": "late"},
    }
    runs = [run({"name": "cross_entropy"}, 0.9, 4.0), run(late, 0.8, 6.0)]
    runs += [run({"name": "cross_entropy"}, 0.8, 5.0), run(late, 0.8, 6.0)]
    for number, one in enumerate(runs):
        one["settings"]["seed"] = number // 2
    text = concentration_table(
        {
            "runs": runs[: 2 * seeds],
            "samples": 96,
            "seconds": 60.0,
            "environment": ENVIRONMENT,
        }
    )
    plain, pushed = text.split("\n")[2:4]
    assert pushed.startswith("| concentration late, strength 1 |")
    if seeds == 2:
        expected = "85.0 ± 7.1 % | 3.00 ± 0.00 | 4.50 ± 0.71 | 4.50 ± 0.71"
    else:
        expected = "90.0 % | 3.00 | 4.00 | 4.00"
    assert plain.startswith(f"| cross entropy | {expected} |")
    assert f"over {seeds} seeds" in text.replace("\n", " ")
    moved = "+1.50 ± 0.71" if seeds == 2 else "+2.00"
    said = text.replace("\n  ", " ")
    assert (
        f"the centroid moves by {moved} steps, on time-shuffled input by {moved}, "
        f"without state by {moved}, with true labels by {moved};" in said
    )


def test_the_table_has_no_shuffled_input_where_all_steps_are_equal():
    late = {
        "name": "temporal_concentration",
        "kwargs": {"strength": 1.0, "direction": "late"},
    }
    runs = [run({"name": "cross_entropy"}, 0.9, 4.0), run(late, 0.8, 6.0)]
    for one in runs:
        one["profiles"] = dict(one["profiles"])
        del one["profiles"]["time-shuffled"]
    text = concentration_table(
        {"runs": runs, "samples": 96, "environment": ENVIRONMENT}
    )
    assert text.count("none: equal steps") == len(runs)
    assert "moves by +2.00 steps, without state" in text.replace("\n  ", " ")
