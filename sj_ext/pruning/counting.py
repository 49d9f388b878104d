"""How many sample-steps a network runs, forward and backward, seen from its layers.

Whatever calls the network (whole sequences, step by step, one sample at a time), the
first of its layers that knows its step mode sees every step of every sample once.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from spikingjelly.activation_based import base
from torch import Tensor, nn


class SampleSteps:
    """Sample-steps counted so far.

    Attributes:
        forward: Of forward passes.
        backward: Of backward passes that reached the first layer.
    """

    def __init__(self) -> None:
        self.forward = 0
        self.backward = 0
        self._first: nn.Module | None = None

    def _note(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._first is None:
            self._first = module
        if module is not self._first or not isinstance(output, Tensor):
            return
        multi_step = module.step_mode == "m"
        count = output.shape[0] * (output.shape[1] if multi_step else 1)
        self.forward += count
        if output.requires_grad:
            output.register_hook(lambda gradient: self._add_backward(count))

    def _add_backward(self, count: int) -> None:
        self.backward += count


@contextmanager
def counted(model: nn.Module) -> Iterator[SampleSteps]:
    """Count the sample-steps of all passes inside.

    A backward pass is counted with all steps of the call that it goes back through:
    where a network runs step by step, those after a prefix are not.

    Args:
        model: Has layers of the host.

    Yields:
        The numbers so far.

    Raises:
        ValueError: If no layer has a step mode.
    """
    layers = [m for m in model.modules() if isinstance(m, base.StepModule)]
    if not layers:
        raise ValueError(
            "Expected `model` to have layers with a step mode, by which its steps "
            f"are counted, got {type(model).__name__} without any."
        )
    found = SampleSteps()
    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_hook(found._note).remove)
        yield found
