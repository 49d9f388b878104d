"""The host's neurons with a masked surrogate, on the fastest backend that is exact."""

import inspect
import logging
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, ClassVar, NamedTuple

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from sj_ext import host
from sj_ext.neuron.backends import cpu, substitution
from sj_ext.neuron.dynamics import Dynamics
from sj_ext.surrogate import MaskedSurrogate
from sj_ext.surrogate.replay import Recorder, assigned


class _Backend(NamedTuple):
    refuses: Callable[..., str | None]
    multi_step: Callable[..., Any]
    multiplier: Callable[..., Tensor]


def _on_hosts_kernel(kernel: str) -> _Backend:
    return _Backend(
        partial(substitution.refuses, kernel=kernel),
        partial(substitution.multi_step, kernel=kernel),
        substitution.multiplier,
    )


_FUSED = {
    "cpu": _Backend(cpu.refuses, cpu.multi_step, cpu.multiplier),
    "triton": _on_hosts_kernel("triton"),
    "cupy": _on_hosts_kernel("cupy"),
    "cuda": _on_hosts_kernel("cuda"),
}
# Those that were measured to be faster than the host's steps. The host's own kernels
# have not been, for want of a GPU: they run when they are asked for.
_AUTO = ("cpu",)
_HALF = (torch.float16, torch.bfloat16)
# Where the host's simple neurons, which none of these is, have their equations.
_SIMPLE_EQUATIONS = (
    "neuronal_charge",
    "neuronal_fire",
    "neuronal_reset",
    "neuronal_adaptation",
)
_PASSES = (
    "forward",
    "single_step_forward",
    "multi_step_forward",
    "single_step_functional_forward",
    "multi_step_functional_forward",
)
_log = logging.getLogger("sj_ext.neuron")
_logged: set[str] = set()

BACKENDS = ("auto", "torch", *_FUSED)
"""What `backend` of a masked neuron can be: see `MaskedNode`."""


