"""Each trained network of an arm beside itself: clean inputs against attacked ones."""

import json
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models import feature_layers
from benchmarks.runs.progress import Reporter
from benchmarks.studies.cka.arms import Arm
from benchmarks.studies.cka.comparisons import Network, Samples, compare_device
from benchmarks.studies.cka.config import CkaConfig
from benchmarks.studies.inputs import as_attacked
from benchmarks.studies.networks import trained_readout
from sj_ext.attack import Attackable, attackable, perturb
from sj_ext.cka import CKA, CKAResult, Side
from sj_ext.files import write_text

KINDS = ("snn", "ann")
INPUTS = ("attacked", "noisy", "permuted")
"""What clean inputs are compared with: the attack's own inputs; as ceiling the same
changes at random places of the same sample; as floor other samples."""

Found = dict[str, dict[str, CKAResult]]
"""By kind of network, then by the names of `INPUTS`."""


def measure_attacked(
    arm: Arm, config: CkaConfig, folder: Path, reporter: Reporter
) -> tuple[Found, dict[str, dict[str, float]]]:
    """Compare each kind of network with itself under attack, or read what was compared.

    Args:
        arm: Whose networks are trained.
        config: Of the whole comparison, with an attack.
        folder: Of the arm; results are files in it once they are complete.
        reporter: Shows progress.

    Returns:
        Results, and by kind the accuracy on `"clean"`, `"attacked"` and `"noisy"`.
    """
    shares = {kind: folder / f"attacked-{kind}.json" for kind in KINDS}
    missing = [kind for kind, file in shares.items() if not file.exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        samples = Samples(arm, config)
        with reporter.bar(f"attacks, {arm.label}", len(missing), "networks") as bar:
            for kind in missing:
                _compare(kind, arm, config, samples, folder)
                bar.advance()
    results = {
        kind: {name: CKAResult.load(_file(folder, kind, name)) for name in INPUTS}
        for kind in KINDS
    }
    accuracy = {
        kind: json.loads(file.read_text(encoding="utf-8"))
        for kind, file in shares.items()
    }
    return results, accuracy


def _file(folder: Path, kind: str, name: str) -> Path:
    return folder / f"{name}-{kind}.npz"


def _compare(
    kind: str, arm: Arm, config: CkaConfig, samples: Samples, folder: Path
) -> None:
    network = Network(kind, 0)
    training = network.training(arm)
    device = compare_device(training)
    net = samples.network(network).to(device)
    readout = trained_readout(training).to(device)
    model = attackable(net, readout, bounds=samples.bounds, T=samples.repeats)
    clean = Side(net, feature_layers(net), label="clean", inputs=itemgetter("clean"))
    comparisons = {
        name: CKA(
            clean,
            Side(net, feature_layers(net), label=name, inputs=itemgetter(name)),
        )
        for name in INPUTS
    }
    right = dict.fromkeys(("clean", "attacked", "noisy"), 0)
    total = 0
    for inputs, target in _inputs(model, config, samples, device):
        shown = {name: model.frames(x) for name, x in inputs.items()}
        for cka in comparisons.values():
            cka.update(shown)
        for name in right:
            with torch.no_grad():
                answers = model(inputs[name]).argmax(1)
            right[name] += int((answers == target).sum())
        total += len(target)
    for name, cka in comparisons.items():
        cka.compute().save(_file(folder, kind, name))
    shares = {name: count / total for name, count in right.items()}
    write_text(folder / f"attacked-{kind}.json", json.dumps(shares) + "\n")


def _inputs(
    model: Attackable, config: CkaConfig, samples: Samples, device: torch.device
) -> Iterator[tuple[Mapping[str, Tensor], Tensor]]:
    attack, budget = config.built_attack()
    for number, (frames, target) in enumerate(samples.labelled()):
        x = as_attacked(model, frames).to(device)
        target = target.to(device)
        new = perturb(model, x, target, attack, budget=budget, seed=number)
        noisy = elsewhere(x, new, model.bounds, seed=number)
        inputs = {"clean": x, "attacked": new, "noisy": noisy, "permuted": x.roll(1, 0)}
        yield inputs, target


def elsewhere(x: Tensor, new: Tensor, bounds: tuple[float, float], seed: int) -> Tensor:
    """Make the same changes at random places, without direction.

    They are as large, but for what the bounds cut off: of an event that is taken away
    where there is none, nothing is left.

    Args:
        x: `[N, ...]`, clean.
        new: Attacked.
        bounds: What is outside afterwards is set to the nearer of these.
        seed: Of the places.

    Returns:
        `[N, ...]`.
    """
    generator = torch.Generator().manual_seed(seed)
    change = (new - x).flatten(1)
    places = torch.rand(change.shape, generator=generator).argsort(1).to(x.device)
    return (x + change.gather(1, places).reshape(x.shape)).clamp(*bounds)
