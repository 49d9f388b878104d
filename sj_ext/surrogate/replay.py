"""What a neuron's surrogate did in a pass, found by running the pass once more.

The pass itself is left alone: whatever kernel it runs on, its results, gradients and
random numbers are bit for bit those of a neuron that nobody watches.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, NamedTuple, Protocol

import torch
from spikingjelly.activation_based import base
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext import host
from sj_ext.surrogate.masked import MaskedSurrogate

Count = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called with a time step, the spikes, ds/dx and ds/dx without the mask."""


class DrawsForSequences(Protocol):
    """A neuron that may draw the masks of all steps at once, beside its surrogate.

    One that has no such attribute asks its surrogate in each step.
    """

    @property
    def sequence_multiplier(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """How the last multi-step pass came by its mask; None asks the surrogate.

        Called with the input `[T, N, ...]` and h - v_threshold of all steps, in the
        random state that the pass began in, it gives the multiplier of that pass,
        which broadcasts to `[T, N, ...]`.
        """


# Whichever of these is called first is the pass; they call one another.
_PASSES = (
    "forward",
    "single_step_forward",
    "multi_step_forward",
    "functional_forward",
)


@contextmanager
def watched(node: nn.Module, count: Count) -> Iterator[None]:
    """Tell of every pass of a neuron what its surrogate did, step by step.

    After each pass a stand-in of the neuron, as it was before, runs the same input
    step by step, without gradients and from the same random state. The pass that
    activation checkpointing runs again during `backward` is not told twice.

    Args:
        node: A neuron with a `surrogate_function`.
        count: Is told, once or more a step. A multi-step pass begins at step 0, a
            single-step one where the last ended, or at 0 after a reset.

    Yields:
        Nothing; passes inside the block are told.
    """
    watch = _Watch(count)
    names = [name for name in (*_PASSES, "reset") if hasattr(node, name)]
    hidden = {name: node.__dict__[name] for name in names if name in node.__dict__}
    try:
        for name in names:
            run = watch.reset if name == "reset" else partial(watch.run, name)
            # An attribute of the instance hides the method from whoever calls it,
            # also from those that no hook of torch sees; a method of `node`, so that
            # a copy of the node has its own.
            shadow = partial(run, hidden.get(name))
            node.__dict__[name] = MethodType(shadow, node)
        yield
    finally:
        watch.over = True
        for name in names:
            node.__dict__.pop(name, None)
        node.__dict__.update(hidden)


class _Watch:
    def __init__(self, count: Count) -> None:
        self.over = False
        self._count = count
        self._step = 0
        self._inside = False

    def reset(self, hidden: Callable[..., Any] | None, node: nn.Module) -> Any:
        self._step = 0
        return _original("reset", hidden, node)()

    def run(
        self,
        name: str,
        hidden: Callable[..., Any] | None,
        node: nn.Module,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        run = _original(name, hidden, node)
        if self._inside or self.over or _is_recomputing():
            return run(*args, **kwargs)
        x = _input(name, args)
        device = torch.device("cpu") if x is None else x.device
        before, random_state = _stand_in(node), _random_state(device)
        self._inside = True
        try:
            output = run(*args, **kwargs)
        finally:
            self._inside = False
        with _from_random_state(device, random_state), torch.no_grad():
            self._run_again(node, before, name, x, args, kwargs)
        return output

    def _run_again(
        self,
        node: nn.Module,
        stand_in: Any,
        name: str,
        x: Tensor | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        surrogate = stand_in.surrogate_function
        steps = len(x) if x is not None and _runs_sequences(node, name) else None
        multiplier_of = None
        if steps is not None:
            self._step = 0
            multiplier_of = getattr(node, "sequence_multiplier", None)
        tell = partial(self._tell, steps, 0 if x is None else x.numel())
        asked: list[_Asked] = []
        stand_in.surrogate_function = _Recorder(
            surrogate, asked.append if multiplier_of else tell, bool(multiplier_of)
        )
        host.set_kernel(stand_in, "torch")
        getattr(type(node), name)(stand_in, *args, **kwargs)
        if multiplier_of and asked:
            over_seq = torch.stack([one.over for one in asked])
            multiplier = multiplier_of(x, over_seq).expand_as(over_seq)
            for one, kept in zip(asked, multiplier, strict=True):
                tell(one.masked(kept, surrogate.mask.scale))

    def _tell(self, steps: int | None, numel: int, one: "_Asked") -> None:
        # Some neurons ask their surrogate about all steps in one call.
        rows = steps if steps is not None and one.over.numel() == numel else 1
        parts = (one.spikes, one.derivative, one.whole)
        for row in zip(*(part.reshape(rows, -1) for part in parts), strict=True):
            self._count(self._step, *row)
            self._step += 1


class _Asked(NamedTuple):
    """One call of a surrogate: h - v_threshold, and what it made of it."""

    over: Tensor
    spikes: Tensor
    derivative: Tensor
    whole: Tensor

    def masked(self, multiplier: Tensor, scale: float) -> "_Asked":
        return self._replace(derivative=self.whole * multiplier * scale)


class _Recorder(SurrogateFunctionBase):
    """Stands in for a surrogate and shows its calls; its own class is never fused."""

    def __init__(
        self,
        original: SurrogateFunctionBase,
        show: Callable[[_Asked], None],
        drawn_apart: bool,
    ) -> None:
        super().__init__(spiking=original.spiking)
        self.training = original.training
        self.original = original
        self._show = show
        self._drawn_apart = drawn_apart

    def new_sequence(self) -> None:
        if isinstance(self.original, MaskedSurrogate):
            self.original.new_sequence()

    def forward(self, x: Tensor) -> Tensor:
        original = self.original
        if not (isinstance(original, MaskedSurrogate) and original.acts):
            spikes, whole = _differentiated(original, x)
            self._show(_Asked(x, spikes, whole, whole))
            return spikes
        # Asked in the order of the original, for the sake of the random numbers.
        multiplier = None if self._drawn_apart else original.multiplier(x)
        spikes, whole = _differentiated(original.base, x)
        asked = _Asked(x, spikes, whole, whole)
        if multiplier is not None:
            asked = asked.masked(multiplier, original.mask.scale)
        self._show(asked)
        return spikes


def _differentiated(
    function: SurrogateFunctionBase, x: Tensor
) -> tuple[Tensor, Tensor]:
    def same(tensor: Tensor) -> Tensor:
        return tensor

    # Activation checkpointing counts what is saved for backward: not this.
    apart = torch.autograd.graph.saved_tensors_hooks(same, same)
    with torch.inference_mode(False), torch.enable_grad(), apart:
        x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        spikes = function(x)
        (derivative,) = torch.autograd.grad(spikes.sum(), x)
    return spikes.detach(), derivative


def _stand_in(module: nn.Module) -> Any:
    """Copy a module as it is now; only parameters and states are shared."""
    copied = object.__new__(type(module))
    for key, value in module.__dict__.items():
        if key in (*_PASSES, "reset"):
            continue
        containers = (dict, list, set)
        copied.__dict__[key] = (
            copy.copy(value) if isinstance(value, containers) else value
        )
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        copied.__dict__[hooks].clear()
    for name, buffer in copied._buffers.items():
        copied._buffers[name] = None if buffer is None else buffer.clone()
    for name, child in copied._modules.items():
        copied._modules[name] = None if child is None else _stand_in(child)
    return copied


def _original(
    name: str, hidden: Callable[..., Any] | None, node: nn.Module
) -> Callable[..., Any]:
    if hidden is None:
        return partial(getattr(type(node), name), node)
    if isinstance(hidden, MethodType) and isinstance(hidden.__self__, type(node)):
        # `node` may be a copy of the one that it hid.
        return MethodType(hidden.__func__, node)
    return hidden


def _input(name: str, args: tuple[Any, ...]) -> Tensor | None:
    inputs = args[0] if name == "functional_forward" and args else args
    return inputs[0] if inputs and isinstance(inputs[0], Tensor) else None


def _runs_sequences(node: nn.Module, name: str) -> bool:
    if name in ("single_step_forward", "multi_step_forward"):
        return name == "multi_step_forward"
    if isinstance(node, base.StepModule) and "s" not in node.supported_step_mode():
        return True
    return getattr(node, "step_mode", "s") == "m"


def _is_recomputing() -> bool:
    # Inside `backward`; torch's own checkpointing asks in the same way.
    return torch._C._current_graph_task_id() != -1


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def _set_random_state(
    device: torch.device, state: tuple[Tensor, Tensor | None]
) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


@contextmanager
def _from_random_state(
    device: torch.device, state: tuple[Tensor, Tensor | None]
) -> Iterator[None]:
    after = _random_state(device)
    _set_random_state(device, state)
    try:
        yield
    finally:
        _set_random_state(device, after)
