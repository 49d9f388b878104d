"""The width of each layer's window from the measured distribution of its |x|.

Control for masks: what narrower windows of the same density do without randomness.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from spikingjelly.activation_based import base, functional
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext.processes import is_distributed
from sj_ext.surrogate.masked import MaskedSurrogate
from sj_ext.surrogate.rule import bounded
from sj_ext.surrogate.window import WindowMask

# Positive floats sort as their bits do. Cutting the lowest bits leaves bins a
# thousandth wide at every magnitude, whose edges are floats themselves.
_CUT_BITS = 13
_BINS = 2 ** (31 - _CUT_BITS)
_SMALLEST_NORMAL = 0x00800000 >> _CUT_BITS
_INFINITY = 0x7F800000 >> _CUT_BITS


class CalibratedWindow(NamedTuple):
    """What `calibrate_window` chose for a layer.

    Attributes:
        half_width: The window's half width.
        density: Share of (sample, step, neuron) with |x| below it.
    """

    half_width: float
    density: float


def calibrate_window(
    net: nn.Module,
    loader: Iterable[Any],
    density: float | None = None,
    batches: int | None = None,
    *,
    share_of_base: float | None = None,
) -> dict[str, CalibratedWindow]:
    """Set the width of each `WindowMask` so that it keeps a share of the derivatives.

    Each layer gets the quantile of |x| over samples, steps and neurons, read from a
    histogram of 2**18 bins, each a thousandth wide relative to its place (2 MB a
    layer). The density that is reported is counted, not estimated: it is what the
    width keeps of the measured x, in float32. Where many x are equal, as those of
    resting neurons are (-0.5 with threshold 0.5), no width may reach the density:
    then the nearest side is taken. Layers without a mask differ in density; with
    `share_of_base` each is brought to that share of its own, as a Bernoulli mask that
    keeps this share of the derivatives does. With `torch.distributed` running, all
    processes must call this, and choose the same widths from the batches of all.

    The passes run in training mode without gradients, as the forward part of a
    training step. Nothing but the widths is changed: modes, buffers (batch norm),
    neuron states and random states are afterwards as they were found.

    Args:
        net: A network in multi-step mode, with `MaskedSurrogate`s of which at least
            one has a `WindowMask`.
        loader: Gives inputs `[T, N, ...]`, or tuples that begin with one; the
            network's states are reset before each.
        density: Share to be kept in every layer, in (0, 1).
        batches: How many batches to measure; None takes all.
        share_of_base: In place of `density`: share of those derivatives of the layer
            that are not zero without a mask, in (0, 1).

    Returns:
        Half width and achieved density by the name of the layer: of the neuron that
        holds the surrogate, or of a surrogate that stands alone.

    Raises:
        ValueError: If not one of `density` and `share_of_base` is given, it is out of
            range, no layer has a `WindowMask`, two layers share one, the loader gives
            no batch, or a layer saw no x.
    """
    given = {"density": density, "share_of_base": share_of_base}
    shares = {name: value for name, value in given.items() if value is not None}
    if len(shares) != 1:
        raise ValueError(
            "Expected one of `density` and `share_of_base`, got "
            f"{'both' if shares else 'neither'}."
        )
    ((name, share),) = shares.items()
    bounded(name, share, "(0, 1)")
    relative = name == "share_of_base"
    windows = _windows(net)
    device = _device(net)
    with _undisturbed(net, device), ExitStack() as restored:
        measured = {}
        for name, (parent, attribute) in windows.items():
            original = getattr(parent, attribute)
            measured[name] = _Histogram(original, relative)
            setattr(parent, attribute, measured[name])
            restored.callback(setattr, parent, attribute, original)
        net.train()
        count = 0
        for batch in itertools.islice(loader, batches):
            x_seq = batch[0] if isinstance(batch, (tuple, list)) else batch
            functional.reset_net(net)
            net(x_seq.to(device))
            count += 1
    if count == 0:
        raise ValueError("Expected `loader` to give at least one batch, got none.")
    chosen = {name: histogram.edge(share) for name, histogram in measured.items()}
    unseen = [name for name, found in chosen.items() if found is None]
    if unseen:
        raise ValueError(
            f"Expected every layer with a WindowMask to run, got no x at {unseen[0]!r}."
        )
    calibrated = {}
    for name, found in chosen.items():
        rule = measured[name].original.mask
        if isinstance(rule, WindowMask) and found is not None:
            rule.half_width = found.half_width
            calibrated[name] = found
    return calibrated


class _Histogram(SurrogateFunctionBase):
    """Stands in for a surrogate and counts its |x|; its own class is never fused.

    With `relative` it counts the derivatives of the base that are not zero as well.
    """

    def __init__(self, original: MaskedSurrogate, relative: bool) -> None:
        super().__init__(spiking=original.spiking)
        # As a submodule, so that what the host collects for resetting is complete.
        self.original = original
        self._relative = relative
        self._counts: Tensor | None = None
        self._nonzero: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        bins = x.detach().abs().float().contiguous().view(torch.int32) >> _CUT_BITS
        counts = torch.bincount(bins.flatten(), minlength=_BINS)
        self._counts = counts if self._counts is None else self._counts + counts
        if self._relative:
            nonzero = self._derivative(x).count_nonzero()
            self._nonzero = (
                nonzero if self._nonzero is None else self._nonzero + nonzero
            )
        return self.original.base(x)

    def _derivative(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (derivative,) = torch.autograd.grad(self.original.base(x).sum(), x)
        return derivative

    def edge(self, share: float) -> CalibratedWindow | None:
        """Find the bin edge below which the share of |x| is nearest to the wanted."""
        if self._counts is None:
            return None
        if is_distributed():
            dist.all_reduce(self._counts)
            if self._nonzero is not None:
                dist.all_reduce(self._nonzero)
        counts = self._counts.cpu()
        elements = counts.sum().double()
        density = share
        if self._nonzero is not None:
            density = share * float(self._nonzero.cpu().double() / elements)
        below = counts.cumsum(0) - counts
        candidates = (below.double() / elements)[_SMALLEST_NORMAL:_INFINITY]
        # argmin may return any of equals: among widths that keep the same, the least.
        error = (candidates - density).abs()
        first = int((error == error.min()).nonzero()[0])
        edge = torch.tensor((first + _SMALLEST_NORMAL) << _CUT_BITS, dtype=torch.int32)
        return CalibratedWindow(
            float(edge.view(torch.float32)), float(candidates[first])
        )


def _windows(net: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    if isinstance(net, MaskedSurrogate):
        raise ValueError(
            "Expected `net` to be a network that holds the surrogates, got a "
            "MaskedSurrogate itself."
        )
    found: dict[str, tuple[nn.Module, str]] = {}
    owners: dict[int, str] = {}
    for parent_name, parent in net.named_modules():
        for attribute, child in parent._modules.items():
            if not isinstance(child, MaskedSurrogate) or not isinstance(
                child.mask, WindowMask
            ):
                continue
            own = f"{parent_name}.{attribute}" if parent_name else attribute
            name = parent_name if attribute == "surrogate_function" else own
            if id(child.mask) in owners:
                raise ValueError(
                    "Expected each layer to have a WindowMask of its own, got one "
                    f"that {owners[id(child.mask)]!r} and {name!r} share."
                )
            owners[id(child.mask)] = name
            found[name] = (parent, attribute)
    if not found:
        raise ValueError(
            "Expected `net` to have a MaskedSurrogate with a WindowMask, got "
            f"{type(net).__name__} with none."
        )
    return found


@contextmanager
def _undisturbed(net: nn.Module, device: torch.device) -> Iterator[None]:
    modes = [(module, module.training) for module in net.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in net.buffers()]
    memories = base.extract_memories(net)
    numpy_state, python_state = np.random.get_state(), random.getstate()
    sequences = [(m, m.v_seq) for m in net.modules() if hasattr(m, "v_seq")]
    devices = [device] if device.type == "cuda" else []
    try:
        # Resetting may write into the tensors of a state: it gets none to write into.
        base.load_memories(net, [_spare(value) for value in memories])
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        base.load_memories(net, memories)
        for module, v_seq in sequences:
            module.v_seq = v_seq
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, saved in buffers:
                buffer.copy_(saved)


def _spare(value: object) -> object:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _device(net: nn.Module) -> torch.device:
    for tensor in itertools.chain(net.parameters(), net.buffers()):
        return tensor.device
    return torch.device("cpu")
