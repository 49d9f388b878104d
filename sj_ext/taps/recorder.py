"""The hooks behind `taps`: they see every call, and keep what was asked for."""

import weakref
from collections.abc import Callable, Collection
from contextlib import ExitStack
from itertools import count
from typing import Any

import torch
from spikingjelly.activation_based import base, layer, neuron
from torch import Tensor, nn

from sj_ext.taps.fold_order import FoldOrder
from sj_ext.taps.foresight import foresee, foreseen_layout
from sj_ext.taps.layout import (
    Call,
    Kind,
    Layout,
    Reading,
    Seen,
    fold,
)
from sj_ext.taps.potential import check_potential, potentials, states
from sj_ext.taps.record import (
    Captured,
    Gradient,
    Pass,
    Record,
    Reduce,
    Reduced,
    flatten,
)
from sj_ext.taps.selection import is_leaf, is_neuron, named_layers
from sj_ext.taps.time_axis import (
    learn,
    read,
)
from sj_ext.taps.uses import group

_CHANNELS = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.GroupNorm,
)
_FEATURES = (nn.Linear, nn.LayerNorm, nn.RMSNorm)
_ELEMENTWISE = ("torch.nn.modules.activation", "torch.nn.modules.dropout")
_TIME_LAST = (layer.TLastMultiStepContainer, layer.TLastSeqToANNContainer)
_POTENTIALS = {"pre_reset", "post_reset"}


def kind_of(module: nn.Module) -> Kind:
    """Say what a module's type and step mode tell about its axes.

    Args:
        module: Any module.

    Returns:
        The kind, by the module's own step mode first.
    """
    if isinstance(module, _TIME_LAST):
        return Kind.TIME_LAST
    if isinstance(module, base.StepModule):
        if "s" not in module.supported_step_mode() or module.step_mode == "m":
            return Kind.MULTI_STEP
        if isinstance(module, base.MemoryModule):
            return Kind.SINGLE_STEP
    if isinstance(module, _CHANNELS):
        return Kind.CHANNELS
    if isinstance(module, _FEATURES):
        return Kind.FEATURES
    if isinstance(module, nn.MultiheadAttention):
        return Kind.OTHER
    if isinstance(module, nn.Identity) or type(module).__module__ in _ELEMENTWISE:
        return Kind.ELEMENTWISE
    return Kind.OTHER