def check_backend(backend: object) -> None:
    """Check the name of a backend.

    Args:
        backend: What came.

    Raises:
        ValueError: If it is none of `BACKENDS`.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"Expected `backend` to be one of {', '.join(BACKENDS)}, got {backend!r}."
        )


class MaskedNode(neuron.BaseNode):
    """What the masked neurons have in common; use one of the classes below.

    A masked neuron has the arguments, states, state dict and step modes of the host's
    neuron it derives from. While its mask acts, several steps at once run on
    `backend`:

        "torch"   the host's own steps, one after the other: the definition; any base,
                  any rule, any device
        "cpu"     one fused pass forward and one backward, the mask drawn on the way
        "triton", "cupy", "cuda"
                  the host's multi-step kernel of that name, where the release has
                  one, with masked potentials moved far from the threshold
        "auto"    a fused one where it is exact for the case and was measured to be
                  faster, else "torch"; why a case is not fused is logged once

    A backend that was asked for by name, also through the host's
    `functional.set_backend`, is kept as it is, and raises where a masked pass cannot
    run on it: whether there is a GPU shows in the input. Steps that a subclass
    defines, or that are assigned to a node, run on "torch". While no mask acts (in eval
    mode, inside `sj_ext.surrogate.dense`) the host runs its own neuron with the plain
    base. Half-precision input keeps its state in float32. The fused backends give no
    second derivatives, and on `"cpu"` the input must not be changed in place before
    the backward pass.

    Attributes:
        backend_in_use: What the last multi-step pass ran on: a backend by name,
            `"host"` where no mask acted, None before the first.
    """

    _host_class: ClassVar[type[neuron.BaseNode]]
    _constants: ClassVar[tuple[str, ...]] = ()
    backend_in_use: str | None = None
    v_seq: Tensor | None
    store_v_seq: bool
    _chosen_backend: str = "auto"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse equations in methods that no pass calls."""
        super().__init_subclass__(**kwargs)
        own = [
            kind
            for kind in cls.__mro__
            if "_host_class" not in vars(kind)
            and not issubclass(MaskedNode, kind)
            and not issubclass(cls._host_class, kind)
        ]
        unused = [n for kind in own for n in vars(kind) if n in _SIMPLE_EQUATIONS]
        if unused and not any(n in vars(kind) for kind in own for n in _PASSES):
            raise TypeError(
                f"Expected {cls.__name__} to change its equations by "
                f"`single_step_functional_forward`, got `{unused[0]}`, which no pass "
                "of this neuron calls."
            )

    def __init__(self, *args: Any, backend: str = "auto", **kwargs: Any) -> None:
        given = inspect.signature(self._host_class).bind(*args, **kwargs).arguments
        surrogate = given.get("surrogate_function")
        if not isinstance(surrogate, MaskedSurrogate):
            raise TypeError(
                "Expected `surrogate_function` to be a MaskedSurrogate, got "
                f"{'none' if surrogate is None else type(surrogate).__name__}."
            )
        super().__init__(*args, **kwargs)
        self.backend = backend

    @property
    def supported_backends(self) -> tuple[str, ...]:
        """The values that `backend` can have."""
        return BACKENDS

    @property
    def backend(self) -> str:
        """Which backend masked multi-step passes run on."""
        return self._chosen_backend

    @backend.setter
    def backend(self, value: str) -> None:
        check_backend(value)
        self._chosen_backend = value

    def dynamics(self) -> Dynamics:
        """Describe this neuron's equations to a backend."""
        name = self._host_class.__name__.removesuffix("Node")
        return Dynamics(
            name,
            v_threshold=self.v_threshold,
            v_reset=self.v_reset,
            detach_reset=self.detach_reset,
            tau=getattr(self, "tau", None),
            decay_input=getattr(self, "decay_input", True),
            w=self.w if name == "ParametricLIF" else None,
            constants=tuple((key, getattr(self, key)) for key in self._constants),
        )

    def materialize_states(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], step_mode: str
    ) -> tuple[Any, ...]:
        """Make tensors of the states that are still numbers.

        Args:
            inputs: `([T, N, ...],)`, or `([N, ...],)` in single-step mode.
            states: One entry for each memory of the node.
            step_mode: `"s"` or `"m"`.

        Returns:
            Tensors `[N, ...]` of the input's type, or float32 for half precision.
        """
        x, *others = inputs
        if x.dtype in _HALF:
            # Only shape, type and device are read.
            x = torch.empty_like(x, dtype=torch.float32)
        # The host makes tensors of floats alone, and `node.v = 0` sets an int.
        states = tuple(float(one) if type(one) is int else one for one in states)
        return super().materialize_states((x, *others), states, step_mode)

    def detach(self) -> None:
        """Cut the graph behind the states and the stored potentials."""
        # Not in place, as the host does: a state may be a view of all steps.
        cut = [v.detach() if isinstance(v, Tensor) else v for v in self._states()]
        host.set_memories(self, cut)
        if isinstance(self.v_seq, Tensor):
            self.v_seq = self.v_seq.detach()

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run over all steps and keep the last state.

        Args:
            x_seq: `[T, N, ...]`.
            *args: Further inputs, as the host's neuron takes them.
            **kwargs: As the host's neuron takes them.

        Returns:
            Spikes, of the shape of `x_seq`.
        """
        own = self._own_equations()
        if own == "multi_step_functional_forward":
            return super().multi_step_forward(x_seq, *args, **kwargs)
        if own == "single_step_forward":
            return self._own_steps(x_seq, *args, **kwargs)
        states = self.materialize_states((x_seq, *args), self._states(), "m")
        spikes, states, v_seq = self._multi_step(x_seq, states, self.store_v_seq)
        host.set_memories(self, states)
        self.v_seq = v_seq
        return spikes

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], **kwargs: Any
    ) -> tuple[tuple[Tensor], tuple[Any, ...]]:
        """Run over all steps from given states, touching no memory of the node.

        Args:
            inputs: `([T, N, ...],)`.
            states: One entry for each memory of the node.
            **kwargs: As the host's neuron takes them.

        Returns:
            `(spikes,)` and the states after the last step.
        """
        spikes, states, _ = self._multi_step(inputs[0], states, store_v_seq=False)
        return (spikes,), states

    def single_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], **kwargs: Any
    ) -> tuple[tuple[Tensor], tuple[Any, ...]]:
        """Run one step from given states, as the host does.

        Args:
            inputs: `([N, ...],)`.
            states: One entry for each memory of the node.
            **kwargs: As the host's neuron takes them.

        Returns:
            `(spikes,)` and the states after the step.
        """
        x, *others = inputs
        surrogate = self._surrogate_that_acts()
        given = (x.float() if x.dtype in _HALF else x, *others)
        if _can_be_traced(surrogate, x.device):
            (spikes,), states = self._one_step(surrogate, given, states, **kwargs)
        else:
            twin = self._as_host(surrogate, x.device)
            (spikes,), states = twin.single_step_functional_forward(
                given, states, **kwargs
            )
        return (spikes.to(x.dtype),), states

    def _own_equations(self) -> str | None:
        """Name the method by which a subclass goes its own way, if one does."""
        for parent, name in (
            (MaskedNode, "multi_step_functional_forward"),
            (self._host_class, "single_step_forward"),
            (MaskedNode, "single_step_functional_forward"),
        ):
            inherited = getattr(type(self), name) is getattr(parent, name)
            if not inherited or assigned(self, name) is not None:
                return name
        return None

    def _run_own(self, name: str) -> None:
        if self.backend not in ("auto", "torch"):
            raise ValueError(
                f"{type(self).__name__} cannot run on backend={self.backend!r}: its "
                f"`{name}` is its own."
            )
        self.backend_in_use = "torch"
        _begin_sequence(self.surrogate_function)

    def _own_steps(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the `single_step_forward` of a subclass over all steps."""
        self._run_own("single_step_forward")
        # Potentials are stored here, of these steps alone.
        store_v_seq = self.store_v_seq
        self.store_v_seq = False
        spikes, v_seq = [], []
        try:
            for step in zip(x_seq, *args, strict=True):
                spikes.append(self.single_step_forward(*step, **kwargs))
                v_seq.append(self.v)
        finally:
            self.store_v_seq = store_v_seq
        if store_v_seq:
            self.v_seq = torch.stack(v_seq)
        return torch.stack(spikes)

    def _own_functional_steps(
        self, x_seq: Tensor, states: tuple[Any, ...], store_v_seq: bool
    ) -> tuple[Tensor, tuple[Any, ...], Tensor | None]:
        """Run the `single_step_functional_forward` of a subclass over all steps."""
        self._run_own("single_step_functional_forward")
        spikes, v_seq = [], []
        for x in x_seq:
            (spike,), states = self.single_step_functional_forward((x,), states)
            spikes.append(spike)
            v_seq.append(states[0])
        stored = torch.stack(v_seq) if store_v_seq else None
        return torch.stack(spikes), states, stored

    def _multi_step(
        self, x_seq: Tensor, states: tuple[Any, ...], store_v_seq: bool
    ) -> tuple[Tensor, tuple[Any, ...], Tensor | None]:
        if self._own_equations() == "single_step_functional_forward":
            return self._own_functional_steps(x_seq, states, store_v_seq)
        self.backend_in_use, fused = self._choose(x_seq, states)
        if fused is None:
            return self._step_by_step(x_seq, states, store_v_seq)
        recorder = self.surrogate_function
        if isinstance(recorder, Recorder):
            draw = partial(fused.multiplier, recorder.original, x_seq)
            with recorder.drawn_at_once(draw):
                return self._step_by_step(x_seq, states, store_v_seq)
        state = states if len(states) > 1 else states[0]
        spikes, last, seq = fused.multi_step(
            x_seq, state, self.dynamics(), self.surrogate_function, store_v_seq
        )
        if len(states) == 1:
            return spikes, (last,), seq
        return spikes, last, seq[0] if seq is not None else None

    def _step_by_step(
        self, x_seq: Tensor, states: tuple[Any, ...], store_v_seq: bool
    ) -> tuple[Tensor, tuple[Any, ...], Tensor | None]:
        surrogate = self._surrogate_that_acts()
        _begin_sequence(surrogate)
        given = x_seq.float() if x_seq.dtype in _HALF else x_seq
        if _can_be_traced(surrogate, x_seq.device):
            steps, v_steps = [], []
            for x in given.unbind():
                (spike,), states = self._one_step(surrogate, (x,), states)
                steps.append(spike)
                v_steps.append(states[0])
            v_seq = torch.stack(v_steps) if store_v_seq else None
            return torch.stack(steps).to(x_seq.dtype), states, v_seq
        twin = self._as_host(surrogate, x_seq.device)
        host.set_memories(twin, states)
        host.set_store_v_seq(twin, store_v_seq)
        spikes = twin.multi_step_forward(given)
        return spikes.to(x_seq.dtype), tuple(host.memories(twin).values()), twin.v_seq

    def _one_step(
        self,
        surrogate: nn.Module,
        inputs: tuple[Tensor, ...],
        states: tuple[Any, ...],
        **kwargs: Any,
    ) -> tuple[tuple[Tensor], tuple[Any, ...]]:
        # What torch.compile can trace in place of a twin.
        view = _StepView(self, surrogate)
        return self._host_class.single_step_functional_forward(
            view, inputs, states, **kwargs
        )

    def _choose(
        self, x_seq: Tensor, states: tuple[Any, ...]
    ) -> tuple[str, _Backend | None]:
        surrogate = self.surrogate_function
        if isinstance(surrogate, Recorder):
            surrogate = surrogate.original
        # A subclass may multiply by anything: only its own `forward` can tell.
        if type(surrogate) is not MaskedSurrogate:
            return "torch", None
        if not surrogate.acts:
            return "host", None
        if self.backend == "torch":
            return "torch", None
        state = states if len(states) > 1 else states[0]
        for name in _AUTO if self.backend == "auto" else (self.backend,):
            backend = _FUSED[name]
            reason = backend.refuses(x_seq, state, self.dynamics(), surrogate)
            if reason is None:
                return name, backend
            if self.backend == name:
                raise ValueError(
                    f"{type(self).__name__} cannot run on backend={name!r}: {reason}."
                )
            self._log_once(
                f"{type(self).__name__} runs on torch, not on {name}: {reason}"
            )
        return "torch", None

    @staticmethod
    def _log_once(message: str) -> None:
        # Writing a log would break a graph that is being compiled.
        if not torch.compiler.is_compiling() and message not in _logged:
            _logged.add(message)
            _log.warning(message)

    def _surrogate_that_acts(self) -> nn.Module:
        surrogate = self.surrogate_function
        if type(surrogate) is MaskedSurrogate and not surrogate.acts:
            # Without its mask it is the base, which the host may have a kernel for.
            return surrogate.base
        return surrogate

    def _states(self) -> tuple[Any, ...]:
        return tuple(host.memories(self).values())

    def _as_host(
        self, surrogate: nn.Module, device: torch.device | None = None
    ) -> neuron.BaseNode:
        # A view of this node as one of the host's own class, with another surrogate:
        # the host fuses exact classes only. What hides a method is bound to this node:
        # the view has methods of its own.
        bound = {n for n, value in vars(self).items() if isinstance(value, MethodType)}
        twin: neuron.BaseNode = host.twin(
            self, surrogate, kind=self._host_class, without=bound.union(_PASSES)
        )
        # The host's kernels know its own surrogates: the base, not what masks or
        # measures it.
        plain = surrogate is not self.surrogate_function
        on_gpu = device is not None and device.type == "cuda"
        if not (plain and on_gpu):
            host.set_kernel(twin, "torch")
        elif self.backend not in ("auto", "cpu"):
            host.set_kernel(twin, self.backend)
        return twin

    def extra_repr(self) -> str:
        """Show the host's settings and the backend."""
        shown = self._as_host(self.surrogate_function).extra_repr()
        return f"{shown}, masked backend={self.backend}"


