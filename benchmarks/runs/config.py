"""The typed configuration of a training run: read, checked and named by its content."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks.runs.command_line import ConfigError, options, read_as
from sj_ext import host

_CONCENTRATION = "temporal_concentration"


@dataclass(frozen=True)
class CacheConfig:
    """Which frames of a set of event files, see `benchmarks.data.cache`.

    Attributes:
        split_by: Slices of equal `"number"` of events or equal `"time"`.
        size: Height and width, the events of the pixels that fall together added up;
            None keeps the sensor's.
        compressed: Whether the file with the frames is: a fraction of the bytes, and
            decompressed once when a run begins.
    """

    split_by: Literal["number", "time"] = "number"
    size: int | None = None
    compressed: bool = False


@dataclass
class DataConfig:
    """Which frames are trained on.

    Attributes:
        name: Data set, see `benchmarks.data.available()`.
        root: Folder that it was prepared in.
        time_steps: Frames a sample, T.
        split: Split file, by name; None is the one named like the data set.
        label_noise: Share of the training labels that are replaced by wrong ones, in
            [0, 1]; validation and test keep theirs.
        augment: Preset of `benchmarks.data.transforms` for the training part.
        resize: Height and width that frames of all parts are brought to, bilinear, as
            the papers do with 48; None leaves them.
        cache: Which frames of a set of event files; None takes those that `prepare`
            made: events split by number, at the sensor's size.
        mixup: Mixes the events of each training batch with those of its samples in
            another order, by shares from Beta(mixup, mixup); the target of a sample is
            then both labels by their shares. None does not.
    """

    name: str = "event_digits"
    root: str = "data/event_digits"
    time_steps: int = 10
    split: str | None = None
    label_noise: float = 0.0
    augment: (
        Literal[
            "two",
            "tet",
            "nda",
            "nda_n_caltech101",
            "eventdrop",
            "cifar",
            "cifar_plain",
            "cifar_autoaugment",
        ]
        | None
    ) = None
    resize: int | None = None
    cache: CacheConfig | None = None
    mixup: float | None = None


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
        name: A class of the host's `neuron` module that derives from its `BaseNode`,
            as all but the parallel ones (PSN) do; or `"ReLU"`, which makes the same
            network an ANN: it then has no surrogate, so `surrogate` stays as it is
            by default.
        kwargs: Arguments of that class, but the surrogate and the step mode.
    """

    name: str = "LIFNode"
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class ScheduleConfig:
    """How a number of the mask changes while training, see `MaskSchedule`.

    It starts as `surrogate.mask` has it. With `mask: {name: bernoulli, p: 0.5}`,
    `schedule: {attribute: p, end: 0.99, begin_epoch: 5}` keeps p = 0.5 for five
    epochs; then p rises with each optimizer step until training ends.

    Attributes:
        attribute: Which number of the mask: `"p"`, `"density"`, `"half_width"`, ...
        end: What it becomes; None with the constant shape, which changes nothing.
        shape: `"constant"`, `"linear"` or `"cosine"` (half a wave).
        begin_epoch: Epochs before it starts to change, fewer than there are; may be a
            fraction.
        epochs: How many epochs the way takes; 0 jumps, None takes all that are left.
    """

    attribute: str
    end: float | None = None
    shape: Literal["constant", "linear", "cosine"] = "linear"
    begin_epoch: float = 0.0
    epochs: float | None = None


@dataclass
class CalibrationConfig:
    """How the window of each layer is chosen, see `calibrate_window`.

    Attributes:
        density: Share of the surrogate derivatives that a window keeps, in (0, 1).
        batches: How many training batches of each process are measured; None takes
            all.
        share_of_base: In place of `density`: share that each layer keeps of those of
            its derivatives that are not zero without a mask, in (0, 1).
    """

    density: float | None = None
    batches: int | None = None
    share_of_base: float | None = None


