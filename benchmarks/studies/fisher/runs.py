"""One run of a Fisher study: its training with snapshots, and measurements of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import data
from benchmarks.data.frames import EventFrames
from benchmarks.data.label_noise import with_label_noise
from benchmarks.data.planted_steps import identical_steps
from benchmarks.data.splits import read_split
from benchmarks.data.transforms import input_transform
from benchmarks.models.build import build_network
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.folder import CheckpointError, RunFolder
from benchmarks.runs.progress import Bar, Reporter
from benchmarks.studies.fisher.config import Arm, FisherConfig
from benchmarks.studies.inputs import as_tested
from benchmarks.studies.networks import untrained_network
from benchmarks.studies.nulls import (
    stateless_readout,
    steps_are_equal,
    time_shuffled,
    train_in_memory,
)
from benchmarks.tasks.train import build_loss, build_readout, train
from benchmarks.training.session import Session
from sj_ext.files import replace_file
from sj_ext.fisher import FisherResult, TemporalFisher
from sj_ext.readout import Readout

_ORDER_SEED = 0
_CALIBRATION_BATCHES = 8

_EXACT = {"estimator": "per_sample", "labels": "model"}
MEASUREMENTS: Mapping[str, Mapping[str, str]] = {
    "network": _EXACT,
    "time-shuffled": _EXACT,
    "stateless": _EXACT,
    "true-labels": {"estimator": "per_sample", "labels": "empirical"},
    "released": {"estimator": "batch_mean", "labels": "empirical"},
}
"""Arguments of `TemporalFisher`, by what is measured: the network, the same on
time-shuffled input, a stateless readout on steps that are independent draws from one
distribution, and the network with true labels: exactly, and as the released code does.
Samples that are the same at all steps have no `"time-shuffled"`: it would be the
network once more."""

Profiles = Mapping[int, FisherResult]
"""Results by how many epochs the network had been trained for."""


@dataclass(frozen=True)
class Followed:
    """A run with what was measured.

    Attributes:
        arm: Which run.
        run: Its folder.
        profiles: By the keys of `MEASUREMENTS`; without `"time-shuffled"` where all
            steps of the data are equal.
    """

    arm: Arm
    run: RunFolder
    profiles: Mapping[str, Profiles]


def follow(config: FisherConfig, arm: Arm, reporter: Reporter) -> Followed:
    """Train the network of a run and measure it, or go on where that stopped.

    Args:
        config: Of the study.
        arm: Which run.
        reporter: Shows progress.

    Returns:
        All results, which are files in the arm's folder: `MEASUREMENT/epoch-000.npz`.
        None are on time-shuffled input where all steps of the data are equal.

    Raises:
        ConfigError: If the readout's prefixes are no weighted means of steps.
    """
    try:
        build_readout(arm.train).shares(arm.train.data.time_steps)
    except TypeError as error:
        raise ConfigError(f"`train.readout`: {error}") from error
    folder = config.folder / arm.folder
    epochs = config.epochs(arm)
    training = replace(arm.train, output=str(config.folder / "networks"))
    snapshots = _Snapshots(folder / "snapshots", epochs)
    run = train(training, reporter, snapshots.save)
    files = {
        name: {epoch: folder / name / f"epoch-{epoch:03d}.npz" for epoch in epochs}
        for name in MEASUREMENTS
    }
    if _missing(files):
        measured = _Measured(config, replace(arm, train=training))
        if measured.stands_still:
            del files["time-shuffled"]
        left = _missing(files)
        with reporter.bar(f"Fisher, {arm.label}", left, "profiles") as bar:
            for epoch in epochs:
                measured.network(epoch, snapshots, files, bar)
            measured.stateless(files["stateless"], bar)
    profiles = {
        name: {epoch: FisherResult.load(file) for epoch, file in found.items()}
        for name, found in files.items()
    }
    return Followed(arm, run, profiles)


def _missing(files: Mapping[str, Mapping[int, Path]]) -> int:
    return sum(not file.exists() for row in files.values() for file in row.values())


class _Snapshots:
    """What network and readout had learned after some of the epochs."""

    def __init__(self, folder: Path, epochs: list[int]) -> None:
        self._folder = folder
        self._epochs = epochs

    def save(self, session: Session) -> None:
        # What it started with follows from the seed.
        if session.epoch == 0 or session.epoch not in self._epochs:
            return
        state = {
            "network": session.network.state_dict(),
            "readout": session.readout.state_dict(),
        }
        with replace_file(self._file(session.epoch)) as temporary:
            torch.save(state, temporary)

    def load(self, epoch: int, net: nn.Module, readout: Readout) -> None:
        file = self._file(epoch)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            net.load_state_dict(state["network"])
            readout.load_state_dict(state["readout"])
        # A flipped bit surfaces as almost any error of zipfile or of torch.
        except Exception as error:
            raise CheckpointError(
                f"The snapshot {file} is missing or damaged: {error}. Delete the "
                f"folder {self._folder.parents[1]} to start the study afresh."
            ) from error

    def _file(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:03d}.pt"


class _Measured:
    """Measures the networks of one run on its test part.

    Attributes:
        stands_still: Whether all steps of the data are equal.
    """

    def __init__(self, config: FisherConfig, arm: Arm) -> None:
        self._config = config
        self._training = training = arm.train
        frames = data.load_configured(training.data)
        self._parts = read_split(training.split).indices(frames.names)
        self._clean = frames
        self._frames = self._with_label_noise(frames)
        test = self._parts["test"]
        generator = torch.Generator().manual_seed(_ORDER_SEED)
        order = torch.randperm(len(test), generator=generator)
        self._test = test[order[: config.samples]]
        self.stands_still = steps_are_equal(frames.frames)

    def _with_label_noise(self, frames: EventFrames) -> EventFrames:
        training = self._training
        return with_label_noise(
            frames, self._parts["train"], training.data.label_noise, training.seed
        )

    def network(
        self,
        epoch: int,
        snapshots: _Snapshots,
        files: Mapping[str, Mapping[int, Path]],
        bar: Bar,
    ) -> None:
        """Measure a snapshot in all ways that are not done yet."""
        names = [
            name
            for name in files
            if name != "stateless" and not files[name][epoch].exists()
        ]
        if not names:
            return
        readout = build_readout(self._training)
        if epoch == 0:
            net = self._untrained()
        else:
            with torch.random.fork_rng(devices=[]):
                net = build_network(self._training, self._frames)
            snapshots.load(epoch, net, readout)
        net.to(self._device())
        for name in names:
            result = self._measure(name, net, self._frames, readout)
            _save(result, files[name][epoch])
            bar.advance()

    def _untrained(self) -> nn.Module:
        # With the statistics that batch norms start with, deep neurons would never
        # spike, and no step could differ from another.
        size = self._training.optimization.batch_size
        generator = torch.Generator().manual_seed(_ORDER_SEED)
        train = self._parts["train"]
        some = train[torch.randperm(len(train), generator=generator)]
        first = some[: _CALIBRATION_BATCHES * size]
        loaded = as_tested(self._training.data, self._frames, first, size)
        frames = (batch.frames for batch in loaded)
        return untrained_network(self._training, self._frames, frames)

    def stateless(self, files: Mapping[int, Path], bar: Bar) -> None:
        """Train the null, and measure it after the same epochs."""
        if all(file.exists() for file in files.values()):
            return
        # The null learns from the same wrong labels, of samples that its steps are
        # drawn for: drawn after, wrong labels would be wrong features, to average out.
        frames = self._with_label_noise(
            identical_steps(self._clean, self._parts, self._training.seed)
        )
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(self._training.seed)
            (one,) = as_tested(self._training.data, frames, self._test[:1], 1)
            features = one.frames[0, 0].numel()
            net = stateless_readout(features, len(frames.classes))

        def measure(session: Session) -> None:
            file = files.get(session.epoch)
            if file is not None and not file.exists():
                _save(self._measure("stateless", net, frames, None), file)
                bar.advance()

        train_in_memory(
            net,
            frames,
            self._parts,
            self._training.optimization,
            self._training.seed,
            measure,
            build_loss(self._training),
            augment=input_transform(self._training.data, training=False),
        )

    def _measure(
        self, name: str, net: nn.Module, frames: EventFrames, readout: Readout | None
    ) -> FisherResult:
        config = self._config
        arguments: dict[str, Any] = dict(MEASUREMENTS[name])
        released = arguments["estimator"] == "batch_mean"
        size = config.released_batch_size if released else config.batch_size
        generator = torch.Generator().manual_seed(_ORDER_SEED)
        changed: Callable[[Tensor], Tensor] = (
            (lambda x: time_shuffled(x, generator))
            if name == "time-shuffled"
            else (lambda x: x)
        )

        def loaded() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in as_tested(self._training.data, frames, self._test, size):
                yield changed(batch.frames), batch.target

        fisher = TemporalFisher(
            net, readout=readout, probe=config.probe, seed=_ORDER_SEED, **arguments
        )
        return fisher.measure(loaded(), progress=False)

    def _device(self) -> str:
        """Measure where the network was trained, as far as that is here."""
        on_gpu = self._training.device.accelerator != "cpu"
        return "cuda" if on_gpu and torch.cuda.is_available() else "cpu"


def _save(result: FisherResult, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    result.save(file)
