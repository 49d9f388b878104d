"""A spiking network as attack libraries want one: samples in, one set of logits out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any, Self, TypeAlias

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext.readout import Readout
from sj_ext.registry import create
from sj_ext.surrogate import dense
from sj_ext.surrogate.probe import build_probe, probe_name, probed
from sj_ext.taps import preserved

Probe: TypeAlias = SurrogateFunctionBase | str | Mapping[str, Any] | None
"""What neurons differentiate through: see `attackable`."""


def attackable(
    net: nn.Module,
    readout: Readout | str | None = "rate",
    *,
    T: int | None = None,
    encoder: Callable[[Tensor], Tensor] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    probe: Probe = None,
    output: Callable[[Any], Tensor] | None = None,
    batch_first: bool = False,
    step_by_step: bool = False,
) -> "Attackable":
    """Make `net` a function of a batch of samples that any attack library can take.

    The result is a module that maps images `[N, C, H, W]`, or event frames
    `[N, T, C, H, W]`, to logits `[N, K]`. In each call it resets the neurons' states,
    evaluates batch norm and dropout, and differentiates through dense surrogates, also
    where the network was trained with masked ones: gradients that were sparse in
    training would hide how the network can be attacked. It never passes a gradient to
    a parameter. Afterwards modes, neuron states, batch statistics, gradients and random
    state of `net` are as they were; `train()`, `eval()` and `zero_grad()` of the
    adapter do not reach it.

    Args:
        net: A network of logits of every step, `[T, N, ...]` to `[T, N, K]`; or, with
            `readout=None`, to `[N, K]`.
        readout: Makes `[N, K]` of `[T, N, K]`: one that was trained with the network,
            or the name of a registered one that learns nothing. None where the network
            does it.
        T: Inputs are images, repeated so many times.
        encoder: Inputs are images, which it encodes: `[N, ...]` to `[T, N, ...]`. What
            it draws from torch's generator is the same in every call, so that an
            attack sees one function. One that is a module is treated as the network
            is: reset, evaluated, dense, and left as it was. Without `T` and `encoder`
            inputs are frames.
        bounds: Smallest and largest value of an input, before normalisation. Event
            counts have no largest: any number that the camera might have counted.
        mean: Taken from an input, by channel or for all (channels are the third axis
            from the end).
        std: What the difference is divided by.
        probe: What all neurons differentiate through: a surrogate function of the
            host, the name of a registered one, or `{"name": ..., "alpha": ...}` with
            its arguments. None leaves each its own.
        output: Picks the logits out of what the network returns.
        batch_first: Whether the network itself takes and returns `[N, T, ...]`.
        step_by_step: Whether it is called once a step, with `[N, ...]`.

    Returns:
        The adapter.

    Raises:
        TypeError: If `probe` is no dense surrogate.
        ValueError: If an argument is outside its range, arguments contradict each
            other, or `readout` names one that learns.
    """
    return Attackable(
        net,
        readout,
        T=T,
        encoder=encoder,
        bounds=bounds,
        mean=mean,
        std=std,
        probe=probe,
        output=output,
        batch_first=batch_first,
        step_by_step=step_by_step,
    )


class Attackable(nn.Module):
    """What `attackable` returns; see there.

    Attributes:
        net: The network.
        bounds: Smallest and largest value of an input.
        probe: What its neurons differentiate through; None is their own.
        training: Always False, which is what attack libraries want to see.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        readout: Readout | str | None = "rate",
        **settings: Any,
    ) -> None:
        super().__init__()
        self._settings = settings
        self.net = net
        self.readout = readout
        self.T: int | None = settings["T"]
        self.encoder: Callable[[Tensor], Tensor] | None = settings["encoder"]
        self.bounds: tuple[float, float] = settings["bounds"]
        self.probe = build_probe(settings["probe"])
        self._output: Callable[[Any], Tensor] | None = settings["output"]
        self._batch_first: bool = settings["batch_first"]
        self._step_by_step: bool = settings["step_by_step"]
        self._depth = 0
        self.training = False
        self._check()
        for name in ("mean", "std"):
            value = torch.as_tensor(settings[name], dtype=torch.float32)
            if name == "std" and not bool((value > 0).all()):
                raise ValueError(
                    f"Expected `std` to be positive, got {settings['std']}."
                )
            if value.ndim:
                value = value.reshape(-1, 1, 1)
            self.register_buffer(name, value.to(_device_of(net)), persistent=False)

    def _check(self) -> None:
        low, high = self.bounds
        if not low < high:
            raise ValueError(
                f"Expected `bounds` to be a smaller and a larger number, got "
                f"{self.bounds}."
            )
        whole = isinstance(self.T, int) and not isinstance(self.T, bool)
        if self.T is not None and (not whole or self.T < 1):
            raise ValueError(f"Expected `T` to be a positive integer, got {self.T!r}.")
        if self.T is not None and self.encoder is not None:
            raise ValueError("Expected `T` or `encoder`, got both.")
        if isinstance(self.readout, str):
            learned = create("readout", self.readout, T=1).state_dict()
            if learned:
                raise ValueError(
                    "Expected `readout` to be the one that was trained, which has "
                    f"learned {', '.join(learned)}, got its name {self.readout!r}."
                )
        if self._batch_first and self._step_by_step:
            raise ValueError(
                "Expected `batch_first` or `step_by_step`, got both: a network that "
                "is called once a step has no time axis."
            )

    @property
    def takes_frames(self) -> bool:
        """Whether an input has time steps, `[N, T, ...]`."""
        return self.T is None and self.encoder is None

    @property
    def probe_name(self) -> str:
        """Which surrogate the neurons differentiate through, with its arguments."""
        return probe_name(self.probe) or "own"

    def with_probe(self, probe: Probe) -> "Attackable":
        """Make the adapter of the same network that differentiates otherwise.

        Args:
            probe: As in `attackable`.

        Returns:
            Another adapter; the network is shared.
        """
        return Attackable(self.net, self.readout, **self._settings | {"probe": probe})

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits from fresh neuron states.

        Args:
            x: `[N, C, H, W]` with `T` or `encoder`, else `[N, T, C, H, W]`; within
                `bounds`.

        Returns:
            `[N, K]`.
        """
        with self.ready():
            functional.reset_net(self.net)
            return self._read_out(self._run(self.frames(x)))

    def frames(self, x: Tensor) -> Tensor:
        """Make of an input what the network sees.

        Args:
            x: As in `forward`.

        Returns:
            `[T, N, ...]`, normalised.

        Raises:
            ValueError: If frames have no time axis.
        """
        x = (x - self.mean.to(x)) / self.std.to(x)
        if self.encoder is not None:
            return self._encoded(x, self.encoder)
        if self.T is not None:
            return x.unsqueeze(0).repeat(self.T, *([1] * x.ndim))
        if x.ndim < 3:
            raise ValueError(
                f"Expected frames [N, T, ...], got {list(x.shape)}: give `T` or "
                "`encoder` where inputs are images."
            )
        return x.transpose(0, 1).contiguous()

    @contextmanager
    def ready(self) -> Iterator[Self]:
        """Keep the network ready for many calls: saves preparing it for each.

        The network is as it was when the block ends. Blocks may be nested.

        Yields:
            The adapter.
        """
        if self._depth:
            yield self
            return
        parts = (self.net, self.readout, self.encoder)
        modules = [part for part in parts if isinstance(part, nn.Module)]
        both = modules[0] if len(modules) == 1 else nn.ModuleList(modules)
        with ExitStack() as stack:
            stack.enter_context(preserved(both))
            stack.enter_context(probed(both, self.probe))
            stack.enter_context(dense(both))
            stack.enter_context(_without_parameter_gradients(both))
            self._depth += 1
            try:
                yield self
            finally:
                self._depth -= 1

    def train(self, mode: bool = True) -> Self:
        """Do nothing: the network is evaluated in any case, and keeps its modes."""
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing: the network's gradients are not those of an attack."""

    def _encoded(self, x: Tensor, encoder: Callable[[Tensor], Tensor]) -> Tensor:
        devices = [x.device] if x.device.type == "cuda" else []
        with self.ready(), torch.random.fork_rng(devices=devices):
            if isinstance(encoder, nn.Module):
                functional.reset_net(encoder)
            torch.manual_seed(0)
            return encoder(x)

    def _run(self, frames: Tensor) -> Tensor:
        if self._step_by_step:
            return torch.stack([self._picked(self.net(step)) for step in frames])
        if self._batch_first:
            logits = self._picked(self.net(frames.transpose(0, 1)))
            return logits if logits.ndim == 2 else logits.transpose(0, 1)
        return self._picked(self.net(frames))

    def _picked(self, returned: Any) -> Tensor:
        found = returned if self._output is None else self._output(returned)
        if not isinstance(found, Tensor):
            raise TypeError(
                "Expected the network to return logits, got "
                f"{type(found).__name__}: give `output`, which picks them out."
            )
        return found

    def _read_out(self, logits: Tensor) -> Tensor:
        if logits.ndim != (2 if self.readout is None else 3):
            axes = "[N, K] with readout=None" if self.readout is None else "[T, N, K]"
            raise ValueError(f"Expected logits {axes}, got {list(logits.shape)}.")
        if self.readout is None:
            return logits
        if isinstance(self.readout, str):
            built: Readout = create("readout", self.readout, T=len(logits))
            return built.to(logits.device).eval()(logits)
        return self.readout(logits)


def _device_of(net: nn.Module) -> torch.device | None:
    """Say where a network is; None of one that holds no tensors."""
    tensors = chain(net.parameters(), net.buffers())
    return next((tensor.device for tensor in tensors), None)


@contextmanager
def _without_parameter_gradients(net: nn.Module) -> Iterator[None]:
    """Keep parameters out of the graphs: `backward` then leaves their `.grad` alone."""
    trained = [p for p in net.parameters() if p.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
