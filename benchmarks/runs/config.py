"""The typed configuration of a training run: read, checked and named by its content."""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from sj_ext import host


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says which key and why."""


@dataclass
class DataConfig:
    """Which frames are trained on.

    Attributes:
        name: Data set, see `benchmarks.data.available()`.
        root: Folder that it was prepared in.
        time_steps: Frames a sample, T.
        split: Split file, by name; None is the one named like the data set.
    """

    name: str = "event_digits"
    root: str = "data/event_digits"
    time_steps: int = 10
    split: str | None = None


@dataclass
class ModelConfig:
    """Which network is trained.

    Attributes:
        name: A registered model.
        kwargs: Its own arguments, such as the list of channels.
    """

    name: str = "vgg"
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class NeuronConfig:
    """Which spiking neuron it uses.

    Attributes:
        name: A class of the host's `neuron` module.
        kwargs: Arguments of that class, but the surrogate and the step mode.
    """

    name: str = "LIFNode"
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class SurrogateConfig:
    """Which surrogate derivative the neurons have.

    Attributes:
        base: Name of a surrogate function, see `sj_ext.available("surrogate")`.
        base_kwargs: Its arguments.
        mask: JSON form of a mask rule; None trains with the plain base.
    """

    base: str = "PiecewiseQuadratic"
    base_kwargs: dict[str, Any] = field(default_factory=lambda: {"alpha": 2.0})
    mask: dict[str, Any] | None = None


@dataclass
class ReadoutConfig:
    """How the logits of all steps become one.

    Attributes:
        name: A registered readout, see `sj_ext.available("readout")`.
        kwargs: Its arguments, but T.
    """

    name: str = "rate"
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class OptimizationConfig:
    """AdamW with linear warm-up and cosine decay to zero.

    Attributes:
        epochs: Number of passes over the training set.
        warmup_epochs: How many of them the learning rate rises.
        batch_size: Samples a step and process.
        lr: Highest learning rate.
        weight_decay: As in AdamW.
        label_smoothing: As in the cross-entropy.
    """

    epochs: int = 10
    warmup_epochs: float = 0.0
    batch_size: int = 32
    lr: float = 0.001
    weight_decay: float = 0.01
    label_smoothing: float = 0.0


@dataclass
class DeviceConfig:
    """What it runs on, as Lightning Fabric calls it.

    Attributes:
        accelerator: `"auto"`, `"cpu"` or `"gpu"`.
        devices: Number of processes, each with a device of its own.
        precision: `"32-true"`, `"bf16-mixed"` or `"16-mixed"`.
        threads: CPU threads of each process; None leaves torch's choice.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    threads: int | None = None


@dataclass
class TrainConfig:
    """All that determines a training run, and where it is written.

    Attributes:
        name: What people call the run; first part of its folder's name.
        seed: Of weights, order of samples and masks.
        data: Which frames.
        model: Which network.
        neuron: Which neuron.
        surrogate: Which surrogate derivative.
        readout: Which readout.
        optimization: How long and how fast.
        device: On what.
        output: Folder that run folders are made in.
    """

    name: str = "run"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    surrogate: SurrogateConfig = field(default_factory=SurrogateConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    output: str = "runs"

    def __post_init__(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            ConfigError: The message names the key.
        """
        steps = self.optimization
        _at_least("data.time_steps", self.data.time_steps, 1)
        _at_least("optimization.epochs", steps.epochs, 1)
        # Batch norm has no variance of a single sample.
        _at_least("optimization.batch_size", steps.batch_size, 2)
        _at_least("optimization.warmup_epochs", steps.warmup_epochs, 0)
        _at_least("device.devices", self.device.devices, 1)
        _at_least("seed", self.seed, 0)
        _at_least("optimization.weight_decay", steps.weight_decay, 0)
        if not 0 < steps.lr < math.inf:
            raise ConfigError(
                f"Expected `optimization.lr` to be positive, got {steps.lr}."
            )
        if steps.warmup_epochs > steps.epochs:
            raise ConfigError(
                "Expected `optimization.warmup_epochs` to be at most the "
                f"{steps.epochs} epochs, got {steps.warmup_epochs}."
            )
        if not self.name or "/" in self.name:
            raise ConfigError(
                f"Expected `name` to be a folder's name, got {self.name!r}."
            )

    @property
    def split(self) -> str:
        """Name of the split file."""
        return self.data.split or self.data.name

    def digest(self) -> str:
        """Hash what determines the result, the release of SpikingJelly included.

        Where data, split and results lie does not: moving a folder changes no run.

        Returns:
            Ten hexadecimal digits.
        """
        content = asdict(self)
        del content["output"], content["data"]["root"]
        content["data"]["split"] = Path(self.split).stem
        content["host"] = host.RELEASE
        canonical = json.dumps(content, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    def to_yaml(self) -> str:
        """Write all keys, defaults included, as `read` takes them."""
        return yaml.safe_dump(asdict(self), sort_keys=False)


def read(
    arguments: Sequence[str], prog: str = "python -m benchmarks train"
) -> TrainConfig:
    """Read a configuration from a command line.

    Args:
        arguments: `--config FILE.yaml` and overrides such as
            `--optimization.epochs 3`, the later ones winning.
        prog: How the usage message calls the command.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: If a file is missing or no YAML mapping, a key is unknown (the
            nearest is named), or a value has the wrong type.
    """
    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file with the keys")
    parser.add_class_arguments(TrainConfig)
    try:
        values = vars(parser.instantiate(parser.parse_args(list(arguments))))
        values.pop("config")
        return TrainConfig(**values)
    except ArgumentError as error:
        raise ConfigError(_with_nearest_key(str(error), parser)) from None


def _at_least(key: str, value: float, least: int) -> None:
    if not least <= value < math.inf:
        raise ConfigError(f"Expected `{key}` of at least {least}, got {value}.")


_UNKNOWN_KEY = re.compile(
    r"Option '(?P<file>[\w.]+)' is not accepted"
    r"|Group '(?P<group>[\w.]+)' does not accept option '(?P<member>[\w.]+)'"
    r"|unrecognized arguments: --(?P<line>[\w.-]+)"
)


def _with_nearest_key(message: str, parser: ArgumentParser) -> str:
    found = _UNKNOWN_KEY.search(message)
    if found is None:
        return " ".join(message.split())
    unknown = found["file"] or found["line"] or f"{found['group']}.{found['member']}"
    known = [key for key, _ in parser.get_defaults().items() if key != "config"]
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.4)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return f"Unknown key `{unknown}`.{hint} Known keys: {', '.join(known)}."
