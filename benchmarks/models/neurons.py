"""Neurons from a configuration: spiking ones, or the ReLU of the ANN twin."""

import inspect
from collections.abc import Callable

from spikingjelly.activation_based import neuron
from torch import nn

import sj_ext
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import NeuronConfig, SurrogateConfig
from sj_ext.registry import UnknownNameError

NeuronFactory = Callable[[], nn.Module]

_RELU = "ReLU"
# Bases of the host's neurons, without equations of their own.
_WITHOUT_EQUATIONS = (neuron.BaseNode, neuron.AdaptBaseNode)


def neuron_factory(config: NeuronConfig, surrogate: SurrogateConfig) -> NeuronFactory:
    """Say how each neuron layer of a network is made.

    Args:
        config: Which class of the host's `neuron` module, with which arguments; or
            ReLU, with none.
        surrogate: Which base derivative; masks are put on the built network.

    Returns:
        A function of no arguments: each call makes a new node in multi-step mode,
        with a surrogate of its own, or a new `torch.nn.ReLU`, which takes `[T, N,
        ...]` as it takes any shape.

    Raises:
        UnknownNameError: If the host has no neuron of that name; those without a
            surrogate of each step, such as PSN, do not count.
        ConfigError: If it does not take the arguments, or ReLU is to have a surrogate
            other than the default.
    """
    if config.name == _RELU:
        _check_relu(config, surrogate)
        return nn.ReLU
    classes = {
        name: member
        for name, member in vars(neuron).items()
        if isinstance(member, type)
        and issubclass(member, neuron.BaseNode)
        and member not in _WITHOUT_EQUATIONS
        and not inspect.isabstract(member)
    }
    if config.name not in classes:
        raise UnknownNameError("a neuron", config.name, sorted([*classes, _RELU]))

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


def _check_relu(config: NeuronConfig, surrogate: SurrogateConfig) -> None:
    if config.kwargs:
        raise ConfigError(
            f"Expected `neuron.kwargs` of {_RELU} to be empty, got {config.kwargs}."
        )
    for key, default in vars(SurrogateConfig()).items():
        found = getattr(surrogate, key)
        if found != default:
            raise ConfigError(
                f"Expected `surrogate.{key}` to be left at {default} with {_RELU}, "
                f"which has no surrogate, got {found}."
            )
