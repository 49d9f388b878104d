"""Fisher information of the outputs of all prefixes, from one forward pass a batch."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn

from sj_ext.fisher import prefix
from sj_ext.fisher.centroid import centroid_error, information_centroid
from sj_ext.fisher.estimators import ESTIMATORS, Batch
from sj_ext.fisher.measurement import Measurement, checked_steps, input_and_target
from sj_ext.fisher.moments import Moments, layers_of
from sj_ext.fisher.passes import Layout
from sj_ext.fisher.result import FisherResult
from sj_ext.processes import rank, states_of_all
from sj_ext.readout import Readout
from sj_ext.surrogate.probe import probe_name


class TemporalFisher:
    """Measures the Fisher information in the first t time steps, for every t.

    With f_t the network's answer after t steps, the softmax of the mean of its logits
    of steps 1 to t,

        I_t = mean over samples of ||grad_theta log f_t(y | x)||^2

    (Y. Kim et al., arXiv 2211.14406): the trace of the Fisher information matrix of
    f_t. It is how much the *prefix* output depends on the weights. It is not the
    information that arrives at step t: the prefixes overlap, so the I_t do not add
    up, and no difference of two is a share of anything. It falls as the network grows
    confident, whatever happens in time: a softmax of a linear layer without states, on
    steps that are independent draws from one distribution, "concentrates" at early
    steps by being trained. So compare a claim with that null and with time-shuffled
    input, and look at the loss, accuracy and confidence of the prefixes, which are
    reported beside I_t. It also depends on the surrogate: compare networks through one
    `probe`.

        fisher = TemporalFisher(net)
        result = fisher.measure(loader)
        result.total, result.standard_error, result.information_centroid

    The estimators differ in cost and in what their errors rest on:

        "per_sample"     exact for the samples seen, by rules for the layers of a
                         network; a parameter without a rule costs a pass for each
                         sample and is listed in `FisherResult.looped`
        "sampled_label"  unbiased, one plain backward pass for each prefix; labels
                         from the model only
        "random_sign"    unbiased, at the same cost, for either kind of labels
        "batch_mean"     ||mean gradient of the batch||^2, what is often published
                         (with `labels="empirical"`): biased by its batch size

    The first batch is evaluated twice, which must agree. If the network gives the
    same results called step by step, with the neurons' states carried on, it is
    measured that way: the backward pass of a prefix then skips the steps after it.
    Where rules are used, their gradients of one sample are compared with autograd's.
    Runs in evaluation with dense surrogates (`sj_ext.surrogate.dense`), resets states
    before each pass, and leaves the network as it was found.

    Args:
        model: A network that returns logits of every step, `[T, N, K]`, or in
            single-step mode `[N, K]`.
        estimator: One of the above.
        labels: `"model"`: y is drawn for each prefix from its own distribution, which
            gives the true Fisher information; `"empirical"`: y is the target.
        steps: The prefixes to measure, increasing, from 1 to T; None is all.
        readout: Weights over time, renormalised over each prefix; None is the mean.
        probe: A surrogate function that all neurons have during the measurement, or
            its name; None leaves them their own.
        inputs: Takes a batch apart into input and target (or None); by default a
            batch is a tensor, or input and target come first in it.
        output: Picks the logits out of what the network returns.
        batch_first: Whether input and logits are `[N, T, ...]`.
        execution: How the network is called: `"whole"` with `[T, N, ...]`, `"steps"`
            with `[1, N, ...]` for each step, `"single"` with `[N, ...]` for each
            step; `"auto"` finds the fastest way that is right.
        seed: Of labels and signs; each process of `torch.distributed` adds its rank.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is outside its range, or `"sampled_label"` comes
            with empirical labels, for which it is not unbiased.
    """

    def __init__(
        self,
        model: nn.Module,
        estimator: Literal[
            "per_sample", "sampled_label", "random_sign", "batch_mean"
        ] = "per_sample",
        labels: Literal["model", "empirical"] = "model",
        steps: Sequence[int] | None = None,
        readout: Readout | None = None,
        probe: SurrogateFunctionBase | str | None = None,
        *,
        inputs: Callable[[Any], tuple[Tensor, Tensor | None]] = input_and_target,
        output: Callable[[Any], Tensor] | None = None,
        batch_first: bool = False,
        execution: Literal["auto", "whole", "steps", "single"] = "auto",
        seed: int = 0,
    ) -> None:
        for argument, value, known in (
            ("estimator", estimator, tuple(ESTIMATORS)),
            ("labels", labels, prefix.LABELS),
        ):
            if value not in known:
                raise ValueError(
                    f"Expected `{argument}` to be one of {', '.join(known)}, got "
                    f"{value!r}."
                )
        if estimator == "sampled_label" and labels != "model":
            raise ValueError(
                "Expected `labels` to be 'model' for 'sampled_label', got "
                f"{labels!r}: gradients of true labels do not have mean zero; use "
                "'random_sign'."
            )
        checked_steps(steps)
        self.estimator = estimator
        self.labels = labels
        self._given_steps = None if steps is None else tuple(steps)
        self._inputs = inputs
        self._seed = seed
        self._measurement = Measurement(
            model, Layout(batch_first, output), readout, probe, execution
        )
        self.reset()

    def reset(self) -> None:
        """Forget all batches, and draw labels and signs from the seed again."""
        self._generator = torch.Generator().manual_seed(self._seed + rank())
        self._moments: Moments | None = None
        self._steps: tuple[int, ...] = ()
        self._share: Tensor | None = None
        self._looped: set[str] = set()
        self._measurement.begin_again()

    @property
    def samples(self) -> int:
        """How many samples have been measured."""
        return 0 if self._moments is None else self._moments.samples

    def update(self, batch: Any) -> None:
        """Measure a batch.

        Args:
            batch: `(x, target)` or `x`, unless `inputs` says otherwise: x
                `[T, N, ...]`, or whatever the network takes, and target `[N]`.

        Raises:
            RuntimeError: If two evaluations of the first batch differ.
            ValueError: If the batch is empty, the logits are not of every step, T or
                the weights of `readout` are others than before, `steps` go beyond T,
                or a target is missing or not `[N]`.
        """
        measurement = self._measurement
        x, target = self._inputs(batch)
        x = measurement.on_device(x)
        target = None if target is None else measurement.on_device(target)
        with measurement.ready():
            measurement.examine(x)
            assert measurement.T is not None
            steps = self._given_steps or tuple(range(1, measurement.T + 1))
            checked_steps(steps, measurement.T)
            share = prefix.shares(measurement.T, steps, measurement.readout)
            _check_same_weights(self._share, share)
            forward = measurement.forward(
                x, steps[-1], by_sample=self.estimator == "per_sample"
            )
            outputs = prefix.prefix_logits(forward.joined(), share)
            labels = prefix.choose_labels(outputs, target, self.labels, self._generator)
            residual = prefix.residuals(outputs, labels)
            values, weights = ESTIMATORS[self.estimator](
                measurement, Batch(x, forward, residual, share), self._generator
            )
        moments = self._begun(steps, share)
        moments.add_units(values, weights)
        moments.add_answers(outputs.shape[1], *prefix.answers(outputs, target))
        self._looped |= measurement.covered.looped if self._by_sample else set()

    def compute(self) -> FisherResult:
        """Give the result of all batches so far.

        Returns:
            The profile over prefixes, in total and for each layer.

        Raises:
            ValueError: If there was no batch.
        """
        moments = self._moments
        if moments is None or not moments.samples:
            raise ValueError(
                "Expected at least one batch before `compute`, got none: call "
                "`update` or `measure`."
            )
        total, covariance = moments.total(), moments.covariance()
        layers = moments.layer_names
        by_layer, errors = moments.mean("layers"), moments.layer_error()
        by_parameter = moments.mean("parameters")
        measurement = self._measurement
        return FisherResult(
            steps=self._steps,
            total=total,
            per_layer=dict(zip(layers, by_layer, strict=True)),
            per_parameter=dict(zip(moments.parameter_names, by_parameter, strict=True)),
            standard_error=covariance.diagonal().clamp_min(0).sqrt(),
            layer_standard_error=dict(zip(layers, errors, strict=True)),
            information_centroid=float(information_centroid(total, self._steps)),
            centroid_standard_error=float(
                centroid_error(total, covariance, self._steps)
            ),
            prefix_loss=moments.per_sample("loss"),
            prefix_accuracy=moments.per_sample("correct"),
            prefix_confidence=moments.per_sample("confidence"),
            samples=moments.samples,
            units=int(moments.sums["units"]),
            estimator=self.estimator,
            labels=self.labels,
            probe=probe_name(measurement.probe),
            execution=str(measurement.execution),
            looped=tuple(sorted(self._looped)),
            frozen=tuple(
                name
                for name, parameter in measurement.model.named_parameters()
                if not parameter.requires_grad
            ),
        )

    def measure(self, loader: Iterable[Any], progress: bool = True) -> FisherResult:
        """Reset, update with every batch, add up all processes, and compute.

        Args:
            loader: Batches as for `update`; each process its own.
            progress: Whether to show a progress bar.

        Returns:
            As `compute`.
        """
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        self.reset()
        for batch in tqdm(loader, desc="Fisher information", disable=not progress):
            self.update(batch)
        self.all_reduce()
        return self.compute()

    def merge(self, other: "TemporalFisher") -> None:
        """Add the batches of another measurement of the same network and settings.

        Args:
            other: Is not changed.

        Raises:
            ValueError: If estimator, labels, probe, parameters, prefixes or the
                weights of the readout are others.
        """
        self._add(other.state_dict())

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Add up the batches of all processes, in all of them.

        Without `torch.distributed` there is nothing to do. Every process must call
        it, and none of them twice for the same batches.

        Args:
            group: The processes; None means all.
        """
        states = states_of_all(self.state_dict, group)
        if states is None:
            return
        self._moments = None
        self._share = None
        for state in states:
            self._add(state)

    def state_dict(self) -> dict[str, Any]:
        """Collect the sums, and where the random numbers are.

        Returns:
            Dicts, tuples, texts and tensors.
        """
        moments = self._moments
        return {
            "settings": self._settings,
            "steps": self._steps,
            "share": self._share,
            "parameters": [] if moments is None else list(moments.parameter_names),
            "sums": {} if moments is None else dict(moments.sums),
            "looped": sorted(self._looped),
            "execution": self._measurement.execution,
            "T": self._measurement.T,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another measurement of the same network was.

        Args:
            state: What `state_dict()` returned.

        Raises:
            ValueError: As `merge`.
        """
        self.reset()
        self._add(state)
        self._generator.set_state(state["generator"])

    @property
    def _by_sample(self) -> bool:
        return self.estimator == "per_sample"

    @property
    def _settings(self) -> tuple[str, str, str | None]:
        return self.estimator, self.labels, probe_name(self._measurement.probe)

    def _begun(self, steps: tuple[int, ...], share: Tensor) -> Moments:
        if self._moments is None:
            names = list(self._measurement.covered.parameters)
            self._moments = Moments(layers_of(names), len(steps))
            self._steps = steps
            self._share = share
        return self._moments

    def _add(self, state: dict[str, Any]) -> None:
        if tuple(state["settings"]) != self._settings:
            raise ValueError(
                f"Expected a measurement with {self._settings}, got "
                f"{tuple(state['settings'])}."
            )
        if not state["parameters"]:
            return
        steps = tuple(state["steps"])
        share = self._share
        if share is None:
            # Nothing is measured here yet: what the next batch would be read with.
            share = prefix.shares(state["T"], steps, self._measurement.readout)
        moments = self._begun(steps, share)
        if state["parameters"] != moments.parameter_names or steps != self._steps:
            raise ValueError(
                "Expected a measurement of the same parameters and steps "
                f"{self._steps}, got {len(state['parameters'])} parameters and "
                f"steps {steps}."
            )
        _check_same_weights(share, state["share"])
        moments.add_sums(state["sums"])
        self._looped |= set(state["looped"])
        if self._measurement.execution is None:
            self._measurement.execution = state["execution"]
            self._measurement.T = state["T"]


def _check_same_weights(expected: Tensor | None, share: Tensor) -> None:
    """Refuse another readout: its prefixes have other outputs, so another I_t."""
    if expected is None:
        return
    # Two sequences of different lengths may have the same prefixes.
    t = min(expected.shape[1], share.shape[1])
    if not torch.allclose(expected[:, :t], share[:, :t], rtol=1e-6, atol=0.0):
        raise ValueError(
            "Expected the same weights of `readout` in the whole measurement, shares "
            f"{_told(expected)} of the longest prefix, got {_told(share)}."
        )


def _told(share: Tensor) -> str:
    return "[" + ", ".join(f"{one:.4g}" for one in share[-1].tolist()) + "]"
