"""One of the two networks of a comparison: what it is fed, what is taken from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from sj_ext.cka.batches import network_input
from sj_ext.taps import preserved, taps

Record = Literal["output", "pre_reset", "post_reset"]


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
            time for instance. None calls `network(input)`.
        output: Picks the logits out of what the network returns, as `taps` says.
        seed: Of a network that draws random numbers also in evaluation, a Poisson
            encoder for instance: batch number b is run with `seed + b`. None expects
            the same outputs every time, which is checked on the first batch.
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
        tensors: Of each, `[T, N, ...]`.
        samples: N.
        not_executed: Names of layers that were selected and did not run.
    """

    names: tuple[str, ...]
    tensors: list[Tensor]
    samples: int
    not_executed: tuple[str, ...]


def features(side: Side, batch: Any, number: int) -> Features:
    """Run a network on a batch in evaluation, from reset states.

    Args:
        side: The network.
        batch: What `side.inputs` takes.
        number: Of the batch.

    Returns:
        Features of its layers, all of the same samples.
    """
    with preserved(side.network), torch.no_grad():
        found = _run(side, batch, number)
    _check_samples(found, side.name)
    return found


def check_deterministic(side: Side, batch: Any) -> None:
    """Evaluate a batch twice, and compare.

    Args:
        side: The network; one with a seed may differ from pass to pass.
        batch: What `side.inputs` takes.

    Raises:
        ValueError: If a layer's outputs differ; the message names it.
    """
    if side.seed is not None:
        return
    with preserved(side.network), torch.no_grad():
        # Prints of them, for the features of two passes would take twice the memory.
        first, second = (_prints(_run(side, batch, 0)) for _ in range(2))
    if first != second:
        differing = [name for name in first if first[name] != second.get(name)]
        raise ValueError(
            f"Expected {side.name} to compute the same twice on the first batch, got a "
            f"difference at {(differing or list(second))[0]!r} and "
            f"{max(len(differing) - 1, 0)} more layers. A state that `reset_net` does "
            "not reset is one cause, dropout or another random draw in evaluation "
            "another; where the draw is meant, give Side(..., seed=...)."
        )


def _run(side: Side, batch: Any, number: int) -> Features:
    net = side.network
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
    ) as record:
        if side.forward is None:
            net(x)
        else:
            side.forward(net, x)
    functional.reset_net(net)
    found: dict[str, Tensor] = getattr(record, side.record)
    if not found or record.N is None:
        raise ValueError(
            f"Expected {side.name} to have layers with {side.record!r}, got none."
        )
    return Features(
        tuple(found), list(found.values()), record.N, tuple(record.not_executed)
    )


def _check_samples(found: Features, label: str) -> None:
    """Refuse layers whose second axis is not the batch.

    Raises:
        ValueError: If a layer has not the samples of the network's input.
    """
    for name, tensor in zip(found.names, found.tensors, strict=True):
        if tensor.shape[1] != found.samples:
            raise ValueError(
                f"Expected every layer of {label} to have the {found.samples} samples "
                f"on the second axis of [T, N, ...], got {list(tensor.shape)} at "
                f"{name!r}. Leave such layers (attention maps with heads or windows in "
                "the batch, for instance) out of `layers`."
            )


def _prints(found: Features) -> dict[str, tuple[tuple[int, ...], float]]:
    """A number for each layer that changes with any of its values, or their order."""
    return {
        name: (tuple(tensor.shape), _print(tensor))
        for name, tensor in zip(found.names, found.tensors, strict=True)
    }


def _print(tensor: Tensor) -> float:
    flat = tensor.reshape(-1).double()
    # Weights of no short period, so that spikes that trade places show.
    places = torch.arange(len(flat), device=flat.device, dtype=torch.float64)
    return float(flat.nan_to_num(nan=0.5) @ (1.0 + (places * 0.6180339887498949) % 1.0))


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
