"""Spiking neurons from a configuration."""

import inspect
from collections.abc import Callable

from spikingjelly.activation_based import neuron
from torch import nn

import sj_ext
from benchmarks.runs.config import ConfigError, NeuronConfig, SurrogateConfig
from sj_ext.registry import UnknownNameError
from sj_ext.surrogate import MaskedSurrogate

NeuronFactory = Callable[[], nn.Module]


def neuron_factory(config: NeuronConfig, surrogate: SurrogateConfig) -> NeuronFactory:
    """Say how each neuron layer of a network is made.

    Args:
        config: Which class of the host's `neuron` module, with which arguments.
        surrogate: Which derivative; without a mask the host's own surrogate is used,
            so that it runs as fast as the host can.

    Returns:
        A function of no arguments: each call makes a new node in multi-step mode,
        with a surrogate of its own.

    Raises:
        UnknownNameError: If the host has no neuron of that name.
        ConfigError: If it does not take the arguments.
    """
    classes = {
        name: member
        for name, member in vars(neuron).items()
        if isinstance(member, type)
        and issubclass(member, neuron.BaseNode)
        and not inspect.isabstract(member)
    }
    if config.name not in classes:
        raise UnknownNameError("a neuron of the host", config.name, sorted(classes))

    def make() -> nn.Module:
        try:
            return classes[config.name](
                **config.kwargs, surrogate_function=_make(surrogate), step_mode="m"
            )
        except TypeError as error:
            raise ConfigError(f"`neuron.kwargs` of {config.name}: {error}") from error

    return make


def _make(config: SurrogateConfig) -> nn.Module:
    if config.mask is None:
        return sj_ext.create("surrogate", config.base, **config.base_kwargs)
    return MaskedSurrogate(
        config.base, mask=config.mask, base_kwargs=config.base_kwargs
    )
