"""One forward pass of a network, with what its layers took in and gave out by sample.

A pass can be cut into its time steps: the neurons carry their states from one to the
next, and the backward pass of a prefix then leaves out the steps after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from spikingjelly.activation_based import base, functional
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from sj_ext.fisher.rules import Item, Rule

Execution = Literal["whole", "steps", "single"]
"""How the network is called: once with `[T, N, ...]`, or once a step, with
`[1, N, ...]` or with `[N, ...]`."""


@dataclass(frozen=True)
class Layout:
    """Where the time axis and the samples of a network's input and output are.

    Attributes:
        batch_first: Whether they are `[N, T, ...]`.
        output: Picks the logits out of what the network returns.
    """

    batch_first: bool = False
    output: Callable[[Any], Tensor] | None = None

    def logits(self, returned: Any) -> Tensor:
        """Find the logits `[T, N, K]` in what a network returned.

        Args:
            returned: By the network.

        Returns:
            The logits, time first.

        Raises:
            TypeError: If there is no tensor.
            ValueError: If it has not three axes.
        """
        found = returned if self.output is None else self.output(returned)
        if not isinstance(found, Tensor):
            raise TypeError(
                "Expected the network to return logits, got "
                f"{type(found).__name__}: give `output`, which picks them out."
            )
        if found.ndim != 3:
            axes = "[N, T, K]" if self.batch_first else "[T, N, K]"
            raise ValueError(
                f"Expected logits of every time step, {axes}, got "
                f"{list(found.shape)}: a prefix of the steps has no output in a "
                "network that averages over time itself. Let it return what it "
                "averages (behind a linear last layer the mean of those logits is "
                "the same), and leave the mean to `readout`."
            )
        return found.transpose(0, 1) if self.batch_first else found

    def step(self, x: Tensor, s: int) -> Tensor:
        """Cut step `s` out of an input, its time axis of length 1 kept."""
        return x[:, s : s + 1] if self.batch_first else x[s : s + 1]

    def sizes(self, x: Tensor) -> tuple[int, ...]:
        """Give T and N of an input, where it has both axes."""
        return tuple(x.shape[1::-1] if self.batch_first else x.shape[:2])

    def sample(self, x: Tensor, i: int, T: int, N: int) -> Tensor:
        """Cut one sample out of an input, with or without a time axis."""
        with_time = x.ndim > 1 and self.sizes(x) == (T, N)
        axis = 1 if with_time and not self.batch_first else 0
        return x.narrow(axis, i, 1)


@dataclass
class Call:
    """One call of a layer during a pass.

    Attributes:
        input: `[S, N, ...]`: S steps of N samples.
        edge: Where the gradient of the output can be asked for.
        fold: Brings a tensor shaped as the output into the form `[S, N, ...]`.
        shape: Of the output.
        version: Of the input when the layer ran: counts changes in place.
    """

    input: Tensor
    edge: GradientEdge
    fold: Callable[[Tensor], Tensor]
    shape: torch.Size
    version: int

    def items(self, name: str, gradient: Tensor) -> list[Item]:
        """Pair the steps of the input with those of the output's gradient."""
        if self.input._version != self.version:
            raise RuntimeError(
                f"The input of {name!r} was changed in place after the layer ran, so "
                "that its gradients by sample are lost: use `inplace=False`."
            )
        folded = self.fold(gradient.reshape(self.shape))
        return [Item(x, d) for x, d in zip(self.input, folded, strict=True)]


