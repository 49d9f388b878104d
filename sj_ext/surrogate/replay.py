"""What a neuron's surrogate did in a pass, found by running the pass once more.

The pass itself is left alone: whatever kernel it runs on, its results, gradients and
random numbers are bit for bit those of a neuron that nobody watches.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, NamedTuple

import torch
from spikingjelly.activation_based import base
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext import host
from sj_ext.surrogate.masked import MaskedSurrogate

Count = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called with a time step, the spikes, ds/dx and ds/dx without the mask."""

# Whichever of these is called first is the pass; they call one another.
_SEQUENCES = ("multi_step_forward", "multi_step_functional_forward")
_SINGLE_STEPS = ("single_step_forward", "single_step_functional_forward")
_PASSES = ("forward", "functional_forward", *_SINGLE_STEPS, *_SEQUENCES)
_HIDING = (*_PASSES, "reset", "__getstate__")


@contextmanager
def watched(node: nn.Module, count: Count) -> Iterator[None]:
    """Tell of every pass of a neuron what its surrogate did, step by step.

    After each pass a stand-in of the neuron, as it was before, runs the same input
    step by step, without gradients and from the same random state. The pass that
    activation checkpointing runs again during `backward` is not told twice. A copy of
    the neuron that is made inside the block, pickled ones among them, is not watched.

    Args:
        node: A neuron with a `surrogate_function`.
        count: Is told, once or more a step. A multi-step pass begins at step 0, a
            single-step one where the last ended, or at 0 after a reset.

    Yields:
        Nothing; passes inside the block are told.
    """
    watch = _Watch(node, count)
    calls: dict[str, Callable[..., Any]] = {
        name: partial(watch.run, name) for name in _PASSES if hasattr(node, name)
    }
    if hasattr(node, "reset"):
        calls["reset"] = watch.reset
    calls["__getstate__"] = watch.state
    hidden = {name: node.__dict__[name] for name in calls if name in node.__dict__}
    try:
        for name, call in calls.items():
            # An attribute of the instance hides the method from whoever calls it,
            # also from those that no hook of torch sees.
            shadow = _Shadow(name, hidden.get(name), call)
            node.__dict__[name] = MethodType(shadow, node)
        yield
    finally:
        watch.over = True
        for name in calls:
            node.__dict__.pop(name, None)
        node.__dict__.update(hidden)


def assigned(node: nn.Module, name: str) -> Any:
    """Find what was assigned to a node in place of a method of its class.

    Args:
        node: A neuron, watched or not.
        name: Of the method.

    Returns:
        The attribute of the instance, None if it has none.
    """
    found = node.__dict__.get(name)
    while isinstance(found, MethodType) and isinstance(found.__func__, _Shadow):
        found = found.__func__.hidden
    return found


class _Shadow:
    """Is called as a method of a watched node, in place of the one that it hides."""

    def __init__(
        self, name: str, hidden: Callable[..., Any] | None, call: Callable[..., Any]
    ) -> None:
        self.name = name
        self.hidden = hidden
        self._call = call

    def __call__(self, node: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._original(node), node, *args, **kwargs)

    def _original(self, node: nn.Module) -> Callable[..., Any]:
        hidden = self.hidden
        if hidden is None:
            return partial(getattr(type(node), self.name), node)
        if isinstance(hidden, MethodType) and isinstance(hidden.__self__, type(node)):
            # `node` may be a stand-in of the one that it hid.
            return MethodType(hidden.__func__, node)
        return hidden


