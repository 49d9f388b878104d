"""`python -m benchmarks.report.scaling`: what a long training takes on many devices.

Arithmetic from figures that were measured on one device, such as those of `speed
imagenet`; `docs/scaling.md` has the formulas and what they leave out. Nothing here was
measured on many devices.
"""

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from benchmarks.experiments.metrics import TrainedRun
from benchmarks.report.markdown import table
from benchmarks.runs.command_line import ConfigError
from benchmarks.speed.masked.neurons import OURS

IMAGENET_TRAINING = 1_281_167
"""Training images of ILSVRC 2012."""
IMAGENET_VALIDATION = 50_000
"""Its validation images."""


@dataclass(frozen=True)
class Workload:
    """A training, and what was measured of it on one device.

    Attributes:
        seconds_per_sample: Of forward, backward and optimizer on one device, at the
            training's T, by the batch of the device; measured. A batch in between
            counts as the next smaller one that was measured.
        epochs: How many.
        batch: Of all devices together, so that the result does not hang on their
            number.
        samples: Of the training part.
        validation_samples: Tested after each epoch, forward alone.
        forward_share: What a forward pass takes of `seconds_per_sample`.
        parameters: Whose gradients the devices exchange, as float32.
        bandwidth: At which a device exchanges them, bytes per second; None leaves the
            exchange out.
        overlap: Share of the exchange that hides behind the backward pass, in [0, 1].

    Raises:
        ValueError: If a figure is out of range.
    """

    seconds_per_sample: Mapping[int, float]
    epochs: int
    batch: int
    samples: int = IMAGENET_TRAINING
    validation_samples: int = IMAGENET_VALIDATION
    forward_share: float = 1 / 3
    parameters: int = 0
    bandwidth: float | None = None
    overlap: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no training can have."""
        if not self.seconds_per_sample:
            raise ValueError("Expected `seconds_per_sample` of some batch, got none.")
        numbers = [("seconds_per_sample", x) for x in self.seconds_per_sample.values()]
        numbers += [(n, getattr(self, n)) for n in ("epochs", "batch", "samples")]
        for name, value in numbers:
            if not 0 < value < math.inf:
                raise ValueError(f"Expected `{name}` to be positive, got {value}.")
        for name in ("forward_share", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"Expected `{name}` in [0, 1], got {getattr(self, name)}."
                )
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(
                f"Expected `bandwidth` to be positive, got {self.bandwidth}."
            )

    def seconds_at(self, batch: int) -> float:
        """Give what a sample takes in a batch of one device.

        Args:
            batch: Of the device.

        Returns:
            As measured at the largest batch up to this one; at the smallest that was
            measured, if all were larger.
        """
        measured = sorted(self.seconds_per_sample)
        below = [found for found in measured if found <= batch]
        return self.seconds_per_sample[below[-1] if below else measured[0]]


@dataclass(frozen=True)
class Estimate:
    """What a training takes on a number of devices; times in seconds.

    Attributes:
        devices: How many.
        steps: Of an epoch.
        compute: Of a step, on the device with the most samples.
        exchange: Of a step, what is not hidden behind the backward pass.
        epoch: Training and validation.
        training: All epochs.
    """

    devices: int
    steps: int
    compute: float
    exchange: float
    epoch: float
    training: float

    @property
    def efficiency(self) -> float:
        """Share of a step in which the devices compute."""
        return self.compute / (self.compute + self.exchange)

    @property
    def device_hours(self) -> float:
        """Hours of all devices together."""
        return self.training * self.devices / 3600


def estimated(work: Workload, devices: int) -> Estimate:
    """Work out a training on a number of devices.

    Args:
        work: What is trained.
        devices: How many, at most the batch.

    Returns:
        The estimate.

    Raises:
        ValueError: If a device would have no sample of a batch.
    """
    if not 1 <= devices <= work.batch:
        raise ValueError(
            f"Expected `devices` from 1 to the batch of {work.batch}, got {devices}."
        )
    steps = math.ceil(work.samples / work.batch)
    share = math.ceil(work.batch / devices)
    seconds = work.seconds_at(share)
    compute = share * seconds
    exchange = 0.0
    if work.bandwidth is not None:
        # A ring: each device sends its share n - 1 times to add up, and as often again
        # to spread the sum.
        moved = 2 * (devices - 1) / devices * 4 * work.parameters
        exchange = (1 - work.overlap) * moved / work.bandwidth
    validated = math.ceil(work.validation_samples / devices)
    validation = validated * work.forward_share * seconds
    epoch = steps * (compute + exchange) + validation
    return Estimate(devices, steps, compute, exchange, epoch, work.epochs * epoch)


def measured_in(run: Path) -> float:
    """Read what a sample took in a run on one device.

    Args:
        run: The run's folder.

    Returns:
        Seconds per sample: the median over its epochs, without the first, which warms
        up, where there are more.

    Raises:
        ConfigError: If the run had several devices.
    """
    folder = TrainedRun.at(run).folder
    processes = folder.read_environment()["processes"]
    if processes != 1:
        raise ConfigError(
            f"Expected `run` to be of one device, got one of {processes} processes."
        )
    speeds = [row["samples_per_second"] for row in folder.read_metrics()]
    return 1 / statistics.median(speeds[1:] or speeds)


def measured_by(result: Mapping[str, Any], neuron: str) -> dict[str, Any]:
    """Read what `speed imagenet` measured of its network.

    Args:
        result: Content of its file.
        neuron: Whose rows: as the file names neurons.

    Returns:
        `seconds_per_sample`, `forward_share` (the largest of all batches) and
        `parameters` of a `Workload`.

    Raises:
        ConfigError: If there are no rows of the neuron.
    """
    rows = [row for row in result["rows"] if row["neuron"] == neuron]
    if not rows:
        names = sorted({row["neuron"] for row in result["rows"]})
        raise ConfigError(f"Expected `neuron` to be one of {names}, got {neuron!r}.")
    return {
        "seconds_per_sample": {row["batch"]: row["seconds_per_sample"] for row in rows},
        "forward_share": max(row["forward_share"] for row in rows),
        "parameters": result["parameters"],
    }


def report(work: Workload, devices: Sequence[int], trainings: int = 1) -> str:
    """Write the arithmetic with its assumptions.

    Args:
        work: What is trained.
        devices: Numbers of devices.
        trainings: How many such trainings there are: arms times seeds.

    Returns:
        Markdown.
    """
    header = (
        "devices",
        "samples a device and step",
        "steps an epoch",
        "compute, ms a step",
        "exchange, ms a step",
        "efficiency",
        "hours an epoch",
        "hours a training",
        "device-hours a training",
    )
    if trainings > 1:
        header += (f"device-hours of {trainings} trainings",)
    rows = []
    for count in devices:
        found = estimated(work, count)
        row = (
            str(count),
            str(math.ceil(work.batch / count)),
            f"{found.steps:,}",
            f"{1e3 * found.compute:.4g}",
            "left out" if work.bandwidth is None else f"{1e3 * found.exchange:.3g}",
            f"{found.efficiency:.1%}",
            f"{found.epoch / 3600:.4g}",
            f"{found.training / 3600:.4g}",
            f"{found.device_hours:.4g}",
        )
        if trainings > 1:
            row += (f"{trainings * found.device_hours:.4g}",)
        rows.append(row)
    lines = "\n".join(f"- {line}" for line in assumptions(work))
    return f"{table(header, rows)}\n\nThis assumes:\n\n{lines}\n"


def assumptions(work: Workload) -> list[str]:
    """Say what the arithmetic rests on.

    Args:
        work: What is trained.

    Returns:
        Sentences.
    """
    measured = " and ".join(
        f"{seconds:.4g} s in a batch of {batch}"
        for batch, seconds in sorted(work.seconds_per_sample.items())
    )
    exchange = (
        "The exchange of gradients takes no time (no `bandwidth` was given), so the "
        "times are lower bounds."
        if work.bandwidth is None
        else f"Gradients of {work.parameters:,} parameters are exchanged in float32 "
        f"around a ring at {work.bandwidth:g} bytes per second and device, "
        f"{work.overlap:.0%} of it hidden behind the backward pass; latency is left "
        "out."
    )
    return [
        f"A sample takes {measured} on one device, as measured there; in a batch that "
        "was not measured, as in the next smaller one that was, or in the smallest.",
        f"{work.epochs} epochs of {work.samples:,} samples in batches of "
        f"{work.batch:,} over all devices, whatever their number, so that the learning "
        "rate stays. Batch norm sees the samples of one device alone, unless it is "
        "synchronised, which is not counted. A last smaller batch counts as whole.",
        f"After each epoch {work.validation_samples:,} samples are validated, each "
        f"for {work.forward_share:.3g} of the time of a training sample.",
        exchange,
        "Data arrive in time, and all devices are equally fast. Start, checkpoints "
        "and compilation are left out.",
    ]


def main(arguments: Sequence[str]) -> None:
    """Read the command line and print the arithmetic.

    Args:
        arguments: Of the command line.

    Raises:
        ConfigError: If not just one source of figures is named.
    """
    parser = ArgumentParser(
        prog="python -m benchmarks.report.scaling", description=__doc__
    )
    parser.add_argument("--seconds-per-sample", type=float, help="as measured")
    parser.add_argument("--run", type=Path, help="or a run on one device, to read it")
    parser.add_argument(
        "--speed", type=Path, help="or the file that `speed imagenet` has written"
    )
    parser.add_argument(
        "--neuron", default=OURS, help="whose rows of that file: as it names them"
    )
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="of all devices")
    parser.add_argument("--samples", type=int, default=IMAGENET_TRAINING)
    parser.add_argument("--validation-samples", type=int, default=IMAGENET_VALIDATION)
    parser.add_argument("--forward-share", type=float, help="a third if not measured")
    parser.add_argument("--parameters", type=int, help="0 if not given or measured")
    parser.add_argument("--bandwidth", type=float, help="bytes per second and device")
    parser.add_argument("--overlap", type=float, default=0.0)
    parser.add_argument("--devices", type=list[int], default=[1, 8, 64])
    parser.add_argument("--trainings", type=int, default=1, help="arms times seeds")
    values = vars(parser.parse_args(list(arguments)))
    devices, trainings = values.pop("devices"), values.pop("trainings")
    sources = {
        name: values.pop(name) for name in ("seconds_per_sample", "run", "speed")
    }
    if sum(source is not None for source in sources.values()) != 1:
        raise ConfigError(
            "Expected one of `--seconds-per-sample`, as measured, `--run`, a run that "
            "it is read from, and `--speed`, a file of `speed imagenet`."
        )
    neuron = values.pop("neuron")
    given = {name: value for name, value in values.items() if value is not None}
    if sources["speed"] is not None:
        text = sources["speed"].read_text(encoding="utf-8")
        given = measured_by(json.loads(text), neuron) | given
    else:
        run, seconds = sources["run"], sources["seconds_per_sample"]
        given["seconds_per_sample"] = {1: seconds if run is None else measured_in(run)}
    work = Workload(**given)
    print(report(work, devices, trainings), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
