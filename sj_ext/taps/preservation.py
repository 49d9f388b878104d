"""Leaving a network as it was found: modes, buffers, states, gradients, RNG."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_Net = TypeVar("_Net", bound=nn.Module)


@contextmanager
def preserved(net: _Net) -> Iterator[_Net]:
    """Put `net` back as it was, whatever runs inside, also after an exception.

    Restored are train modes and all else that modules keep as plain attributes, every
    buffer (so batch statistics), the memories of neurons, the `.grad` of parameters,
    and torch's random state on the CPU and on the network's CUDA devices. The
    parameters themselves are not: an analysis has no business with them. Restoring
    costs a copy of the buffers, the states and the gradients there are.

    Args:
        net: Any network.

    Yields:
        `net` itself.
    """
    with ExitStack() as stack:
        stack.callback(_restore_random_state, *_random_state(net))
        for module in net.modules():
            stack.callback(_attributes(module))
            stack.callback(_tensors(module._buffers))
            memories = module.__dict__.get("_memories")
            if isinstance(memories, dict):
                stack.callback(_tensors(memories))
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


def _tensors(owner: dict[str, Any]) -> Callable[[], None]:
    before = {name: _Kept(value) for name, value in owner.items()}

    def restore() -> None:
        for name in set(owner) - set(before):
            del owner[name]
        for name, kept in before.items():
            owner[name] = kept.restored()

    return restore


def _gradient(parameter: nn.Parameter) -> Callable[[], None]:
    kept = _Kept(parameter.grad)

    def restore() -> None:
        parameter.grad = kept.restored()

    return restore


class _Kept:
    """A value, and a copy of it where it can be changed in place."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._copy = value.detach().clone() if isinstance(value, Tensor) else None

    def restored(self) -> Any:
        # Version counters do not tell: batch norm changes its buffers behind them.
        if self._copy is not None and not torch.equal(self._value, self._copy):
            with torch.no_grad():
                # Through `detach`, as an old graph may still hold the tensor itself.
                self._value.detach().copy_(self._copy)
        return self._value
