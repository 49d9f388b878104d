"""Capture what the layers of a network compute, with the time axis always explicit."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from sj_ext.taps.layout import TimeAxisError
from sj_ext.taps.preservation import preserved
from sj_ext.taps.record import KINDS, Record
from sj_ext.taps.recorder import Recorder
from sj_ext.taps.selection import Layers, select, unwrap

__all__ = ["Record", "TimeAxisError", "preserved", "taps"]

for _class in (Record, TimeAxisError):
    _class.__module__ = __name__


@contextmanager
def taps(
    net: nn.Module,
    layers: Layers = None,
    *,
    record: Collection[str] = ("output",),
    T: int | None = None,
    batch_first: bool = False,
    output: Callable[[Any], Tensor] | None = None,
    detach: bool = True,
    restore: bool = True,
    reduce: Callable[[str, Tensor], Any] | None = None,
) -> Iterator[Record]:
    """Record what layers compute while `net` is called inside the block.

    Every recorded tensor is a copy `[T, N, ...]`: steps, then samples. What has no
    steps, as a static input before the network repeats it or the head on a mean over
    time, is `[1, N, ...]`. What is folded to `[T*N, ...]` for plain layers is unfolded.
    Where the axes of a tensor cannot be told for certain, the call of the network
    raises `TimeAxisError`: no axis is ever guessed.

    A fold is read with the steps one after the other. A network that folds sample
    after sample, `[N*T, ...]`, is refused where the values show it: where a layer of
    either side holds them as they were folded. They do not where a plain function
    changes them between the fold and the layers on both sides: such a network must put
    time first.

    T and N come from the modules of the host in step mode m, else from how often its
    neurons in step mode s are called, else from the input and a declared `T`. Without
    any of them the network is an ANN with T = 1: declare `T` where the neurons are not
    the host's. A network in step mode s may be called once a step: its steps go on
    along T until its neurons are reset. Otherwise each call of the network takes the
    place of the one before.

    Args:
        net: The network. `DataParallel` and `DistributedDataParallel` are seen
            through: names have no `module.`. What `torch.compile` has compiled cannot
            be recorded.
        layers: None for every leaf layer, a neuron of the host being one; or a name, a
            glob such as `"layer1.*.sn"`, a type or tuple of types, a predicate
            `(name, module) -> bool`, or a list of these.
        record: Any of `"output"`, `"input"`, `"pre_reset"` (h) and `"post_reset"` (v)
            potentials of neurons, which carry no gradient, and `"output_gradient"`,
            which `backward` inside the block fills.
        T: Number of steps; None finds it.
        batch_first: Whether the network takes and returns `[N, T, ...]`.
        output: Picks the logits out of what the network returns, for `Record.logits`.
        detach: Whether the copies are cut from the graph.
        restore: Whether modes, buffers, states, gradients and random state are put back
            at the end, as by `preserved`. Hooks are removed in any case.
        reduce: What to keep of an output instead of a copy: called with the layer's
            name and `[T, N, ...]`, which it must not change or keep, as soon as the
            axes are certain; that is while the layer runs, where the network is in
            step mode m or has no steps. With `record=("output",)` and `detach` only.

    Yields:
        The record: dicts by layer name in order of execution. A layer used twice in a
        pass is `name` and `name#2`; tensors in tuples and dicts are `name.0`,
        `name.key`; `net` itself has the name of its class.
        Passes that activation checkpoints run again are not recorded.

    Raises:
        TypeError: If a neuron has no potential and one is asked for, if `layers` holds
            something else, or if a layer is compiled.
        ValueError: If an argument is out of range or something in `layers` matches no
            layer.
    """
    _check(record, T)
    if reduce is not None and (set(record) != {"output"} or not detach):
        raise ValueError(
            "Expected `reduce` with record=('output',) and detach=True, got "
            f"{tuple(record)} and {detach}."
        )
    inside = unwrap(net)
    found = select(inside, layers)
    _refuse_compiled(inside, found)
    recorded = Record(list(found), output, T, reduce)
    recorder = Recorder(inside, found, recorded, record, T, batch_first, detach, reduce)
    with ExitStack() as stack:
        if restore:
            stack.enter_context(preserved(inside))
        recorder.attach(stack)
        yield recorded


def _check(record: Collection[str], T: int | None) -> None:
    if isinstance(record, str) or not record or set(record) - set(KINDS):
        raise ValueError(
            f"Expected `record` to hold some of {', '.join(KINDS)}, got {record!r}."
        )
    if T is not None and (not isinstance(T, int) or isinstance(T, bool) or T < 1):
        raise ValueError(f"Expected `T` to be a positive integer, got {T!r}.")


def _refuse_compiled(net: nn.Module, layers: dict[str, nn.Module]) -> None:
    for name, module in net.named_modules():
        compiled = getattr(module, "_compiled_call_impl", None) is not None
        if not compiled and not hasattr(module, "_orig_mod"):
            continue
        held = set(module.modules())
        for layer_name, layer in layers.items():
            if layer in held:
                raise TypeError(
                    f"Expected layers that run as modules, got {layer_name!r} inside "
                    f"{name or 'the network'!r}, which torch.compile has compiled: "
                    "record the network before it is compiled."
                )
