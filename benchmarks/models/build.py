"""From a configuration to the network of a run."""

from torch import nn

import sj_ext
from benchmarks.data.frames import EventFrames
from benchmarks.models.neurons import neuron_factory
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import TrainConfig
from sj_ext.neuron import mask_neurons


def build_network(config: TrainConfig, frames: EventFrames) -> nn.Module:
    """Build the network of a run, its neurons masked where the run masks them.

    Args:
        config: Of the run.
        frames: What it is trained on; gives channels, size and classes.

    Returns:
        The network, with weights from torch's random state.

    Raises:
        ConfigError: If the model or its masks do not take their arguments.
    """
    channels, height, width = frames.frames.shape[2:]
    if config.data.resize is not None:
        height = width = config.data.resize
    make_neuron = neuron_factory(config.neuron, config.surrogate)
    try:
        net: nn.Module = sj_ext.create(
            "model",
            config.model.name,
            in_channels=channels,
            classes=len(frames.classes),
            size=(height, width),
            neuron=make_neuron,
            **config.model.kwargs,
        )
    except TypeError as error:
        raise ConfigError(f"`model.kwargs` of {config.model.name}: {error}") from error
    if config.surrogate.mask is not None:
        try:
            mask_neurons(net, config.surrogate.mask)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"`surrogate.mask`: {error}") from error
    return net