class Recorder:
    """Watches one network; `attach` hooks it, the stack unhooks it."""

    def __init__(
        self,
        net: nn.Module,
        layers: dict[str, nn.Module],
        record: Record,
        kinds: Collection[str],
        T: int | None,
        batch_first: bool,
        detach: bool,
        reduce: Reduce | None = None,
    ) -> None:
        self._net, self._layers, self._record = net, layers, record
        self._reduce = reduce
        self._kinds, self._detach = set(kinds), detach
        self._T, self._batch_first = T, batch_first
        self._reset_since = False
        self._earlier: dict[tuple[str, int], Layout | None] = {}
        self._current: _Running | None = None
        timed = (Kind.MULTI_STEP, Kind.TIME_LAST, Kind.SINGLE_STEP)
        self._has_no_steps = all(kind_of(one) not in timed for one in net.modules())
        self._with_potential = {
            name
            for name, one in layers.items()
            if self._kinds & _POTENTIALS and is_neuron(one)
        }
        for name in self._with_potential:
            check_potential(name, layers[name])
        if self._kinds & _POTENTIALS and not self._with_potential:
            raise ValueError(
                "Expected `layers` to hold neurons of the host, whose potentials are "
                f"to be recorded, got none among {len(layers)} layers."
            )

    def attach(self, stack: ExitStack) -> None:
        """Hook the network.

        Args:
            stack: Unhooks it when it closes.
        """
        for module in self._net.modules():
            if isinstance(module, base.MemoryModule):
                stack.callback(self._watch_reset(module))
        begin = self._net.register_forward_pre_hook(self._begin, with_kwargs=True)
        stack.callback(begin.remove)
        watched = {
            name: module
            for name, module in named_layers(self._net)
            if is_leaf(module) or isinstance(module, base.StepModule)
        }
        for name, module in {**watched, **self._layers}.items():
            hooks = _Hooks(self, name, module)
            for handle in (
                module.register_forward_pre_hook(hooks.before, with_kwargs=True),
                module.register_forward_hook(hooks.after, with_kwargs=True),
            ):
                stack.callback(handle.remove)
        end = self._net.register_forward_hook(self._end)
        stack.callback(end.remove)
        self._stack = stack

    def _watch_reset(self, node: nn.Module) -> Callable[[], None]:
        reset: Callable[[], None] = node.reset  # type: ignore[assignment]
        own = node.__dict__.get("reset")

        def reset_and_tell() -> None:
            self._reset_since = True
            reset()

        # An attribute of the instance hides the method from whoever resets it.
        node.__dict__["reset"] = reset_and_tell

        def end() -> None:
            if own is None:
                del node.__dict__["reset"]
            else:
                node.__dict__["reset"] = own

        return end

    def _begin(self, net: nn.Module, args: Any, kwargs: Any) -> None:
        if _in_backward():
            return
        if getattr(net, "_is_replica", False):
            raise RuntimeError(
                "Expected the network to run on one device, got a replica of "
                "`DataParallel`: record `net.module` by itself."
            )
        self._current = _Running()
        network = Call("", Kind.OTHER, self._current.seen((args, kwargs)))
        self._current.network = network
        given = next((one for _, one in flatten((args, kwargs))), None)
        self._current.order = FoldOrder(given, self._batch_first)
        if self._reduce is not None and self._has_no_steps:
            self._current.foreseen = foresee(None, network, self._T, self._batch_first)

    def _end(self, net: nn.Module, args: Any, result: Any) -> None:
        running = self._current
        if running is None or _in_backward():
            return
        self._current = None
        running.network.outputs = running.seen(result)
        selected = set(self._layers)
        reading = read(
            running.calls,
            selected,
            running.network,
            self._T,
            self._batch_first,
            self._earlier,
        )
        groups, layouts = group(running.calls, selected, reading)
        running.order.check(layouts.values(), reading)
        for index, captured in running.captured.items():
            captured.check_foreseen(running.calls[index].name, layouts[index], reading)
        logits = self._record.pick(result)
        if logits is not None:
            logits = _copied(logits, self._detach)
        done = Pass(reading, running.calls, running.captured, groups, layouts, logits)
        # All at once, so that an uncertain axis is told by the pass that has it.
        for kind in self._kinds - {"output_gradient"}:
            for _ in done.tensors(kind):
                pass
        learn(running.calls, selected, reading, self._earlier)
        self._record.add(done, goes_on=not self._reset_since)
        self._reset_since = False

    def foresee(self, running: "_Running", call: Call) -> None:
        """Find T and N before the pass ends, if outputs are reduced on the way."""
        if self._reduce is not None and running.foreseen is None:
            running.foreseen = foresee(
                call, running.network, self._T, self._batch_first
            )

    def running(self, name: str) -> "_Running | None":
        """Give the pass that a call belongs to; None in a recomputed one.

        Args:
            name: Of the module that is called.

        Returns:
            The pass.

        Raises:
            RuntimeError: If the module is called outside any pass.
        """
        if _in_backward():
            return None
        if self._current is None:
            raise RuntimeError(
                "Expected the network itself to be called, got a call of its part "
                f"{name!r}: call the network, or record that part by itself."
            )
        return self._current

    def take(
        self, name: str, args: Any, kwargs: Any, module: nn.Module
    ) -> tuple[Captured, dict[str, Any] | None]:
        """Keep what a selected layer is given, before it can change it."""
        captured = Captured()
        assert self._current is not None
        if "input" in self._kinds:
            found = list(flatten((*args, *kwargs.values())))
            captured.tensors["input"] = {
                "" if len(found) == 1 else place: self._current.copy(one, self._detach)
                for place, one in found
            }
        return captured, states(module) if name in self._with_potential else None

    def apart(self, result: Any) -> Any:
        """Tell what a neuron passes on from the spikes that its reset uses."""
        wanted = "output_gradient" in self._kinds and isinstance(result, Tensor)
        return result.view_as(result) if wanted else result

    def give(
        self,
        name: str,
        captured: Captured,
        before: dict[str, Any] | None,
        module: nn.Module,
        args: Any,
        result: Any,
    ) -> None:
        """Keep what a selected layer gave."""
        assert self._current is not None
        outputs = dict(flatten(result))
        captured.places = list(outputs)
        if "output" in self._kinds:
            captured.tensors["output"] = {
                place: self._keep(name, captured, place, one)
                for place, one in outputs.items()
            }
        if "output_gradient" in self._kinds:
            for place, one in outputs.items():
                if one.requires_grad:
                    captured.gradients[place] = gradient = Gradient(one, self._detach)
                    self._stack.callback(one.register_hook(gradient).remove)
        if before is not None:
            if not isinstance(result, Tensor):
                raise TypeError(
                    f"Expected {type(module).__name__} at {name!r} to give spikes, got "
                    f"a {type(result).__name__}: leave it out of `layers`."
                )
            h, v = potentials(name, module, before, args[0], result)
            for kind, value in (("pre_reset", h), ("post_reset", v)):
                if kind in self._kinds:
                    captured.tensors[kind] = {"": value}

    def _keep(self, name: str, captured: Captured, place: str, output: Tensor) -> Any:
        """Copy an output, or reduce it at once where its axes are certain by now."""
        running = self._current
        assert running is not None
        if self._reduce is not None and running.foreseen is not None:
            call = running.calls[-1]
            layout = foreseen_layout(running.foreseen, call, running.describe(output))
            if layout is not None:
                reading = running.foreseen
                captured.foreseen[place] = layout, reading
                x_seq = fold(output.detach(), layout, reading.T, reading.N)
                return Reduced(self._reduce(name, x_seq))
        return running.copy(output, self._detach)