def _begin_sequence(surrogate: nn.Module) -> None:
    begin = getattr(surrogate, "new_sequence", None)
    if callable(begin):
        begin()


def _can_be_traced(surrogate: nn.Module, device: torch.device) -> bool:
    # On CUDA the host has kernels for a plain base, which are worth a graph break.
    return torch.compiler.is_compiling() and (
        isinstance(surrogate, MaskedSurrogate) or device.type != "cuda"
    )


class _StepView:
    """A node as its host class's equations read it, with another surrogate."""

    backend = "torch"

    def __init__(self, node: MaskedNode, surrogate: nn.Module) -> None:
        self.node = node
        self.surrogate_function = surrogate

    def __getattr__(self, name: str) -> Any:
        return getattr(self.node, name)


class MaskedIFNode(MaskedNode, neuron.IFNode):
    """The host's `IFNode` with a masked surrogate; see `MaskedNode`."""

    _host_class = neuron.IFNode


class MaskedLIFNode(MaskedNode, neuron.LIFNode):
    """The host's `LIFNode` with a masked surrogate; see `MaskedNode`."""

    _host_class = neuron.LIFNode


class MaskedParametricLIFNode(MaskedNode, neuron.ParametricLIFNode):
    """The host's `ParametricLIFNode` with a masked surrogate; see `MaskedNode`."""

    _host_class = neuron.ParametricLIFNode


class MaskedQIFNode(MaskedNode, neuron.QIFNode):
    """The host's `QIFNode` with a masked surrogate; see `MaskedNode`."""

    _host_class = neuron.QIFNode
    _constants = ("v_rest", "v_c", "a0")


class MaskedEIFNode(MaskedNode, neuron.EIFNode):
    """The host's `EIFNode` with a masked surrogate; see `MaskedNode`."""

    _host_class = neuron.EIFNode
    _constants = ("v_rest", "theta_rh", "delta_T")


class MaskedIzhikevichNode(MaskedNode, neuron.IzhikevichNode):
    """The host's `IzhikevichNode` with a masked surrogate; see `MaskedNode`."""

    _host_class = neuron.IzhikevichNode
    _constants = ("v_rest", "v_c", "a0", "a", "b", "tau_w")
