"""A surrogate whose derivative is zero except where a mask rule keeps it."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from spikingjelly.activation_based import base as host_base
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor

from sj_ext import host
from sj_ext.registry import create, lookup, name_of, register
from sj_ext.surrogate.functional import mask_gradient
from sj_ext.surrogate.rule import MaskRule


@register("surrogate", "MaskedSurrogate")
class MaskedSurrogate(SurrogateFunctionBase):
    """Spikes like its base; backward, the base's derivative times a mask.

    Goes wherever the host takes a `surrogate_function`: any neuron, either step mode.

        forward   s = base(x)                           (unchanged)
        backward  ds/dx = base'(x) * m(x) * scale       (while it `acts`)

    The mask acts on the derivative of the spike alone, so both the path to the next
    layer and that through a reset that is not detached are masked by the same m, and
    the leak from step to step is not (Y. Li et al., arXiv 2406.19645). With
    `training` off, inside `sj_ext.surrogate.dense`, and when the base does not spike
    (`set_spiking_mode(False)`), the derivative is the base's.

    Args:
        base: A surrogate function of the host, as an instance or by name ("ATan").
            The triangle of the paper is `PiecewiseQuadratic(alpha=2.0)`.
        mask: A rule such as `BernoulliMask(0.5)`, or its JSON form
            `{"name": "bernoulli", "p": 0.5}`.
        base_kwargs: Arguments of a base given by name.
        spiking: As for every surrogate of the host; None leaves a base given as an
            instance as it is.

    Raises:
        TypeError: If `base` or `mask` is of another kind, or `base_kwargs` comes
            with an instance.
        ValueError: If `base` is masked already.
    """

    def __init__(
        self,
        base: SurrogateFunctionBase | str,
        mask: MaskRule | Mapping[str, Any],
        base_kwargs: Mapping[str, Any] | None = None,
        spiking: bool | None = None,
    ) -> None:
        built = _build_base(base, base_kwargs)
        super().__init__(spiking=built.spiking)
        self.base = built
        self._mask = _build_mask(mask)
        if self._mask.shared_over_time:
            self._kept = _KeptMultiplier()
        self.mask_active = True
        self._given_kwargs = dict(base_kwargs or {})
        if spiking is not None:
            self.set_spiking_mode(spiking)

    @property
    def mask(self) -> MaskRule:
        """The rule.

        Another one can be set, but none that shares a multiplier over time in place
        of one that does not: the host looks for what it must reset only once.
        """
        return self._mask

    @mask.setter
    def mask(self, rule: MaskRule) -> None:
        if not isinstance(rule, MaskRule):
            raise TypeError(f"Expected `mask` to be a mask rule, got {rule!r}.")
        if rule.shared_over_time and "_kept" not in self._modules:
            raise ValueError(
                f"Expected a rule that draws anew at each step, got {rule!r}: make a "
                "new MaskedSurrogate for it."
            )
        self._mask = rule

    @property
    def acts(self) -> bool:
        """Whether the rule acts now: in training, not inside `dense`, and spiking."""
        return self.training and self.mask_active and self.spiking

    def forward(self, x: Tensor) -> Tensor:
        """Spike where `x` is not negative.

        Args:
            x: Potential minus threshold of one step, `[N, ...]`.

        Returns:
            The base's output, of the shape of `x`.
        """
        if self.acts:
            # Drawn also where no gradient is recorded: the first pass of activation
            # checkpointing must consume the random numbers that the second will.
            x = mask_gradient(x, self.multiplier(x), self._mask.scale)
        return self.base(x)

    def multiplier(self, x: Tensor, sequence: bool = False) -> Tensor:
        """Ask the rule for a multiplier, whether or not it acts now.

        A rule that shares it over time is asked once a sequence: step by step, what
        it said is kept until `functional.reset_net`, `new_sequence` or a step of
        another shape or device; with `sequence` nothing is kept.

        Args:
            x: Potential minus threshold: one step `[N, ...]`, or a whole sequence
                `[T, N, ...]`.
            sequence: Whether `x` is a whole sequence.

        Returns:
            A bool or floating-point tensor that broadcasts to the shape of `x`.
        """
        if self._mask.shared_over_time and not sequence:
            return self._kept.of(x, self._mask)
        return self._mask.multiplier(x, sequence)

    def new_sequence(self) -> None:
        """Forget what is kept from step to step; a rule that keeps nothing ignores it.

        For whoever runs a sequence step by step without a `reset_net` before it.
        """
        if self._mask.shared_over_time:
            self._kept.reset()

    def set_spiking_mode(self, spiking: bool) -> None:
        """Choose between spikes and the base's smooth primitive, for base and self."""
        super().set_spiking_mode(spiking)
        self.base.set_spiking_mode(spiking)

    def cuda_codes(self, y: str, x: str, dtype: str) -> str:
        """Refuse to generate CUDA source: a mask has no closed form there.

        Args:
            y: Name of the output variable.
            x: Name of the input expression.
            dtype: CUDA data type.

        Raises:
            NotImplementedError: Always; the message names the backend to use.
        """
        raise NotImplementedError(
            "MaskedSurrogate runs on the host's torch backend: set "
            "node.backend = 'torch' (got a node on the CuPy backend)."
        )

    def config(self) -> dict[str, Any]:
        """Give the JSON form: `MaskedSurrogate(**config)` is the same again.

        Returns:
            Keyword arguments made of texts, numbers and dicts.

        Raises:
            ValueError: If the base is of a class that no name stands for, or does
                not keep the arguments it was made with.
        """
        name = name_of("surrogate", type(self.base))
        if name is None:
            raise ValueError(
                f"Expected the base to be a registered surrogate, got "
                f"{type(self.base).__name__}: enter it with "
                "sj_ext.register('surrogate', NAME)."
            )
        return {
            "base": name,
            "base_kwargs": self._base_kwargs(),
            "mask": self._mask.config(),
            "spiking": self.spiking,
        }

    def _base_kwargs(self) -> dict[str, Any]:
        accepted = set(inspect.signature(type(self.base)).parameters) - {"spiking"}
        current = host.surrogate_arguments(self.base)
        if set(current) <= accepted:
            return current
        if self._given_kwargs:
            return self._given_kwargs
        raise ValueError(
            f"The arguments of {type(self.base).__name__} cannot be read back from "
            "an instance: give `base` by name, with `base_kwargs`."
        )

    def __getstate__(self) -> dict[str, Any]:
        # `dense` is about this network: a copy made inside it trains with its mask.
        return {**self.__dict__, "mask_active": True}

    def extra_repr(self) -> str:
        """Show the rule; the base shows itself as a submodule."""
        return f"mask={self._mask!r}"


