"""The papers' networks take an optimizer step, which demos, being small, cannot show.

Every full-size network on frames of its data set's shape, with each neuron, surrogate,
mask, readout, loss, optimizer and augmentation that it is trained with, goes through
`train` itself. Frames are random, few a batch, in few time steps.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch

import benchmarks.data
from benchmarks.data.frames import EventFrames
from benchmarks.data.splits import Split, write_split
from benchmarks.experiments.description import available, read_experiment
from benchmarks.experiments.kinds import kind_of
from benchmarks.experiments.queue import Options, jobs
from benchmarks.runs.progress import Reporter
from benchmarks.studies.cka.arms import arms
from benchmarks.tasks.train import train

SETS = {  # channels, height and width; classes
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "cifar10_dvs": ((2, 128, 128), 10),
    "n_caltech101": ((2, 180, 240), 101),
    "event_digits": ((2, 32, 32), 10),
}
STILL = {"cifar10", "cifar100"}
PARTS = ("train", "validation", "test")


def trainings(name):
    """Every full-size training of an experiment, with what people call it."""
    experiment = read_experiment(name)
    kind = kind_of(experiment.task)
    seeds = tuple(experiment.seeds if kind.all_seeds_at_once else experiment.seeds[:1])
    # Later arms do more at once, such as MSG + TWO, and later networks are larger: so
    # fewer runs cover the same.
    for job in reversed(jobs(experiment, Options(seeds=seeds))):
        found = list(kind.trainings(job.config))
        if experiment.task == "cka":
            found += [arm.ann[0] for arm in arms(job.config)]
        for training in reversed(found):
            yield f"{job.arm}: {training.name}", training


def structure(value):
    """What differs in kind: all numbers are one, such as p, or the depth."""
    if isinstance(value, dict):
        return tuple((key, structure(value[key])) for key in sorted(value))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if number else repr(value)


def pairs(training):
    """What a run covers: its network, together with each thing it is trained with."""
    data, surrogate = training.data, training.surrogate
    size = data.resize or (data.cache and data.cache.size)
    network = (size, data.name in STILL, training.model.name)
    network = (*network, structure(training.model.kwargs))
    parts = (
        data.name,
        (training.neuron.name, structure(training.neuron.kwargs)),
        (surrogate.base, structure(surrogate.mask or {})),
        (repr(surrogate.schedule), repr(surrogate.calibrate_window)),
        (training.readout.name, structure(training.readout.kwargs)),
        (training.loss.name, structure(training.loss.kwargs)),
        (training.optimization.optimizer, training.device.precision),
        (data.augment, data.mixup),
    )
    return {(network, place, part) for place, part in enumerate(parts)}


@cache
def chosen():
    """Of all experiments those trainings that cover a pair which no former one does."""
    seen, found = set(), {}
    for name in available():
        for label, training in trainings(name):
            new = pairs(training) - seen
            if new:
                seen |= new
                found.setdefault(name, []).append((label, training))
    return found


def cut(training):
    """Batch size and T at which every layer still spikes."""
    if training.data.name in STILL and training.model.name == "resnet18":
        return 4, 4  # its last stage is one pixel: of two samples none may spike
    return 2, 2


def random_frames(training):
    """A batch for each part of a split."""
    batch, steps = cut(training)
    (channels, *size), classes = SETS[training.data.name]
    if training.data.cache is not None and training.data.cache.size is not None:
        size = 2 * [training.data.cache.size]
    still = training.data.name in STILL
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(
        256 if still else 4,
        (len(PARTS) * batch, 1 if still else steps, channels, *size),
        generator=generator,
        dtype=torch.uint8,
    ).expand(-1, steps, -1, -1, -1)
    names = [f"{n:03d}/{part}" for part in PARTS for n in range(batch)]
    labels = torch.arange(batch).repeat(len(PARTS))
    kinds = tuple(f"{n:03d}" for n in range(classes))
    return EventFrames(frames, labels, tuple(names), kinds)


def split_of(frames, path):
    """Write the lists of the parts."""
    parts = {
        part: tuple(name for name in frames.names if name.endswith(part))
        for part in PARTS
    }
    write_split(Split("random", "Random frames", 0, frames.classes, **parts), path)
    return str(path)


class EnoughError(Exception):
    """The step is done."""


@pytest.mark.full
@pytest.mark.parametrize("name", available())
def test_every_parameter_of_the_full_size_moves_in_a_step(name, monkeypatch, tmp_path):
    if name not in chosen():
        pytest.skip("every pair of network and part is trained with another file")
    for number, (label, training) in enumerate(chosen()[name]):
        batch, steps = cut(training)
        frames = random_frames(training)
        split = split_of(frames, tmp_path / "split.json")
        before = {}

        def after_epoch(session, label=label, before=before):
            parameters = dict(session.network.named_parameters())
            if session.epoch == 0:
                before |= {k: p.detach().clone() for k, p in parameters.items()}
                return
            (row,) = session.history
            assert 0 < row["train_loss"] < float("inf"), label
            assert session.optimizer.state, label
            still = [k for k, p in parameters.items() if torch.equal(p, before[k])]
            assert not still, f"{label}: no step moved {still}"
            # The checkpoint of a large network takes longer than its step.
            raise EnoughError

        with monkeypatch.context() as patch:
            patch.setattr(benchmarks.data, "load_configured", lambda _, f=frames: f)
            with pytest.raises(EnoughError):
                train(
                    replace(
                        training,
                        data=replace(training.data, time_steps=steps, split=split),
                        # Decay would move what no gradient reaches.
                        optimization=replace(
                            training.optimization, batch_size=batch, weight_decay=0.0
                        ),
                        device=replace(training.device, accelerator="cpu"),
                        output=str(tmp_path / str(number)),
                    ),
                    Reporter.silent(),
                    after_epoch,
                )


@pytest.mark.full
def test_what_is_trained_covers_each_network_with_all_it_is_trained_with():
    trained = [one for found in chosen().values() for _, one in found]
    covered = set().union(*map(pairs, trained))
    everything = [one for name in available() for _, one in trainings(name)]
    for one in everything:
        assert pairs(one) <= covered, one
    assert len(trained) < len(everything) / 2
