"""Leaving a network as it was found: modes, buffers, states, gradients, RNG."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_Net = TypeVar("_Net", bound=nn.Module)

# What torch keeps in every module: hooks, parameters and the like.
_OF_TORCH = frozenset(vars(nn.Module()))


@contextmanager
def preserved(net: _Net) -> Iterator[_Net]:
    """Put `net` back as it was, whatever runs inside, also after an exception.

    Restored are train modes and all else that modules keep as plain attributes, every
    buffer (so batch statistics), the memories of neurons, the `.grad` of parameters,
    and torch's random state on the CPU and on the network's CUDA devices. Tensors,
    lists, dicts, sets and deques among the attributes, and within these, get back what
    they held; other objects stay the same, but what they hold is not looked into. Hooks
    and parameters are left alone: an analysis has no business with parameters.
    Restoring costs a copy of the tensors named.

    Args:
        net: Any network.

    Yields:
        `net` itself.
    """
    with ExitStack() as stack:
        stack.callback(_restore_random_state, *_random_state(net))
        contents = _Contents(net)
        stack.callback(contents.restore)
        for module in net.modules():
            stack.callback(_attributes(module))
            contents.note(module._buffers)
            for name, value in vars(module).items():
                if name not in _OF_TORCH:
                    contents.note(value)
        for parameter in net.parameters():
            stack.callback(_gradient(parameter))
        yield net


def _random_state(net: nn.Module) -> tuple[Tensor, dict[torch.device, Tensor]]:
    tensors = [*net.parameters(), *net.buffers()]
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    return (
        torch.get_rng_state(),
        {device: torch.cuda.get_rng_state(device) for device in devices},
    )


def _restore_random_state(state: Tensor, others: dict[torch.device, Tensor]) -> None:
    torch.set_rng_state(state)
    for device, other in others.items():
        torch.cuda.set_rng_state(other, device)


def _attributes(module: nn.Module) -> Callable[[], None]:
    before = dict(module.__dict__)

    def restore() -> None:
        for name in set(module.__dict__) - set(before):
            del module.__dict__[name]
        module.__dict__.update(before)

    return restore


def _gradient(parameter: nn.Parameter) -> Callable[[], None]:
    gradient, contents = parameter.grad, _Contents()
    contents.note(gradient)

    def restore() -> None:
        contents.restore()
        parameter.grad = gradient

    return restore


class _Contents:
    """What can be changed in place, with copies of what it held.

    Args:
        net: Whose parameters, and views of these, are left alone.
    """

    def __init__(self, net: nn.Module | None = None) -> None:
        parameters = [] if net is None else list(net.parameters())
        self._left_alone = {_storage(one) for one in parameters}
        self._tensors: list[tuple[Tensor, Tensor]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._seen: set[int] = set()

    def note(self, value: Any) -> None:
        """Copy a value, and what it holds."""
        if id(value) in self._seen:
            return
        if isinstance(value, Tensor) and value.layout is torch.strided:
            self._seen.add(id(value))
            if _storage(value) not in self._left_alone:
                self._tensors.append((value, value.detach().clone()))
        elif isinstance(value, list | deque | dict | set | tuple):
            self._seen.add(id(value))
            parts = list(value.items() if isinstance(value, dict) else value)
            if not isinstance(value, tuple):
                self._containers.append((value, parts))
            for part in value.values() if isinstance(value, dict) else parts:
                self.note(part)

    def restore(self) -> None:
        """Put everything back into the same objects."""
        for container, parts in self._containers:
            container.clear()
            if isinstance(container, dict | set):
                container.update(parts)
            else:
                container.extend(parts)
        for tensor, copy in self._tensors:
            # Version counters do not tell: batch norm changes its buffers behind them.
            if not torch.equal(tensor, copy):
                with torch.no_grad():
                    # Through `detach`, as an old graph may still hold the tensor.
                    tensor.detach().copy_(copy)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