class _KeptMultiplier(host_base.MemoryModule):
    """One multiplier for all steps of a sequence.

    A memory of the host, so that it lives exactly as long as the neuron's potential:
    reset, detached, moved, copied and checkpointed with it, in no state dict.
    """

    multiplier: Tensor | None
    shape: torch.Size | None

    def __init__(self) -> None:
        super().__init__()
        self.register_memory("multiplier", None)
        self.register_memory("shape", None)

    def of(self, x: Tensor, rule: MaskRule) -> Tensor:
        if (
            self.multiplier is None
            or self.shape != x.shape
            or self.multiplier.device != x.device
        ):
            self.shape = x.shape
            self.multiplier = rule.multiplier(x)
        return self.multiplier


def _build_base(
    base: SurrogateFunctionBase | str, kwargs: Mapping[str, Any] | None
) -> SurrogateFunctionBase:
    if isinstance(base, str):
        _refuse_masked(lookup("surrogate", base))
        return create("surrogate", base, **(kwargs or {}))
    if not isinstance(base, SurrogateFunctionBase):
        raise TypeError(
            "Expected `base` to be a surrogate function of the host or its name, got "
            f"{base!r}."
        )
    if kwargs is not None:
        raise TypeError(
            f"Expected no `base_kwargs` with a `base` given as an instance, got "
            f"{dict(kwargs)!r}."
        )
    _refuse_masked(type(base))
    return base


def _refuse_masked(base: object) -> None:
    if isinstance(base, type) and issubclass(base, MaskedSurrogate):
        raise ValueError("Expected `base` to be unmasked, got a MaskedSurrogate.")


def _build_mask(mask: MaskRule | Mapping[str, Any]) -> MaskRule:
    if isinstance(mask, MaskRule):
        return mask
    if not isinstance(mask, Mapping):
        raise TypeError(
            "Expected `mask` to be a mask rule or its JSON form "
            f'{{"name": ..., ...}}, got {mask!r}.'
        )
    arguments = dict(mask)
    if "name" not in arguments:
        raise ValueError(f'Expected `mask` to have the key "name", got {arguments!r}.')
    return create("mask", arguments.pop("name"), **arguments)