@dataclass
class SurrogateConfig:
    """Which surrogate derivative the neurons have.

    Attributes:
        base: Name of a surrogate function, see `sj_ext.available("surrogate")`.
        base_kwargs: Its arguments.
        mask: JSON form of a mask rule; None trains with the plain base.
        schedule: How a number of the mask changes while training; None leaves it.
        calibrate_window: With `mask: {name: window}`: before training begins, each
            layer gets the window that keeps this share of its derivatives on the
            training part: `calibrate_window: {density: 0.3}`; or, with
            `{share_of_base: 0.5}`, this share of its own density without a mask. The
            widths are kept in checkpoint and result. None leaves the `half_width` of
            the mask.
    """

    base: str = "PiecewiseQuadratic"
    base_kwargs: dict[str, Any] = field(default_factory=lambda: {"alpha": 2.0})
    mask: dict[str, Any] | None = None
    schedule: ScheduleConfig | None = None
    calibrate_window: CalibrationConfig | None = None


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
class LossConfig:
    """What is minimised.

    Attributes:
        name: A registered loss, see `sj_ext.available("loss")`.
        kwargs: Its arguments, but `label_smoothing`, which is in `optimization`.

    `temporal_concentration` is no mean over samples, so that it takes one process and
    one batch for each step of the optimizer.
    """

    name: str = "cross_entropy"
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class OptimizationConfig:
    """An optimizer with linear warm-up and cosine decay to zero.

    Attributes:
        epochs: Number of passes over the training set.
        warmup_epochs: How many of them the learning rate rises.
        batch_size: Samples a batch and process.
        accumulate: Batches whose gradients are averaged for one optimizer step; batch
            norm sees each by itself.
        optimizer: `"adamw"` or `"sgd"`.
        lr: Highest learning rate.
        weight_decay: As the optimizer has it.
        momentum: Of SGD.
        label_smoothing: Of the cross-entropy in the loss, in [0, 1].
    """

    epochs: int = 10
    warmup_epochs: float = 0.0
    batch_size: int = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 0.001
    weight_decay: float = 0.01
    momentum: float = 0.9
    label_smoothing: float = 0.0
    accumulate: int = 1


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
        loss: Which loss.
        optimization: How long and how fast.
        device: On what.
        test_every_epoch: Whether the test part is judged after each epoch, so that the
            literature's best-on-test figure can be given beside honest ones; changes
            nothing in training and selects nothing.
        output: Folder that run folders are made in.
    """

    name: str = "run"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    surrogate: SurrogateConfig = field(default_factory=SurrogateConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    test_every_epoch: bool = False
    output: str = "runs"

    def __post_init__(self) -> None:
        """Refuse numbers that no run can have.

        Raises:
            ConfigError: The message names the key.
        """
        steps = self.optimization
        at_least("data.time_steps", self.data.time_steps, 1)
        if self.data.resize is not None:
            at_least("data.resize", self.data.resize, 1)
        if self.data.cache is not None and self.data.cache.size is not None:
            at_least("data.cache.size", self.data.cache.size, 1)
        if self.data.mixup is not None and not 0 < self.data.mixup < math.inf:
            raise ConfigError(
                f"Expected `data.mixup` to be positive, got {self.data.mixup}."
            )
        at_least("optimization.epochs", steps.epochs, 1)
        # Batch norm has no variance of a single sample.
        at_least("optimization.batch_size", steps.batch_size, 2)
        at_least("optimization.accumulate", steps.accumulate, 1)
        at_least("optimization.warmup_epochs", steps.warmup_epochs, 0)
        at_least("device.devices", self.device.devices, 1)
        at_least("seed", self.seed, 0)
        at_least("optimization.weight_decay", steps.weight_decay, 0)
        at_least("optimization.momentum", steps.momentum, 0)
        if not 0 <= steps.label_smoothing <= 1:
            raise ConfigError(
                "Expected `optimization.label_smoothing` in [0, 1], got "
                f"{steps.label_smoothing}."
            )
        if "label_smoothing" in self.loss.kwargs:
            raise ConfigError(
                "Expected no key `loss.kwargs.label_smoothing`: it is "
                "`optimization.label_smoothing`."
            )
        self._check_concentration()
        if not 0 <= self.data.label_noise <= 1:
            raise ConfigError(
                f"Expected `data.label_noise` in [0, 1], got {self.data.label_noise}."
            )
        if not 0 < steps.lr < math.inf:
            raise ConfigError(
                f"Expected `optimization.lr` to be positive, got {steps.lr}."
            )
        if steps.warmup_epochs > steps.epochs:
            raise ConfigError(
                "Expected `optimization.warmup_epochs` to be at most the "
                f"{steps.epochs} epochs, got {steps.warmup_epochs}."
            )
        if self.surrogate.schedule is not None:
            _check_schedule(self.surrogate, self.surrogate.schedule, steps.epochs)
        if self.surrogate.calibrate_window is not None:
            _check_calibration(self.surrogate, self.surrogate.calibrate_window)
        check_folder_name(self.name)

    def _check_concentration(self) -> None:
        """Refuse what a loss over pairs of prefixes of a whole batch cannot have."""
        if self.loss.name != _CONCENTRATION:
            return
        if self.data.time_steps < 2:
            raise ConfigError(
                f"Expected `data.time_steps` of at least 2 with the loss "
                f"{_CONCENTRATION}, got {self.data.time_steps}."
            )
        if self.device.precision == "16-mixed":
            raise ConfigError(
                "Expected `device.precision` to be 32-true, 64-true or bf16-mixed with "
                f"the loss {_CONCENTRATION}, got '16-mixed': the derivatives inside "
                "it are not scaled."
            )
        numbers = {
            "device.devices": self.device.devices,
            "optimization.accumulate": self.optimization.accumulate,
        }
        for key, number in numbers.items():
            if number > 1:
                raise ConfigError(
                    f"Expected `{key}` to be 1 with the loss {_CONCENTRATION}, "
                    f"got {number}: it is a ratio of sums over the batch, which is not "
                    "the mean of its parts."
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
        for key in ("cache", "mixup"):
            # A run without them is the same as before there were these keys.
            if content["data"][key] is None:
                del content["data"][key]
        calibration = content["surrogate"]["calibrate_window"]
        if calibration is not None and calibration["share_of_base"] is None:
            del calibration["share_of_base"]
        content["host"] = host.RELEASE
        # As before there were these keys: those runs keep their folders.
        if not self.test_every_epoch:
            del content["test_every_epoch"]
        if self.optimization.accumulate == 1:
            del content["optimization"]["accumulate"]
        if self.loss.name == _CONCENTRATION:
            # Another formula went by this name before.
            content["loss"]["formula"] = "centroid of information"
        return digest_of(content)

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
    """
    return read_as(TrainConfig, arguments, prog)


