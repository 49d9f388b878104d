"""One of the two networks of a comparison: what it is fed, what is taken from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from sj_ext.cka.batches import network_input, sample_identity
from sj_ext.cka.loops import kernels
from sj_ext.cka.summary import LayerSummary
from sj_ext.taps import Record as TapsRecord
from sj_ext.taps import preserved, taps

Record = Literal["output", "pre_reset", "post_reset"]

_PRINTED_AT_ONCE = 2**18
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Side:
    """A network to compare, with all that is its own.

    Attributes:
        network: Spiking or not, on any device; wrappers of `torch.nn.parallel` are
            seen through. It is left as it was found.
        layers: Which layers, as `sj_ext.taps.taps` takes them: names, globs, types,
            predicates or a list of these; None takes every leaf layer.
        label: Name in plots and tables; None takes the class of the network.
        record: "output", which of a neuron are its spikes; or its potential before the
            reset, "pre_reset", or after it, "post_reset": then the layers are neurons.
        T: Time steps where they cannot be inferred, as `taps` says.
        batch_first: Whether the network takes `[N, T, ...]` and gives `[N, T, ...]`.
        inputs: From a batch to what the network takes. None takes the batch itself,
            the first of a tuple or list, or the single tensor of a dict that is
            neither targets nor index.
        forward: How the network is run on that: `forward(network, input)`, a loop over
            time for instance, if its neurons are in step mode s. None calls
            `network(input)`.
        output: Picks the logits out of what the network returns, as `taps` says.
        seed: Of a network that draws random numbers also in evaluation, a Poisson
            encoder for instance: batch number b is run with `seed + b`. Each process
            counts its own batches: give it a seed of its own, far from the others. None
            expects the same outputs every time, which is checked on the first batch.
    """

    network: nn.Module
    layers: Any = None
    label: str | None = None
    record: Record = "output"
    T: int | None = None
    batch_first: bool = False
    inputs: Callable[[Any], Any] | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None
    output: Callable[[Any], Any] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.network, nn.Module):
            raise TypeError(
                "Expected `network` to be a torch.nn.Module, got "
                f"{type(self.network).__name__}."
            )
        if self.record not in ("output", "pre_reset", "post_reset"):
            raise ValueError(
                "Expected `record` to be 'output', 'pre_reset' or 'post_reset', got "
                f"{self.record!r}."
            )

    @property
    def name(self) -> str:
        """Its label, or the class of its network."""
        return self.label or type(self.network).__name__


class Features(NamedTuple):
    """What the layers of one network made of a batch.

    Attributes:
        names: Of the layers, in the order of execution.
        tensors: Of each, `[T, N, ...]`, or what it was reduced to.
        samples: N.
        not_executed: Names of layers that were selected and did not run.
    """

    names: tuple[str, ...]
    tensors: list[Tensor | LayerSummary]
    samples: int
    not_executed: tuple[str, ...]


Print = tuple[tuple[int, ...], float]
Reduce = Callable[[Tensor], LayerSummary]


class _Kept(NamedTuple):
    """What is kept of a layer: a value, and a print that changes with its features."""

    value: Tensor | LayerSummary | None
    print: Print | None


def features(
    side: Side,
    batch: Any,
    number: int,
    reduce: Reduce | None = None,
    probe: bool = False,
) -> Features:
    """Run a network on a batch in evaluation, from reset states.

    Args:
        side: The network.
        batch: What `side.inputs` takes.
        number: Of the batch.
        reduce: What to keep of each layer instead of its features, which are then
            freed while the network runs.
        probe: Whether to run the batch once more, and compare; a network with a seed
            may differ from pass to pass and is not probed.

    Returns:
        Features of its layers, all of the same samples.

    Raises:
        ValueError: If a layer's outputs differ between the passes, or the samples are
            not as many as the batch has targets.
    """
    probe = probe and side.seed is None

    def keep(name: str, tensor: Tensor) -> _Kept:
        value: Tensor | LayerSummary = tensor
        if reduce is not None:
            try:
                value = reduce(tensor)
            except ValueError as error:
                raise ValueError(f"{error} This is {name!r} of {side.name}.") from error
        return _Kept(value, _print(tensor) if probe else None)

    with preserved(side.network), torch.no_grad():
        found, record = _run(side, batch, number, keep, at_once=reduce is not None)
        if probe:
            # Random draws go on from where the first pass has left them.
            again, _ = _run(side, batch, number, _only_print, at_once=True)
            _check_same({k: v.print for k, v in found.items()}, again, side)
    kept = Features(
        tuple(found),
        [one.value for one in found.values() if one.value is not None],
        int(record.N or 0),
        tuple(record.not_executed),
    )
    _check_targets(kept.samples, batch, side)
    return kept


def _only_print(name: str, tensor: Tensor) -> _Kept:
    return _Kept(None, _print(tensor))


def _check_same(
    prints: dict[str, Print | None], again: dict[str, _Kept], side: Side
) -> None:
    second = {name: one.print for name, one in again.items()}
    if prints != second:
        differing = [name for name in prints if prints[name] != second.get(name)]
        raise ValueError(
            f"Expected {side.name} to compute the same twice on the first batch, got a "
            f"difference at {(differing or list(second))[0]!r} and "
            f"{max(len(differing) - 1, 0)} more layers. A state that `reset_net` does "
            "not reset is one cause, dropout or another random draw in evaluation "
            "another; where the draw is meant, give Side(..., seed=...)."
        )


def _run(
    side: Side,
    batch: Any,
    number: int,
    keep: Callable[[str, Tensor], _Kept],
    at_once: bool,
) -> tuple[dict[str, _Kept], TapsRecord]:
    net = side.network
    # Potentials are recorded beside outputs, and reduced when all are there.
    at_once = at_once and side.record == "output"
    x = (side.inputs or network_input)(batch)
    x = _to(x, _device(net))
    net.eval()
    functional.reset_net(net)
    if side.seed is not None:
        _seed(side.seed + number, _device(net))
    with taps(
        net,
        side.layers,
        record=(side.record,),
        T=side.T,
        batch_first=side.batch_first,
        output=side.output,
        restore=False,
        reduce=keep if at_once else None,
    ) as record:
        if side.forward is None:
            net(x)
        else:
            side.forward(net, x)
    functional.reset_net(net)
    if record.replaced:
        raise ValueError(
            f"Expected `forward` of {side.name} to make one pass over all steps, or "
            f"one for each step of a network in step mode s, got {record.replaced + 1} "
            "passes that each begin anew, as those of a network without single-step "
            "neurons do. Give the network all steps at once."
        )
    found: dict[str, Any] = getattr(record, side.record)
    if not found or record.N is None:
        raise ValueError(
            f"Expected {side.name} to have layers with {side.record!r}, got none."
        )
    if not at_once:
        found = {name: keep(name, tensor) for name, tensor in found.items()}
    return found, record


def _check_targets(samples: int, batch: Any, side: Side) -> None:
    """Refuse steps that were taken for samples, which the targets tell."""
    if side.inputs is not None:
        # What the other entries of such a batch are is not known.
        return
    for role, one in sample_identity(batch).items():
        of_steps = isinstance(one, Tensor) and one.dim() > 2 and len(one[0]) == samples
        if len(one) != samples and not of_steps:
            raise ValueError(
                f"Expected the {len(one)} samples of the {role} of the batch, got "
                f"{samples} of {side.name}: is the time axis taken for samples? Set "
                "step mode m, or declare `T`, or `batch_first`. Where the batch has "
                "another form, give Side(..., inputs=...)."
            )


def _print(tensor: Tensor) -> Print:
    flat = tensor.detach().reshape(-1)
    if flat.device.type == "cpu" and flat.dtype in (torch.float32, torch.float64):
        repeated = _weights(flat.device).numpy()
        summed = kernels().weighted_sum(flat.numpy(), repeated, _GOLDEN)
        return tuple(tensor.shape), float(summed)
    total = torch.zeros((), dtype=torch.float64, device=flat.device)
    weights = _weights(flat.device)
    for number, part in enumerate(flat.split(_PRINTED_AT_ONCE)):
        values = part.double().nan_to_num_(nan=0.5)
        total += (1.0 + (number * _GOLDEN) % 1.0) * (values @ weights[: len(values)])
    return tuple(tensor.shape), float(total)


@lru_cache(maxsize=1)
def _weights(device: torch.device) -> Tensor:
    # Of no short period, so that spikes that trade places show.
    places = torch.arange(_PRINTED_AT_ONCE, device=device, dtype=torch.float64)
    return places.mul_(_GOLDEN).remainder_(1.0).add_(1.0)


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _to(part, device) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_to(part, device) for part in value)
    return value


def _device(net: nn.Module) -> torch.device:
    for tensor in (*net.parameters(), *net.buffers()):
        return tensor.device
    return torch.device("cpu")


def _seed(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
