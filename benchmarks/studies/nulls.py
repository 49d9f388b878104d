"""What a profile over time has to be compared with: two nulls.

A stateless readout on steps that are independent draws from one distribution has
nothing that could happen in time, and a network on time-shuffled input has no order of
steps to answer to. Of images that stand still the second says nothing: shuffled, they
are the same input.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from lightning_fabric import Fabric
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from benchmarks.data.batches import batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.transforms import Transform
from benchmarks.runs.config import OptimizationConfig
from benchmarks.training.session import Session
from sj_ext.readout import RateReadout, ReadoutLoss


def stateless_readout(features: int, classes: int) -> nn.Module:
    """Make a linear classifier of single steps.

    Args:
        features: Numbers in a frame.
        classes: Number of logits, K.

    Returns:
        A network of `[T, N, C, H, W]` to `[T, N, K]` without neurons.
    """
    net = nn.Sequential(
        OrderedDict(flatten=layer.Flatten(), linear=layer.Linear(features, classes))
    )
    functional.set_step_mode(net, "m")
    return net


def time_shuffled(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Put the steps of each sample into an order of its own.

    Args:
        frames: `[T, N, ...]`.
        generator: Draws the orders.

    Returns:
        `[T, N, ...]`.
    """
    T, N = frames.shape[:2]
    order = torch.rand(T, N, generator=generator).argsort(0)
    return frames[order, torch.arange(N)]


def steps_are_equal(frames: Tensor) -> bool:
    """Say whether every sample shows the same at all steps, as a still image does.

    Args:
        frames: `[n, T, ...]`.

    Returns:
        Whether time-shuffling would change nothing.
    """
    # A view that repeats one image needs no look.
    if frames.shape[1] == 1 or frames.stride(1) == 0:
        return True
    return all(bool((one == one[:1]).all()) for one in frames)


def train_in_memory(
    net: nn.Module,
    frames: EventFrames,
    parts: Mapping[str, Tensor],
    settings: OptimizationConfig,
    seed: int,
    after_epoch: Callable[[Session], None] | None = None,
    loss: ReadoutLoss | None = None,
    augment: Transform | None = None,
) -> Session:
    """Train on the CPU without a folder: for networks that take seconds.

    Args:
        net: `[T, N, C, H, W]` to logits `[T, N, K]`.
        frames: What it is trained on.
        parts: Positions of the recordings for "train" and "validation".
        settings: How long and how fast.
        seed: Of the order of samples.
        after_epoch: Called before training and after every epoch.
        loss: What is minimised; None is the cross-entropy of the mean over time.
        augment: Changes the frames of each batch.

    Returns:
        The session, ended.
    """
    training = batches(
        frames,
        parts["train"],
        settings.batch_size,
        shuffle=True,
        seed=seed,
        augment=augment,
    )
    validation = batches(
        frames, parts["validation"], 4 * settings.batch_size, augment=augment
    )
    readout = RateReadout(frames.time_steps)
    fabric = Fabric(accelerator="cpu", devices=1)
    session = Session(fabric, net, readout, settings, len(training), loss=loss)
    if after_epoch is not None:
        after_epoch(session)
    while session.epoch < settings.epochs:
        session.train_epoch(training, validation, lambda _: None)
        if after_epoch is not None:
            after_epoch(session)
    return session