def overridden(train: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """Change keys of a configuration, checked as those of a command line are.

    Args:
        train: Is not changed.
        settings: Values by dotted keys, such as `{"neuron.kwargs.tau": 4.0}`. That of a
            group, such as `data`, is a mapping of some of its keys.

    Returns:
        The changed configuration.
    """
    return read(["--config", train.to_yaml(), *options(settings)])


def digest_of(content: Mapping[str, Any]) -> str:
    """Hash what determines a result.

    Args:
        content: As JSON can hold it; the order of keys does not matter.

    Returns:
        Ten hexadecimal digits.
    """
    canonical = json.dumps(content, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def check_folder_name(name: str) -> None:
    """Refuse a `name` that no folder can begin with."""
    if not name or "/" in name:
        raise ConfigError(f"Expected `name` to be a folder's name, got {name!r}.")


def check_left_open(train: TrainConfig, keys: Sequence[str], who: str) -> None:
    """Refuse keys of a training run that what runs it sets by itself.

    Args:
        train: Of the runs, as it was read.
        keys: Which must be as they are by default.
        who: What sets them, for the message.

    Raises:
        ConfigError: The message names the key.
    """
    default = TrainConfig()
    for key in keys:
        if getattr(train, key) != getattr(default, key):
            raise ConfigError(
                f"Expected no key `train.{key}`: {who} sets it, got "
                f"{getattr(train, key)!r}."
            )


def at_least(key: str, value: float, least: int) -> None:
    """Refuse a number below `least`, infinity and NaN; the message names the key."""
    if not least <= value < math.inf:
        raise ConfigError(f"Expected `{key}` of at least {least}, got {value}.")


def _check_schedule(
    surrogate: SurrogateConfig, schedule: ScheduleConfig, epochs: int
) -> None:
    if surrogate.mask is None:
        raise ConfigError(
            "Expected `surrogate.mask` to be a rule where `surrogate.schedule` is "
            "given, got null."
        )
    if surrogate.calibrate_window is not None:
        raise ConfigError(
            "Expected `surrogate.schedule` or `surrogate.calibrate_window`, got both."
        )
    if (schedule.end is None) != (schedule.shape == "constant"):
        raise ConfigError(
            "Expected `surrogate.schedule.end` with every shape but constant, got "
            f"{schedule.end} with {schedule.shape}."
        )
    for key, default in (("begin_epoch", 0), ("epochs", None)):
        found = getattr(schedule, key)
        if schedule.shape == "constant" and found != default:
            raise ConfigError(
                f"Expected no `surrogate.schedule.{key}` with the constant shape, "
                f"which changes nothing, got {found}."
            )
    at_least("surrogate.schedule.begin_epoch", schedule.begin_epoch, 0)
    if schedule.begin_epoch >= epochs:
        raise ConfigError(
            f"Expected `surrogate.schedule.begin_epoch` below the {epochs} epochs, "
            f"got {schedule.begin_epoch}."
        )
    if schedule.epochs is not None:
        at_least("surrogate.schedule.epochs", schedule.epochs, 0)


def _check_calibration(
    surrogate: SurrogateConfig, calibration: CalibrationConfig
) -> None:
    if surrogate.mask != {"name": "window"}:
        raise ConfigError(
            "Expected `surrogate.mask` to be {name: window}, and no more, where "
            f"`surrogate.calibrate_window` is given, got {surrogate.mask}."
        )
    shares = {
        key: share
        for key in ("density", "share_of_base")
        if (share := getattr(calibration, key)) is not None
    }
    if len(shares) != 1:
        raise ConfigError(
            "Expected one of `density` and `share_of_base` in "
            f"`surrogate.calibrate_window`, got {shares or 'neither'}."
        )
    for key, share in shares.items():
        if not 0 < share < 1:
            raise ConfigError(
                f"Expected `surrogate.calibrate_window.{key}` in (0, 1), got {share}."
            )
    if calibration.batches is not None:
        at_least("surrogate.calibrate_window.batches", calibration.batches, 1)
