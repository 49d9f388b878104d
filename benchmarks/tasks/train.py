"""`python -m benchmarks train`: train one network as a configuration says."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

import sj_ext
from benchmarks import data
from benchmarks.data.batches import Batch, batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.label_noise import with_label_noise
from benchmarks.data.splits import Split, read_split
from benchmarks.data.transforms import event_mixup, input_transform
from benchmarks.models.build import build_network
from benchmarks.runs import torchrun
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import TrainConfig, read
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.folder import CheckpointError, RunFolder
from benchmarks.runs.progress import Reporter, duration
from benchmarks.training.session import Session, optimizer_steps
from sj_ext.readout import Readout, ReadoutLoss, TemporallyWeightedOutput
from sj_ext.surrogate import MaskedSurrogate, MaskSchedule

_BETWEEN_RANKS = 1_000_003


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read a configuration from the command line, train, and print the result."""
    train(_shared(read(arguments)), reporter, with_others=True)


def _shared(config: TrainConfig) -> TrainConfig:
    """Share the batches of one device among the processes that torchrun has started."""
    processes = torchrun.place().size if torchrun.processes_here() else 1
    device, optimization = config.device, config.optimization
    if processes == 1 or device.devices > 1:
        return config
    share, rest = divmod(optimization.batch_size, processes)
    if rest or share < 2:
        raise ConfigError(
            f"Expected `optimization.batch_size` to give each of {processes} processes "
            f"as many samples, at least 2, got {optimization.batch_size}."
        )
    return replace(
        config,
        device=replace(device, devices=processes),
        optimization=replace(optimization, batch_size=share),
    )


def train(
    config: TrainConfig,
    reporter: Reporter,
    after_epoch: Callable[[Session], None] | None = None,
    with_others: bool = False,
) -> RunFolder:
    """Train as `config` says, or go on where a killed run of it stopped.

    Args:
        config: All that determines the run.
        reporter: Shows progress.
        after_epoch: Called in the first process before training and after every
            epoch, each time before the checkpoint that a killed run goes on from: so
            it misses no epoch, but may see one twice. It must leave the session and
            torch's random state as they are.
        with_others: Whether this process may be one of several that train together.
            Those beside the first are started with its command line, which has to be
            that of a training.

    Returns:
        The run's folder, complete.

    Raises:
        ConfigError: If the configuration asks for what is not here.
    """
    if config.device.devices > 1 and not with_others:
        raise ConfigError(
            "Expected `device.devices` of a task that trains several networks to be "
            f"1, got {config.device.devices}: `train` takes several."
        )
    folder = RunFolder(config)
    if folder.is_complete:
        reporter.line(f"{config.name}: already complete")
        _show_result(folder, reporter)
        return folder
    fabric = _fabric(config)
    if config.device.threads is not None:
        torch.set_num_threads(config.device.threads)
    frames = data.load_configured(config.data)
    split = read_split(config.split, config.data.root)
    _check_classes(frames, split)
    # Locked before other processes start, so that none waits for one that gave up.
    with folder.locked() if torchrun.place().rank == 0 else nullcontext():
        fabric.launch()
        if not fabric.is_global_zero:
            reporter = Reporter.silent()
        _run(config, fabric, frames, split, folder, reporter, after_epoch)
        fabric.barrier()
    _show_result(folder, reporter)
    return folder


def _show_result(folder: RunFolder, reporter: Reporter) -> None:
    result = folder.read_result()
    accuracy = result["test_accuracy"]
    if result["validation_accuracy"] is None:
        found = f"{accuracy['last']:.2%} with the last epoch, without a validation part"
    else:
        found = (
            f"{accuracy['selected']:.2%} with the epoch selected on validation "
            f"({result['selected_epoch']} of {result['epochs']}), "
            f"{accuracy['last']:.2%} with the last"
        )
    reporter.line(
        f"{folder.config.name}: test accuracy {found}; written to {folder.path}"
    )