@dataclass
class Pass:
    """What one forward pass left.

    Attributes:
        logits: Of the steps, each `[1, N, K]`, or of all at once, `[T, N, K]`.
        calls: Of the layers that were followed, in order.
        lost: Names of followed layers whose samples could not be told apart.
    """

    logits: list[Tensor]
    calls: dict[str, list[Call]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def joined(self) -> Tensor:
        """Give the logits of all steps, `[T, N, K]`."""
        return torch.cat(self.logits)

    def gradients(
        self,
        cotangent: Tensor,
        inputs: Sequence[Tensor] | Sequence[GradientEdge],
        keep: bool = True,
    ) -> tuple[Tensor | None, ...]:
        """Run a backward pass from the logits of the first steps.

        Args:
            cotangent: `[t, N, K]`, the gradient of a loss of steps 0 to t - 1.
            inputs: What to differentiate for.
            keep: Whether the graph is needed again.

        Returns:
            A gradient for each of `inputs`, None where the loss does not depend on
            it.
        """
        if not inputs:
            return ()
        if len(self.logits) == 1:
            (logits,) = self.logits
            whole = torch.zeros_like(logits)
            whole[: len(cotangent)] = cotangent
            outputs, given = [logits], [whole]
        else:
            outputs = self.logits[: len(cotangent)]
            given = [one.to(outputs[0]) for one in cotangent.split(1)]
        return torch.autograd.grad(
            outputs, inputs, given, retain_graph=keep, allow_unused=True
        )


def run(
    model: nn.Module,
    x: Tensor,
    layout: Layout,
    execution: Execution,
    steps: int | None = None,
    rules: Mapping[str, Rule] | None = None,
) -> Pass:
    """Run a network from the reset state.

    Args:
        model: The network.
        x: Its input.
        layout: Of input and output.
        execution: How to call the network.
        steps: Where the pass is cut into steps: how many of them are needed.
        rules: Layers to follow, by name.

    Returns:
        The logits and the calls of the layers.
    """
    functional.reset_net(model)
    with _following(rules or {}) as followed:
        if execution == "whole":
            logits = [layout.logits(model(x))]
        else:
            T = layout.sizes(x)[0]
            logits = [
                _one_step(model, layout.step(x, s), layout, execution)
                for s in range(min(steps or T, T))
            ]
    S, N = logits[0].shape[:2]
    calls: dict[str, list[Call]] = {}
    lost = set()
    for name, seen in followed.items():
        found = [_call(rule, one, S, N, layout.batch_first) for rule, *one in seen]
        if None in found:
            lost.add(name)
        else:
            calls[name] = [call for call in found if call is not None]
    return Pass(logits, calls, lost)


def _one_step(
    model: nn.Module, x: Tensor, layout: Layout, execution: Execution
) -> Tensor:
    if execution == "steps":
        return layout.logits(model(x))
    axis = 1 if layout.batch_first else 0
    returned = model(x.squeeze(axis))
    found = returned if layout.output is None else layout.output(returned)
    if not isinstance(found, Tensor) or found.ndim != 2:
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            "Expected logits [N, K] from a network in single-step mode called with "
            f"one step {list(x.squeeze(axis).shape)}, got {got}."
        )
    return found.unsqueeze(0)


@contextmanager
def _following(rules: Mapping[str, Rule]) -> Iterator[dict[str, list[Any]]]:
    """Note inputs and outputs of layers that a gradient passes through."""
    followed: dict[str, list[Any]] = {name: [] for name in rules}

    def follow(name: str, rule: Rule) -> Callable[..., None]:
        def note(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                x = args[0] if args else None
                version = x._version if isinstance(x, Tensor) else 0
                edge = _edge(output)
                followed[name].append((rule, x, version, edge, output.shape))

        return note

    with ExitStack() as hooks:
        for name, rule in rules.items():
            handle = rule.module.register_forward_hook(follow(name, rule))
            hooks.callback(handle.remove)
        yield followed


def _edge(output: Tensor) -> GradientEdge:
    """Say where the gradient of `output` passes, also if it is changed in place."""
    whole = output._base
    # A change in place of a view is one of the whole, which leaves the view's own
    # place in the graph out.
    if (
        whole is not None
        and whole.grad_fn is not None
        and whole.numel() == output.numel()
        and whole.is_contiguous()
        and output.is_contiguous()
    ):
        return get_gradient_edge(whole)
    return get_gradient_edge(output)


def _call(
    rule: Rule, seen: Sequence[Any], S: int, N: int, batch_first: bool
) -> Call | None:
    x, version, edge, shape = seen
    if not isinstance(x, Tensor):
        return None
    fold_input = _fold(rule, x.shape, S, N, batch_first)
    fold_output = _fold(rule, shape, S, N, batch_first)
    if fold_input is None or fold_output is None:
        return None
    return Call(
        fold_input(x.detach()),
        edge,
        fold_output,
        shape,
        version,
    )


def _fold(
    rule: Rule, shape: torch.Size, S: int, N: int, batch_first: bool
) -> Callable[[Tensor], Tensor] | None:
    """Find the samples in a tensor of a layer, given S steps of N samples a pass."""
    module = rule.module
    multi_step = isinstance(module, base.StepModule) and module.step_mode == "m"
    if multi_step and tuple(shape[:2]) == (S, N):
        return _as_it_is
    if S > 1 and shape[0] == S * N:
        # Steps that share a batch axis do not follow each other in a neuron.
        return None if rule.stateful else lambda x: x.unflatten(0, (S, N))
    if not batch_first and tuple(shape[:2]) == (S, N) and S > 1:
        return _as_it_is
    if batch_first and tuple(shape[:2]) == (N, S) and S > 1:
        return lambda x: x.transpose(0, 1)
    if shape[0] == N:
        return lambda x: x.unsqueeze(0)
    if tuple(shape[:2]) == (S, N):
        return _as_it_is
    return None


def _as_it_is(x: Tensor) -> Tensor:
    return x
