"""What the measurements of this package share: how a network is run and differentiated.

The first batch decides: is the network deterministic, can it be run step by step, and
do the rules give the gradients of its samples?
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import torch
from spikingjelly.activation_based import base
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext.fisher.by_sample import Coverage, SampleGradients, coverage, loop
from sj_ext.fisher.passes import Execution, Layout, Pass, run
from sj_ext.readout import Readout
from sj_ext.surrogate import dense
from sj_ext.surrogate.probe import build_probe, probed
from sj_ext.taps import preserved
from sj_ext.taps.selection import unwrap

_log = logging.getLogger("sj_ext.fisher")
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
_HALF_TOLERANCE = 3e-2
EXECUTIONS = ("auto", "whole", "steps", "single")


class Measurement:
    """Runs a network on batches and differentiates the outputs of its prefixes.

    Args:
        model: The network.
        layout: Of its input and output.
        readout: Whose weights count; None is the mean.
        probe: A surrogate for all neurons, its name, or None.
        execution: As in `TemporalFisher`.

    Raises:
        TypeError: If `model` is no module, or `probe` no surrogate.
        ValueError: If `execution` is unknown, or nothing in `model` requires a
            gradient.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        readout: Readout | None = None,
        probe: SurrogateFunctionBase | str | None = None,
        execution: str = "auto",
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"Expected `model` to be a module, got {type(model).__name__}."
            )
        if execution not in EXECUTIONS:
            raise ValueError(
                f"Expected `execution` to be one of {', '.join(EXECUTIONS)}, got "
                f"{execution!r}."
            )
        self.model = unwrap(model)
        self.layout = layout
        self.readout = readout
        self.probe = build_probe(probe)
        self._wanted = execution
        self.begin_again()

    def begin_again(self) -> None:
        """Let the next batch decide anew how the network is run.

        What requires a gradient, and what is pruned, may have changed meanwhile.

        Raises:
            ValueError: If nothing requires a gradient.
        """
        self.covered: Coverage = coverage(self.model)
        if not self.covered.parameters:
            raise ValueError(
                "Expected `model` to have parameters that require a gradient, got none."
            )
        self.T: int | None = None
        self.execution: Execution | None = None
        self._checked: set[int] = set()

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Evaluate with gradients inside, and leave the network as it was found."""
        with (
            preserved(self.model),
            probed(self.model, self.probe),
            dense(self.model),
            torch.enable_grad(),
        ):
            yield

    def examine(self, x: Tensor) -> None:
        """Decide by the first batch how the network is run; see `TemporalFisher`.

        Args:
            x: Its input.

        Raises:
            ValueError: If the batch is empty.
        """
        if not x.numel():
            raise ValueError(
                "Expected a batch of at least one sample and one time step, got an "
                f"input {list(x.shape)}."
            )
        if self.execution is None:
            self.execution, self.T = _examined(
                self.model, x, self.layout, self._wanted, self.covered
            )

    def forward(self, x: Tensor, steps: int, by_sample: bool) -> Pass:
        """Run the network on a batch.

        Args:
            x: Its input.
            steps: How many time steps are needed.
            by_sample: Whether layers are followed for per-sample gradients.

        Returns:
            The pass.

        Raises:
            ValueError: If T differs from that of the first batch.
        """
        assert self.execution is not None
        rules = self.covered.rules if by_sample else None
        forward = run(self.model, x, self.layout, self.execution, steps, rules)
        if self.execution == "whole":
            T = len(forward.logits[0])
        else:
            T = self.layout.sizes(x)[0]
        if T != self.T:
            raise ValueError(
                f"Expected {self.T} time steps in every batch, as in the first, got "
                f"{T} in an input {list(x.shape)}."
            )
        return forward

    def check_rules(self, forward: Pass, cotangent: Tensor) -> None:
        """Loop over the parameters whose rules are wrong for this network.

        The gradients of the sample that has the largest are compared with those of
        its own loss alone, differentiated through the same pass. Done once for each
        size of a batch, as that is what time and samples are told apart by.

        Args:
            forward: A pass in which the layers were followed.
            cotangent: `[t, N, K]`, of one loss for each sample.
        """
        covered = self.covered
        before = set(covered.looped) if self._checked else set()
        lost = {
            name
            for name, sites in covered.sites.items()
            if any(site.layer in forward.lost for site in sites)
        }
        covered.looped |= lost
        if cotangent.shape[1] in self._checked and covered.looped == before:
            return
        self._checked.add(cotangent.shape[1])
        norms = SampleGradients(covered, forward, cotangent).squared_norms()
        if norms:
            j = int(torch.stack(list(norms.values())).sum(0).argmax())
            alone = torch.zeros_like(cotangent)
            alone[:, j] = cotangent[:, j]
            parameters = [covered.parameters[name] for name in norms]
            found = forward.gradients(alone, parameters)
            for (name, norm), one in zip(norms.items(), found, strict=True):
                truth = 0.0 if one is None else one.double().norm()
                if not _agree(norm[j].sqrt(), torch.as_tensor(truth), cotangent.dtype):
                    covered.looped.add(name)
        if covered.looped != before:
            _log.warning(
                "No rule gives the gradients of each sample for %s: they are had "
                "from a pass for each sample, which is slow.",
                ", ".join(sorted(covered.looped)),
            )

    def loop(
        self, x: Tensor, cotangents: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
        """Differentiate sample by sample what no rule covers; see `loop`."""
        assert self.execution is not None
        assert self.T is not None
        names = [n for n in self.covered.parameters if n in self.covered.looped]
        parameters = {name: self.covered.parameters[name] for name in names}
        if not parameters:
            return iter(())
        return loop(
            self.model,
            x,
            self.layout,
            self.execution,
            parameters,
            cotangents,
            self.T,
        )

    def on_device(self, x: Tensor) -> Tensor:
        """Move a tensor to where the network is."""
        parameter = next(iter(self.covered.parameters.values()))
        return x.to(parameter.device)


def input_and_target(batch: Any) -> tuple[Tensor, Tensor | None]:
    """Take a batch apart: a tensor, or a sequence of input, target and others.

    Args:
        batch: From a loader.

    Returns:
        The input, and the target where there is one.

    Raises:
        TypeError: If the input is no tensor.
    """
    x, target = batch, None
    if isinstance(batch, (tuple, list)) and batch:
        x, *others = batch
        target = others[0] if others else None
    if not isinstance(x, Tensor) or not (target is None or isinstance(target, Tensor)):
        raise TypeError(
            "Expected a batch to be a tensor or (input, target), got "
            f"{type(batch).__name__}: give `inputs`, which takes it apart."
        )
    return x, target


def checked_steps(steps: Sequence[int] | None, T: int | None = None) -> None:
    """Refuse prefixes that do not exist.

    Args:
        steps: What came.
        T: The number of steps, where it is known.

    Raises:
        ValueError: If `steps` is empty, not increasing or not within 1 to T.
    """
    if steps is None:
        return
    given = list(steps)
    rising = all(a < b for a, b in pairwise(given))
    whole = all(type(t) is int for t in given)
    last = T or "T"
    if not given or not whole or not rising or given[0] < 1 or given[-1] > (T or 1e9):
        raise ValueError(
            f"Expected `steps` to be increasing integers from 1 to {last}, got "
            f"{given!r}."
        )


def _examined(
    model: nn.Module, x: Tensor, layout: Layout, wanted: str, covered: Coverage
) -> tuple[Execution, int]:
    parameters = list(covered.parameters.values())

    def evaluate(execution: Execution) -> tuple[Tensor, ...]:
        forward = run(model, x, layout, execution)
        logits = forward.joined()
        # A loss that no symmetry of the outputs can hide anything from.
        places = torch.arange(logits.numel(), device=logits.device)
        direction = places.cos().reshape(logits.shape).to(logits.dtype)
        found = forward.gradients(direction, parameters, keep=False)
        # What a loss does not know of counts as a gradient of zeros.
        gradients = [
            torch.zeros_like(parameter) if one is None else one
            for parameter, one in zip(parameters, found, strict=True)
        ]
        return logits.detach(), *gradients

    first: Execution = "whole" if wanted == "auto" else wanted  # type: ignore[assignment]
    if wanted == "auto" and _is_called_step_by_step(model, x, layout):
        first = "single"
    reference = evaluate(first)
    T, N = reference[0].shape[:2]
    if wanted == "auto" and first == "whole" and layout.sizes(x) == (T, N) and T > 1:
        try:
            cut = evaluate("steps")
        except Exception as error:
            # Whatever a network does with one step only, it is no fault.
            _log.info("The network does not run step by step: %s", error)
        else:
            if _same(reference, cut):
                return "steps", T
    again = evaluate(first)
    if not _same(reference, again):
        raise RuntimeError(
            "Expected two evaluations of the first batch to agree, got logits that "
            f"differ by up to {_difference(reference[0], again[0]):.3g}: a module "
            "keeps a state that `functional.reset_net` does not reset, or draws "
            "random numbers in evaluation."
        )
    return first, T


def _is_called_step_by_step(model: nn.Module, x: Tensor, layout: Layout) -> bool:
    """Tell a network in single-step mode from one that loops over the steps itself."""
    memories = [m for m in model.modules() if isinstance(m, base.MemoryModule)]
    if not memories or any(m.step_mode == "m" for m in memories):
        return False
    calls = dict.fromkeys(memories, 0)

    def count(module: nn.Module, *_: Any) -> None:
        calls[module] += 1

    with ExitStack() as hooks, torch.no_grad():
        for module in memories:
            hooks.callback(module.register_forward_hook(count).remove)
        try:
            T = len(run(model, x, layout, "whole").joined())
        except Exception:
            # It takes no sequence; called with single steps it says what is wrong.
            return True
        if max(calls.values()) >= T:
            return False
        try:
            run(model, x, layout, "single")
        except Exception:
            # Its neurons take all steps for one batch, as some published ones do.
            return False
    return True


def _same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Compare logits and each gradient; what is round-off beside others may differ."""
    largest = max((float(one.abs().max()) for one in b[1:] if one.numel()), default=0.0)
    return _agree(a[0], b[0], a[0].dtype) and all(
        _agree(x, y, x.dtype)
        or (
            x.shape == y.shape
            and _difference(x, y) <= 1e-3 * _tolerance(x.dtype) * largest
        )
        for x, y in zip(a[1:], b[1:], strict=True)
    )


def _tolerance(dtype: torch.dtype) -> float:
    return _TOLERANCE.get(dtype, _HALF_TOLERANCE)


def _agree(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    if a.shape != b.shape:
        return False
    return bool(_difference(a, b) <= _tolerance(dtype) * float(b.abs().max()))


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double().to(a.device)).abs().max())