class _Running:
    """A pass that has begun."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.captured: dict[int, Captured] = {}
        self.network: Call
        self.order: FoldOrder
        self.foreseen: Reading | None = None
        self.multi_step: list[int] = []
        self.numbers = count()
        self._tags: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._copies: dict[int, tuple[int | None, Tensor]] = {}

    def seen(self, value: Any) -> list[Seen]:
        """Describe the tensors in a structure."""
        return [self.describe(one) for _, one in flatten(value)]

    def describe(self, tensor: Tensor) -> Seen:
        """Describe a tensor."""
        return Seen(tuple(tensor.shape), self._tag(tensor))

    def copy(self, tensor: Tensor, detach: bool) -> Tensor:
        """Copy a tensor once, however many layers take and give it."""
        tag = self._tag(tensor)
        version = None if tensor.is_inference() else tensor._version
        kept = self._copies.get(tag)
        if kept is None or version is None or kept[0] != version:
            # A later layer may change it in place.
            kept = (version, _copied(tensor, detach))
            self._copies[tag] = kept
        return kept[1]

    def _tag(self, tensor: Tensor) -> int:
        found = self._tags.get(id(tensor))
        if found is None or found[0]() is not tensor:
            found = (weakref.ref(tensor), next(self.numbers))
            self._tags[id(tensor)] = found
        return found[1]


class _Hooks:
    """The two hooks of one module."""

    def __init__(self, recorder: Recorder, name: str, module: nn.Module) -> None:
        self._recorder, self._name = recorder, name
        self._selected = recorder._layers.get(name) is module
        self._open: list[Any] = []

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        running = self._recorder.running(self._name)
        if running is None:
            return
        kind = kind_of(module)
        taken = [one for _, one in flatten((args, kwargs))]
        running.order.before(self._name, kind, taken)
        call = Call(self._name, kind, running.seen(taken))
        call.within = running.multi_step[-1] if running.multi_step else None
        multi_step = kind in (Kind.MULTI_STEP, Kind.TIME_LAST)
        if multi_step:
            running.multi_step.append(next(running.numbers))
        kept = (
            self._recorder.take(self._name, args, kwargs, module)
            if self._selected
            else None
        )
        # A pass that an exception has ended leaves its calls open.
        self._open = [one for one in self._open if one[0] is running]
        self._open.append((running, call, multi_step, kept))

    def after(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
        running = self._recorder.running(self._name)
        if running is None:
            return None
        _, call, multi_step, kept = self._open.pop()
        if multi_step:
            running.multi_step.pop()
        if isinstance(module, neuron.NonSpikingBaseNode) and isinstance(result, list):
            # The host gives the potentials of the steps as a list.
            result = torch.stack(result)
        passed_on = None
        if kept is not None and call.kind is Kind.SINGLE_STEP:
            passed_on = result = self._recorder.apart(result)
        given = [one for _, one in flatten(result)]
        running.order.after(call.kind, given)
        call.outputs = running.seen(given)
        running.calls.append(call)
        self._recorder.foresee(running, call)
        if kept is not None:
            captured, before = kept
            running.captured[len(running.calls) - 1] = captured
            self._recorder.give(
                self._name, captured, before, module, (*args, *kwargs.values()), result
            )
        return passed_on


def _copied(tensor: Tensor, detach: bool) -> Tensor:
    return tensor.detach().clone() if detach else tensor.clone()


def _in_backward() -> bool:
    # Activation checkpoints run parts of the network once more in the backward pass.
    return torch._C._current_graph_task_id() != -1
