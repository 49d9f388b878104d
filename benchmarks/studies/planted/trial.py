"""One trial of the planted study: a small network, its profile, and what rules say.

A network learns digits whose class evidence is in known steps only (or, as a null, in
all steps alike, without any state); on held-out recordings its information is then
measured exactly, with labels of the model and with true ones, and as the released
code does. The rules are those of
`planted_rules`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.data.batches import batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.planted_steps import identical_steps, plant, pooled
from benchmarks.runs.config import (
    ModelConfig,
    NeuronConfig,
    OptimizationConfig,
    TrainConfig,
)
from benchmarks.studies.networks import untrained_network
from benchmarks.studies.nulls import (
    stateless_readout,
    time_shuffled,
    train_in_memory,
)
from benchmarks.studies.planted.rules import claims, located
from sj_ext.fisher import FisherResult, TemporalFisher

NULL = "null"
"""The position of no evidence: a stateless readout on independent draws of one kind."""

ESTIMATORS: Mapping[str, Mapping[str, str]] = {
    "exact": {"estimator": "per_sample", "labels": "model"},
    "exact, true labels": {"estimator": "per_sample", "labels": "empirical"},
    "released": {"estimator": "batch_mean", "labels": "empirical"},
}
"""Arguments of `TemporalFisher`, by what the tables call them."""


@dataclass
class StudySettings:
    """What all trials have in common.

    Attributes:
        positions: First and last step with evidence, counted from 1.
        pool: Side of the squares of pixels whose events are added up.
        channels: Of the network, as in `VGG`.
        neuron: Which neuron.
        optimization: How the network is trained.
        null_optimization: How the stateless readout is trained.
        samples: Held-out recordings that are measured, the first of a fixed order.
        batch_size: Of the exact measurement.
        released_batch_size: Of the released procedure.
    """

    positions: tuple[tuple[int, int], ...] = ((2, 3), (5, 6), (8, 9))
    pool: int = 4
    channels: tuple[int | str, ...] = (8, "A", 16, "A")
    neuron: NeuronConfig = field(
        default_factory=lambda: NeuronConfig(kwargs={"v_threshold": 0.5})
    )
    optimization: OptimizationConfig = field(
        default_factory=lambda: OptimizationConfig(
            epochs=10, warmup_epochs=0.5, batch_size=32, lr=0.01
        )
    )
    null_optimization: OptimizationConfig = field(
        default_factory=lambda: OptimizationConfig(
            epochs=10, warmup_epochs=0.5, batch_size=32, lr=0.01
        )
    )
    samples: int = 192
    batch_size: int = 64
    released_batch_size: int = 16

    def as_dict(self) -> dict[str, Any]:
        """Give all values as JSON has them."""
        return asdict(self)


def trial(
    position: tuple[int, int] | None,
    seed: int,
    frames: EventFrames,
    parts: Mapping[str, Tensor],
    settings: StudySettings,
) -> dict[str, Any]:
    """Train a network on planted evidence and read its profile.

    Args:
        position: First and last step with evidence; None for the null.
        seed: Of noise, weights and order.
        frames: Recordings, not planted; pooled already.
        parts: Positions of the recordings of "train", "validation" and "test".
        settings: Of the study.

    Returns:
        As JSON has it: profiles, located steps and claims by the keys of
        `ESTIMATORS`, test accuracy.
    """
    data, net = _prepared(position, seed, frames, parts, settings)
    indices = parts["test"]
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))
    chosen = indices[order[: settings.samples]]

    def measure(shuffled: bool = False) -> dict[str, FisherResult]:
        return {
            name: _measured(net, data, chosen, arguments, seed, shuffled, settings)
            for name, arguments in ESTIMATORS.items()
        }

    before = measure()
    optimization = (
        settings.null_optimization if position is None else settings.optimization
    )
    session = train_in_memory(net, data, parts, optimization, seed)
    accuracy, _ = session.evaluate(*session.predict(batches(data, indices, 128)))
    after, shuffled = measure(), measure(shuffled=True)
    classes = len(data.classes)
    return {
        "position": list(position) if position else NULL,
        "seed": seed,
        "test_accuracy": accuracy,
        "readings": {
            name: {
                "located": located(after[name], classes),
                "claims": claims(before[name], after[name], shuffled[name]),
                "before": _profile(before[name]),
                "after": _profile(after[name]),
                "shuffled": _profile(shuffled[name]),
            }
            for name in ESTIMATORS
        },
    }


def _prepared(
    position: tuple[int, int] | None,
    seed: int,
    frames: EventFrames,
    parts: Mapping[str, Tensor],
    settings: StudySettings,
) -> tuple[EventFrames, nn.Module]:
    """Make the data and an untrained network, both by the seed."""
    channels, height, width = frames.frames.shape[2:]
    classes = len(frames.classes)
    if position is None:
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            net = stateless_readout(channels * height * width, classes)
        return identical_steps(frames, parts, seed), net
    data = plant(frames, parts, *position, seed)
    config = TrainConfig(
        seed=seed,
        model=ModelConfig("vgg", {"channels": list(settings.channels)}),
        neuron=settings.neuron,
    )
    # Its batch statistics are measured: it would be silent before training, and the
    # centroid fall from the middle for that reason alone.
    loaded = batches(data, parts["train"], settings.optimization.batch_size)
    return data, untrained_network(config, data, (b.frames for b in loaded))


def _measured(
    net: nn.Module,
    data: EventFrames,
    indices: Tensor,
    arguments: Mapping[str, Any],
    seed: int,
    shuffled: bool,
    settings: StudySettings,
) -> FisherResult:
    released = arguments["estimator"] == "batch_mean"
    size = settings.released_batch_size if released else settings.batch_size
    generator = torch.Generator().manual_seed(seed)
    change: Callable[[Tensor], Tensor] = (
        (lambda x: time_shuffled(x, generator)) if shuffled else (lambda x: x)
    )

    def loaded() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(data, indices, size):
            yield change(batch.frames), batch.target

    fisher = TemporalFisher(net, **arguments, seed=seed)
    return fisher.measure(loaded(), progress=False)


def _profile(result: FisherResult) -> dict[str, Any]:
    return {
        "information": result.total.tolist(),
        "standard_error": result.standard_error.tolist(),
        "loss": result.prefix_loss.tolist(),
        "accuracy": result.prefix_accuracy.tolist(),
        "confidence": result.prefix_confidence.tolist(),
        "centroid": result.information_centroid,
        "centroid_standard_error": result.centroid_standard_error,
    }


def study_frames(frames: EventFrames, settings: StudySettings) -> EventFrames:
    """Shrink the frames as all trials see them."""
    return pooled(frames, settings.pool)
