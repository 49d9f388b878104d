"""Spiking neurons from a configuration."""

import inspect
from collections.abc import Callable

from spikingjelly.activation_based import neuron
from torch import nn

import sj_ext
from benchmarks.runs.config import ConfigError, NeuronConfig, SurrogateConfig
from sj_ext.registry import UnknownNameError

NeuronFactory = Callable[[], nn.Module]


def neuron_factory(config: NeuronConfig, surrogate: SurrogateConfig) -> NeuronFactory:
    """Say how each neuron layer of a network is made.

    Args:
        config: Which class of the host's `neuron` module, with which arguments.
        surrogate: Which base derivative; masks are put on the built network.

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
            function = sj_ext.create(
                "surrogate", surrogate.base, **surrogate.base_kwargs
            )
        except TypeError as error:
            raise ConfigError(
                f"`surrogate.base_kwargs` of {surrogate.base}: {error}"
            ) from error
        try:
            return classes[config.name](
                **config.kwargs, surrogate_function=function, step_mode="m"
            )
        except TypeError as error:
            raise ConfigError(f"`neuron.kwargs` of {config.name}: {error}") from error

    return make
