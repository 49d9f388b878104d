"""Networks of finished runs, and their like before training."""

from collections.abc import Iterable

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from benchmarks.data.frames import EventFrames
from benchmarks.models.build import build_network
from benchmarks.runs.config import TrainConfig
from benchmarks.runs.folder import CheckpointError, RunFolder
from benchmarks.tasks.train import build_readout
from sj_ext.readout import Readout


def trained_network(config: TrainConfig, frames: EventFrames) -> nn.Module:
    """Load what a run has learned: the epoch that was selected on validation.

    Args:
        config: Of the run, which must be complete.
        frames: What it was trained on.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        CheckpointError: If the run has no checkpoint, or one of another network.
    """
    net = build_network(config, frames)
    _load(net, "network", config)
    return net.eval()


def trained_readout(config: TrainConfig) -> Readout:
    """Load the readout as it was when the network's epoch was selected.

    Args:
        config: Of the run, which must be complete.

    Returns:
        The readout in evaluation mode, on the CPU.

    Raises:
        CheckpointError: If the run has no checkpoint, or one of another readout.
    """
    readout = build_readout(config)
    _load(readout, "readout", config)
    return readout.eval()


def untrained_network(
    config: TrainConfig, frames: EventFrames, batches: Iterable[Tensor]
) -> nn.Module:
    """Make the network that a run starts with, and measure its batch statistics.

    Without them its batch norms would normalize nothing, and deep neurons never spike:
    that would be a floor for the wrong reason.

    Args:
        config: Of the run; its seed gives the weights.
        frames: What it would be trained on.
        batches: `[T, N, C, H, W]`, from the training part.

    Returns:
        The network in evaluation mode, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(config.seed)
        net = build_network(config, frames)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain mean over batches
    net.train()
    with torch.no_grad():
        for batch in batches:
            net(batch)
            functional.reset_net(net)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval()


def _load(module: nn.Module, what: str, config: TrainConfig) -> None:
    folder = RunFolder(config)
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        raise CheckpointError(f"The run in {folder.path} has no checkpoint.")
    try:
        module.load_state_dict(checkpoint["selected"][what])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"The checkpoint in {folder.path} does not fit its configuration: "
            f"{error}. Delete the folder to train the network afresh."
        ) from error