def _fabric(config: TrainConfig) -> Fabric:
    devices = config.device.devices
    here = torchrun.processes_here()
    processes = devices if here is None else torchrun.place().size
    if processes != devices:
        raise ConfigError(
            "Expected `device.devices` to be the number of processes that torchrun "
            f"has started, {processes}, got {devices}."
        )
    try:
        return Fabric(
            accelerator=config.device.accelerator,
            devices=here or devices,
            num_nodes=1 if here is None else processes // here,
            precision=config.device.precision,
        )
    except (RuntimeError, MisconfigurationException, TypeError) as error:
        raise ConfigError(f"`device` asks for what is not here: {error}") from error


def _run(
    config: TrainConfig,
    fabric: Fabric,
    frames: EventFrames,
    split: Split,
    folder: RunFolder,
    reporter: Reporter,
    after_epoch: Callable[[Session], None] | None,
) -> None:
    parts = {
        name: torch.as_tensor(indices)
        for name, indices in split.indices(frames.names).items()
    }
    frames = with_label_noise(
        frames, parts["train"], config.data.label_noise, config.seed
    )

    def loader(part: str, shuffle: bool = False) -> DataLoader[Batch]:
        return batches(
            frames,
            parts[part],
            config.optimization.batch_size,
            shuffle=shuffle,
            seed=config.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            augment=input_transform(config.data, training=shuffle),
            device=fabric.device,
            mixup=event_mixup(config.data) if shuffle else None,
        )

    training = loader("train", shuffle=True)
    validation = loader("validation") if len(parts["validation"]) else None
    if validation is None:
        _check_needs_no_validation(config)
    fabric.seed_everything(config.seed, verbose=False)
    net = build_network(config, frames)
    session = Session(
        fabric,
        net,
        build_readout(config),
        config.optimization,
        batches_per_epoch=len(training),
        mask_schedule=_mask_schedule(
            config, net, optimizer_steps(len(training), config.optimization)
        ),
        loss=build_loss(config),
    )
    # Each process draws masks of its own; the weights above are the same in all.
    # Far apart, so that no process draws what that of another seed does.
    own_seed = (config.seed + _BETWEEN_RANKS * fabric.global_rank) % 2**32
    fabric.seed_everything(own_seed, verbose=False)
    checksums = {"data": frames.checksum, "split": split.checksum}
    _resume(session, checksums, folder, reporter)
    calibration = config.surrogate.calibrate_window
    if calibration is not None and not session.windows:
        reporter.line(f"{config.name}: calibrating the window of each layer")
        session.calibrate_windows(training, calibration)
    if fabric.is_global_zero:
        folder.create()
        folder.add_environment(
            {
                **describe_environment(),
                "device": str(fabric.device),
                "processes": fabric.world_size,
                "seed": config.seed,
                **checksums,
            },
            resumed_after=session.epoch,
        )
        if session.history:
            # The process may have been killed between the checkpoint and these.
            folder.write_metrics(session.history)
    if not fabric.is_global_zero:
        after_epoch = None
    test = loader("test")
    loaders = _Loaders(training, validation, test if config.test_every_epoch else None)
    _train_epochs(session, loaders, checksums, folder, reporter, after_epoch)
    _test(session, test, [frames.names[i] for i in parts["test"]], folder)


def _check_classes(frames: EventFrames, split: Split) -> None:
    """Refuse frames of other classes than the split's: labels would mean others."""
    if set(frames.classes) != set(split.classes):
        odd = sorted(set(frames.classes) ^ set(split.classes))
        raise ConfigError(
            f"Expected frames of the {len(split.classes)} classes of the split "
            f"{split.name}, got {len(frames.classes)}: only one of both has {odd[0]}."
        )