class _Watch:
    def __init__(self, node: nn.Module, count: Count) -> None:
        self.over = False
        self._node = node
        self._count = count
        self._step = 0
        self._inside = False

    def reset(self, original: Callable[..., Any], node: nn.Module) -> Any:
        if node is self._node:
            self._step = 0
        return original()

    def state(self, original: Callable[..., Any], node: nn.Module) -> Any:
        state = original()
        if not isinstance(state, dict):
            return state
        # What is copied or saved now has the methods that it had before.
        unwatched = {name: v for name, v in state.items() if name not in _HIDING}
        for name in _HIDING:
            if (method := assigned(node, name)) is not None:
                unwatched[name] = method
        return unwatched

    def run(
        self,
        name: str,
        original: Callable[..., Any],
        node: nn.Module,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        # A stand-in has the shadows of its node.
        others = node is not self._node
        if others or self._inside or self.over or _is_recomputing():
            return original(*args, **kwargs)
        x = _input(name, args, kwargs)
        device = torch.device("cpu") if x is None else x.device
        before, random_state = _stand_in(node), _random_state(device)
        self._inside = True
        try:
            output = original(*args, **kwargs)
        finally:
            self._inside = False
        with _from_random_state(device, random_state), torch.no_grad():
            self._run_again(before, name, x, args, kwargs)
        return output

    def _run_again(
        self,
        stand_in: Any,
        name: str,
        x: Tensor | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        steps = len(x) if x is not None and _runs_sequences(stand_in, name) else None
        if steps is not None:
            self._step = 0
        tell = partial(self._tell, steps, 0 if x is None else x.numel())
        stand_in.surrogate_function = Recorder(stand_in.surrogate_function, tell)
        host.set_kernel(stand_in, "torch")
        getattr(stand_in, name)(*args, **kwargs)

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


class Recorder(SurrogateFunctionBase):
    """Stands in for a surrogate and shows its calls; its own class is never fused.

    Args:
        original: The surrogate, which answers for all attributes but the calls.
        show: Is told of each call.
    """

    def __init__(self, original: nn.Module, show: Callable[[_Asked], None]) -> None:
        super().__init__(spiking=getattr(original, "spiking", True))
        self.training = original.training
        self.original = original
        self._show = show
        self._drawn_apart: list[_Asked] | None = None

    def __getattr__(self, name: str) -> Any:
        """Find what `torch.nn.Module` has not, in the original."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "original":
                raise
            return getattr(self.original, name)

    @contextmanager
    def drawn_at_once(self, multiplier: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Let one draw mask all the steps that are asked about inside the block.

        For neurons that draw beside their surrogate; this one is asked for no mask.

        Args:
            multiplier: Is called at the end of the block with h - v_threshold of all
                steps, `[T, N, ...]`; what it gives broadcasts to that.

        Yields:
            Nothing.
        """
        asked: list[_Asked] = []
        self._drawn_apart = asked
        try:
            yield
        finally:
            self._drawn_apart = None
        if asked:
            over_seq = torch.stack([one.over for one in asked])
            original: Any = self.original
            scale = original.mask.scale
            kept_seq = multiplier(over_seq).expand_as(over_seq)
            for one, kept in zip(asked, kept_seq, strict=True):
                self._show(one.masked(kept, scale))

    def new_sequence(self) -> None:
        """Forget what a mask keeps from step to step."""
        if isinstance(self.original, MaskedSurrogate):
            self.original.new_sequence()

    def forward(self, x: Tensor) -> Tensor:
        """Spike as the original does, and show it.

        Args:
            x: h - v_threshold, of any shape.

        Returns:
            The original's output, of the same shape.
        """
        original = self.original
        if not (isinstance(original, MaskedSurrogate) and original.acts):
            spikes, whole = _differentiated(original, x)
            self._show(_Asked(x, spikes, whole, whole))
            return spikes
        if self._drawn_apart is not None:
            spikes, whole = _differentiated(original.base, x)
            self._drawn_apart.append(_Asked(x, spikes, whole, whole))
            return spikes
        # Asked in the order of the original, for the sake of the random numbers.
        multiplier = original.multiplier(x)
        spikes, whole = _differentiated(original.base, x)
        asked = _Asked(x, spikes, whole, whole)
        self._show(asked.masked(multiplier, original.mask.scale))
        return spikes


def _differentiated(function: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
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
    """Copy a module as it is now; only its parameters are shared."""
    return _copied(module, {})


def _copied(module: nn.Module, memo: dict[int, Any]) -> Any:
    if id(module) in memo:
        return memo[id(module)]
    memo[id(module)] = copied = object.__new__(type(module))
    for key, value in module.__dict__.items():
        if isinstance(value, MethodType) and value.__self__ is module:
            copied.__dict__[key] = MethodType(value.__func__, copied)
        else:
            copied.__dict__[key] = _apart(value, memo)
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        copied.__dict__[hooks].clear()
    for name, child in copied._modules.items():
        copied._modules[name] = None if child is None else _copied(child, memo)
    return copied


def _apart(value: Any, memo: dict[int, Any]) -> Any:
    """Copy states, which may be written in place, wherever a neuron keeps them."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        memo[id(value)] = value.detach().clone()
    elif isinstance(value, torch.Generator):
        memo[id(value)] = value.clone_state()
    elif isinstance(value, dict):
        memo[id(value)] = copied = copy.copy(value)
        copied.update((key, _apart(one, memo)) for key, one in value.items())
    elif isinstance(value, (list, deque)):
        memo[id(value)] = sequence = copy.copy(value)
        for index, one in enumerate(value):
            sequence[index] = _apart(one, memo)
    elif isinstance(value, set):
        memo[id(value)] = copy.copy(value)
    elif type(value) is tuple:
        return tuple(_apart(one, memo) for one in value)
    return memo.get(id(value), value)


def _input(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    given = (*args, *kwargs.values())
    if name.endswith("functional_forward"):
        given = kwargs.get("inputs", args[0] if args else ())
    return next((one for one in given if isinstance(one, Tensor)), None)


def _runs_sequences(node: nn.Module, name: str) -> bool:
    if name in (*_SINGLE_STEPS, *_SEQUENCES):
        return name in _SEQUENCES
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