def _check_needs_no_validation(config: TrainConfig) -> None:
    """Refuse a readout that learns from a validation part where there is none."""
    if config.readout.kwargs.get("accuracy_from") == "heldout":
        raise ConfigError(
            "Expected `readout.kwargs.accuracy_from` to be train, as the split "
            f"{config.split} has no validation part, got 'heldout'."
        )


def _mask_schedule(
    config: TrainConfig, net: torch.nn.Module, steps_per_epoch: int
) -> MaskSchedule | None:
    settings = config.surrogate.schedule
    if settings is None:
        return None
    # All layers have copies of one mask.
    mask = next(m.mask for m in net.modules() if isinstance(m, MaskedSurrogate))
    numbers = {k: v for k, v in mask.config().items() if isinstance(v, float)}
    if settings.attribute not in numbers:
        raise ConfigError(
            f"Expected `surrogate.schedule.attribute` to be a number of {mask}, such "
            f"as {', '.join(numbers)}, got {settings.attribute!r}."
        )
    begin = round(settings.begin_epoch * steps_per_epoch)
    if settings.epochs is None:
        steps = max(0, config.optimization.epochs * steps_per_epoch - begin)
    else:
        steps = round(settings.epochs * steps_per_epoch)
    try:
        return MaskSchedule(
            net,
            settings.attribute,
            settings.shape,
            start=numbers[settings.attribute],
            end=settings.end,
            steps=steps,
            begin=begin,
        )
    except ValueError as error:
        raise ConfigError(f"`surrogate.schedule`: {error}") from error


def build_readout(config: TrainConfig) -> Readout:
    """Build the readout that a configuration names.

    Args:
        config: Of a training run.

    Returns:
        The readout, fresh.

    Raises:
        ConfigError: If it has no such arguments.
    """
    name, kwargs = config.readout.name, config.readout.kwargs
    try:
        return sj_ext.create("readout", name, T=config.data.time_steps, **kwargs)
    except TypeError as error:
        raise ConfigError(f"`readout.kwargs` of {name}: {error}") from error


def build_loss(config: TrainConfig) -> ReadoutLoss:
    """Build the loss that a configuration names.

    Args:
        config: Of a training run.

    Returns:
        The loss.

    Raises:
        ConfigError: If it has no such arguments.
    """
    name, kwargs = config.loss.name, config.loss.kwargs
    smoothing = config.optimization.label_smoothing
    try:
        return sj_ext.create("loss", name, label_smoothing=smoothing, **kwargs)
    except TypeError as error:
        raise ConfigError(f"`loss.kwargs` of {name}: {error}") from error


def _resume(
    session: Session,
    checksums: Mapping[str, str],
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        return
    for what, checksum in checksums.items():
        if checkpoint.get(what) != checksum:
            raise CheckpointError(
                f"The run in {folder.path} was begun on another {what} (checksum "
                f"{checkpoint.get(what)}, now {checksum}). Delete the folder to start "
                "it afresh."
            )
    try:
        session.restore(checkpoint)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"The checkpoint in {folder.path} does not fit this version of the "
            f"program: {error}. Delete the folder to start the run afresh."
        ) from error
    reporter.line(
        f"{folder.config.name}: resumed after epoch {session.epoch} in {folder.path}"
    )


class _Loaders(NamedTuple):
    """What an epoch goes through: `test` only where it is judged each time."""

    training: DataLoader[Batch]
    validation: DataLoader[Batch] | None
    test: DataLoader[Batch] | None


def _train_epochs(
    session: Session,
    loaders: _Loaders,
    checksums: Mapping[str, str],
    folder: RunFolder,
    reporter: Reporter,
    after_epoch: Callable[[Session], None] | None,
) -> None:
    fabric, epochs, name = session.fabric, session.settings.epochs, folder.config.name
    remaining = epochs - session.epoch
    samples = len(loaders.training.sampler) * fabric.world_size  # type: ignore[arg-type]
    board = None
    if fabric.is_global_zero:
        # One file with all epochs: what a killed process had written may be short of
        # the last, and the order of several files hangs on their seconds.
        for former in folder.path.glob("events.out.tfevents.*"):
            former.unlink()
        board = SummaryWriter(str(folder.path))
        for row in session.history:
            _add_to(board, row)
    if after_epoch is not None and session.epoch == 0:
        after_epoch(session)
    with reporter.bar(name, remaining * samples, "samples") as bar:
        while session.epoch < epochs:
            row = session.train_epoch(
                loaders.training,
                loaders.validation,
                lambda n: bar.advance(n * fabric.world_size),
                loaders.test,
            )
            if after_epoch is not None:
                after_epoch(session)
            state = session.state()
            if board is not None:
                folder.save_checkpoint({**state, **checksums})
                folder.write_metrics(session.history)
                _add_to(board, row)
            left = (epochs - session.epoch) * row["seconds"]
            reporter.line(
                f"{name}: epoch {session.epoch}/{epochs}  "
                f"loss {row['train_loss']:.3f}  train {row['train_accuracy']:.1%}  "
                f"{_validated(row)}"
                f"{row['samples_per_second']:.0f} samples/s  {duration(left)} left"
            )
    if board is not None:
        board.close()


def _validated(row: Mapping[str, float]) -> str:
    accuracy = row["validation_accuracy"]
    return "" if np.isnan(accuracy) else f"validation {accuracy:.1%}  "


def _add_to(board: SummaryWriter, row: Mapping[str, float]) -> None:
    for key, value in row.items():
        board.add_scalar(key, value, int(row["epoch"]))
    board.flush()


def _test(
    session: Session, loader: DataLoader[Batch], names: list[str], folder: RunFolder
) -> None:
    accuracy, unweighted, logits, weight = {}, {}, {}, {}
    for which in ("last", "selected"):
        if which == "selected":
            session.use_selected()
        found, target = session.predict(loader)
        accuracy[which], _ = session.evaluate(found, target)
        if isinstance(session.readout, TemporallyWeightedOutput):
            unweighted[which] = session.unweighted_accuracy(found, target)
        logits[which] = found.transpose(0, 1).numpy()
        weight[which] = _weight(session)
    if not session.fabric.is_global_zero:
        return
    folder.write_predictions(
        names=np.array(names),
        target=target.numpy(),
        logits_selected=logits["selected"],
        logits_last=logits["last"],
        readout_weight_selected=weight["selected"].numpy(),
        readout_weight_last=weight["last"].numpy(),
    )
    folder.add_end()
    last = session.history[-1]
    of_spikes = ("gradient_density", "firing_rate") if session.spiking else ()
    folder.write_result(
        {
            "test_accuracy": accuracy,
            **({"test_accuracy_unweighted": unweighted} if unweighted else {}),
            **_best_on_test(session),
            # NaN, which is not JSON, where the split has no validation part.
            "validation_accuracy": (
                None
                if np.isnan(session.selected.accuracy)
                else session.selected.accuracy
            ),
            "selected_epoch": session.selected.epoch,
            "epochs": session.epoch,
            **{key: last[key] for key in of_spikes},
            "seconds_per_epoch": float(
                np.median([row["seconds"] for row in session.history])
            ),
            "layers": session.layers,
            "windows": session.windows,
        }
    )


def _best_on_test(session: Session) -> dict[str, float]:
    """Give the best epoch in hindsight, as the literature does: optimistic."""
    judged = [row["test_accuracy"] for row in session.history if "test_accuracy" in row]
    return {"best_on_test_accuracy": max(judged)} if judged else {}


def _weight(session: Session) -> Tensor:
    """Give the weight of each step, of mean 1; NaN if it is no weighted mean."""
    T = session.readout.T
    try:
        return (T * session.readout.shares(T)).float()
    except TypeError:
        return torch.full((T,), torch.nan)
