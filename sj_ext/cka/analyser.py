"""The analyser: batches through two networks, and how alike their layers are.

Linear CKA is Kornblith et al., arXiv 1905.00414; minibatches as in Nguyen, Raghu and
Kornblith, arXiv 2010.15327; spiking against other networks, with time concatenated, as
in Li et al., arXiv 2304.13098.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal, get_args

import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from sj_ext.cka.accumulator import HsicSums
from sj_ext.cka.batches import check_order, paired, without_short_end
from sj_ext.cka.result import (
    BatchSums,
    CKAResult,
    ComparedLayers,
    load_layers,
    mismatch,
)
from sj_ext.cka.side import Features, Record, Side, features
from sj_ext.cka.similarity import Similarity
from sj_ext.cka.spool import FeatureSpool
from sj_ext.cka.summary import LayerSummary, Time, summarised
from sj_ext.processes import states_of_all
from sj_ext.taps.selection import select, unwrap

EstimatorChoice = Literal["unbiased", "biased", "exact"]


class CKA:
    """Compare the layers of two networks, or of one and itself, by linear CKA.

    Networks may spike or not, on either side; they are evaluated from reset states
    without gradients, and left as they were found. Feed batches by `update` or a whole
    loader by `measure`, then `compute`:

        result = CKA(snn, ann, "*neuron*", "*relu*").measure(loader)
        result.plot().figure.savefig("cka.png")

    Minibatches weigh by their number of samples. Constant layers give NaN and are
    listed; nothing is clamped.

    Args:
        model_x: A network, or a `Side`: a network with its own input, T or layout.
        model_y: The other one; None compares the first with itself, in one pass.
        layers_x: Which layers of the first, as `sj_ext.taps.taps` takes them: names,
            globs, types, predicates or a list of these; None takes every leaf layer,
            or what its `Side` says.
        layers_y: Of the second; with one network, there is none.
        time: "concat" takes the steps of a layer for further features, the paper's
            way; "mean" takes their mean; "per_step" compares all pairs of steps and
            gives the result of "concat" too.
        record: What is compared of networks that are given without a `Side`:
            "output", which of neurons are spikes, and what None takes, or their
            potential "pre_reset" or "post_reset". A `Side` says it itself.
        T: Time steps of networks that are given without a `Side`, where they cannot be
            inferred. A `Side` says it itself.
        estimator: "unbiased" or "biased", summed over minibatches, or "exact": all
            samples at once, unbiased, with the features in temporary files.
        rsa: Whether to compute a second measure too, the rank correlation of the
            pairwise distances, which no outlier rules. Not with "exact".
        folder: Where the files of "exact" lie; None takes the system's temporary one.

    Raises:
        ValueError: If an option is not one of those above, or two contradict.
        TypeError: If a network is none.
    """

    def __init__(
        self,
        model_x: nn.Module | Side,
        model_y: nn.Module | Side | None = None,
        layers_x: Any = None,
        layers_y: Any = None,
        time: Time = "concat",
        *,
        record: Record | None = None,
        T: int | None = None,
        estimator: EstimatorChoice = "unbiased",
        rsa: bool = False,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        _check_choice("time", time, Time)
        _check_choice("estimator", estimator, EstimatorChoice)
        if rsa and estimator == "exact":
            raise ValueError(
                "Expected `rsa` to be False with estimator='exact', got True: ranks of "
                "distances exist within minibatches only."
            )
        if model_y is None and layers_y is not None:
            raise ValueError(
                "Expected no `layers_y` for one network against itself, got "
                f"{layers_y!r}: give the network twice to compare different layers."
            )
        if all(isinstance(one, Side) for one in (model_x, model_y or model_x)):
            _check_in_side("record", record)
            _check_in_side("T", T)
        self._side_x = _side(model_x, layers_x, "layers_x", record, T)
        self._itself = model_y is None
        self._side_y = (
            self._side_x
            if model_y is None
            else _side(model_y, layers_y, "layers_y", record, T)
        )
        self._time: Time = time
        self._estimator: EstimatorChoice = estimator
        self._rsa = rsa
        self._folder = folder
        self.reset()

    def reset(self) -> None:
        """Forget all batches; networks and options stay."""
        self._sums: HsicSums | FeatureSpool | None = None
        self._layers: list[ComparedLayers] = []
        self._checked: set[str] | None = None
        self._probed = False
        self._warned = False

    @property
    def batches(self) -> int:
        """Number of batches so far."""
        return 0 if self._sums is None else self._sums.batches

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return 0 if self._sums is None else self._sums.samples

    def update(self, batch: Any, batch_y: Any = None) -> None:
        """Run a batch through both networks and add what they make of it.

        The first batch is run twice, to see that the networks compute the same.

        Args:
            batch: For both networks: a tensor, a tuple or list that begins with the
                input, a dict with one tensor beside targets and index, or what the
                `inputs` of a `Side` takes. Moved to the device of the network.
            batch_y: Of the second network, where it differs: the same samples in the
                same order, which is checked by the targets and indices of the batches.

        Raises:
            ValueError: If fewer than 4 samples come (of the exact estimator, which
                takes all batches as one, in all of them), a network does not compute
                the same twice, layers or samples do not match, or the order differs.
        """
        if batch_y is not None and self._itself:
            raise ValueError(
                "Expected one batch for one network against itself, got two: give the "
                "network twice to compare what it makes of different inputs."
            )
        checked = None
        if batch_y is None:
            batch_y = batch
        else:
            checked = check_order(batch, batch_y, self.batches)
        sides = [(self._side_x, batch), (self._side_y, batch_y)]
        found = [
            features(side, of_side, self.batches, self._reduce(), not self._probed)
            for side, of_side in (sides[:1] if self._itself else sides)
        ]
        self._probed = True
        self._add(found)
        self._note_order(checked)
        if checked == set() and not self._warned:
            self._warned = True
            warnings.warn(
                "Neither targets nor an index tell whether both batches hold the same "
                "samples in the same order.",
                stacklevel=2,
            )

    def measure(
        self,
        loader: Iterable[Any],
        loader_y: Iterable[Any] | None = None,
        progress: bool = True,
    ) -> CKAResult:
        """Add all batches of a loader and compute.

        A last batch of fewer than 4 samples is appended to the one before. Batches add
        to those of earlier calls; `reset` begins anew.

        Args:
            loader: Gives batches, as `update` takes them.
            loader_y: Those of the second network, where they differ: see `update`.
            progress: Whether to show a bar on stderr.

        Returns:
            What `compute` gives.

        Raises:
            ValueError: If a loader gives no batch, or one ends before the other; and
                what `update` raises.
        """
        pairs: Iterable[Any] = (
            ((batch, None) for batch in loader)
            if loader_y is None
            else paired(loader, loader_y)
        )
        before = self.batches
        for batch, batch_y in _shown(without_short_end(pairs), loader, progress):
            self.update(batch, batch_y)
        if self.batches == before:
            raise ValueError("Expected `loader` to give at least one batch, got none.")
        return self.compute(progress)

    def compute(self, progress: bool = False) -> CKAResult:
        """Divide the sums; more batches may follow.

        Args:
            progress: Whether the exact estimator, which does its work here, shows a
                bar on stderr.

        Returns:
            The matrices, with names.

        Raises:
            ValueError: If there was no batch.
        """
        if self._sums is None or not self._sums.batches:
            raise ValueError("Expected `update` before `compute`, got no batch.")
        similarity = _computed(self._sums, progress)
        x, y = self._layers[0], self._layers[-1]
        return CKAResult(
            cka=similarity.concat,
            x=replace(
                x, steps=tuple(similarity.steps_x), constant=similarity.constant_x
            ),
            y=replace(
                y, steps=tuple(similarity.steps_y), constant=similarity.constant_y
            ),
            samples=self.samples,
            batches=self.batches,
            time=self._time,
            estimator=self._estimator,
            itself=self._itself,
            order_checked=_order(self._checked),
            per_step=similarity.per_step,
            rsa=similarity.rsa,
            rsa_per_step=similarity.rsa_per_step,
            sums=_batch_sums(self._sums),
        )

    def merge(self, other: "CKA") -> None:
        """Append the batches of another analyser of the same layers and options.

        Args:
            other: Is not changed.
        """
        self._check_options(other._options())
        if other._sums is not None:
            self._append(other._sums, other._layers, other._checked)

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Gather the batches of all processes, in all of them, in the order of ranks.

        Without `torch.distributed` there is nothing to do. Every process must call it;
        one without batches may. Give each process samples of its own.

        Args:
            group: The processes; None means all.

        Raises:
            ValueError: If the processes compare other layers or with other options;
                each keeps its own batches then.
        """
        states = states_of_all(self.state_dict, group)
        if states is None:
            return
        for state in states:
            self._check_options(state["options"])
        restored = [self._restored(s) for s in states if s["sums"] is not None]
        for _, layers, _ in restored:
            self._check_layers(restored[0][1], layers)
        self.reset()
        for one in restored:
            self._append(*one)

    def state_dict(self) -> dict[str, Any]:
        """Collect the batches, not the networks.

        Returns:
            Tensors, lists, dicts, strings and numbers. Of the exact estimator they
            hold all features.
        """
        return {
            "options": self._options(),
            "layers": [asdict(layers) for layers in self._layers],
            "checked": None if self._checked is None else sorted(self._checked),
            "sums": None if self._sums is None else self._sums.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the batches.

        Args:
            state: What `state_dict()` returned, of the same layers and options.

        Raises:
            ValueError: If it is of other ones; nothing is replaced then.
        """
        self._check_options(state["options"])
        restored = None
        if state["sums"] is not None:
            restored = self._restored(state)
            self._check_networks(restored[1])
        self.reset()
        if restored is not None:
            self._append(*restored)

    def _add(self, found: list[Features]) -> None:
        sides = (self._side_x, self._side_y)
        layers = [
            ComparedLayers(
                names=each.names,
                steps=tuple(map(_steps, each.tensors)),
                label=label,
                record=side.record,
                not_executed=each.not_executed,
            )
            for each, side, label in zip(found, sides, self._labels(), strict=False)
        ]
        self._check_layers(self._layers, layers)
        if len({each.samples for each in found}) > 1:
            raise ValueError(
                "Expected both networks to see the same samples, got "
                + " and ".join(
                    f"{each.samples} of {one.label}"
                    for each, one in zip(found, layers, strict=True)
                )
                + "."
            )
        sums = self._new_sums(layers) if self._sums is None else self._sums
        sums.update(*(_released(each.tensors) for each in found))
        # Only now: a batch that was refused leaves nothing behind.
        self._sums, self._layers = sums, layers

    def _reduce(self) -> Callable[[Tensor], LayerSummary] | None:
        if self._estimator == "exact":
            return None
        return partial(
            summarised, time=self._time, estimator=self._estimator, rsa=self._rsa
        )

    def _append(
        self,
        sums: HsicSums | FeatureSpool,
        layers: list[ComparedLayers],
        checked: set[str] | None,
    ) -> None:
        self._check_layers(self._layers, layers)
        if self._sums is None:
            self._sums, self._layers = self._new_sums(layers), layers
        self._sums.merge(sums)  # type: ignore[arg-type]
        self._note_order(checked)

    def _restored(
        self, state: dict[str, Any]
    ) -> tuple[HsicSums | FeatureSpool, list[ComparedLayers], set[str] | None]:
        layers = [load_layers(about) for about in state["layers"]]
        sums = self._new_sums(layers)
        sums.load_state_dict(state["sums"])
        checked = state["checked"]
        return sums, layers, None if checked is None else set(checked)

    def _note_order(self, checked: set[str] | None) -> None:
        if checked is not None:
            before = checked if self._checked is None else self._checked
            self._checked = before & checked

    def _new_sums(self, layers: list[ComparedLayers]) -> HsicSums | FeatureSpool:
        names_x = layers[0].names
        names_y = None if self._itself else layers[1].names
        if self._estimator == "exact":
            return FeatureSpool(names_x, names_y, time=self._time, folder=self._folder)
        return HsicSums(
            names_x,
            names_y,
            time=self._time,
            estimator=self._estimator,
            rsa=self._rsa,
        )

    def _check_networks(self, layers: list[ComparedLayers]) -> None:
        """Refuse layers that the networks do not have, before they ever ran."""
        self._check_layers(self._layers, layers)
        for side, loaded in zip((self._side_x, self._side_y), layers, strict=False):
            selected = tuple(select(unwrap(side.network), side.layers))
            # A second use of a layer is `name#2`, a part of its output `name.0`.
            strange = [
                name
                for name in loaded.names
                if not any(
                    name == one or name.startswith((f"{one}#", f"{one}."))
                    for one in selected
                )
            ]
            if strange:
                raise ValueError(
                    f"Expected batches of the layers of {side.name}, got some of "
                    f"{strange[:3]}, which it does not have or `layers` does not name."
                )

    @staticmethod
    def _check_layers(first: list[ComparedLayers], more: list[ComparedLayers]) -> None:
        for before, now in zip(first, more, strict=False):
            if before.names != now.names:
                raise ValueError(
                    f"Expected {now.label} to run the same layers with every batch, "
                    f"got {mismatch(before.names, now.names)}."
                )

    def _options(self) -> dict[str, Any]:
        return {
            "time": self._time,
            "estimator": self._estimator,
            "rsa": self._rsa,
            "itself": self._itself,
            "record": [self._side_x.record, self._side_y.record],
        }

    def _check_options(self, options: dict[str, Any]) -> None:
        for name, ours in self._options().items():
            if options[name] != ours:
                raise ValueError(
                    f"Expected batches measured with {name}={ours!r}, got "
                    f"{options[name]!r}."
                )

    def _labels(self) -> list[str]:
        x, y = self._side_x.name, self._side_y.name
        if self._itself:
            return [x]
        return [x, y] if x != y else [f"{x} (x)", f"{y} (y)"]


def _side(
    model: nn.Module | Side,
    layers: Any,
    argument: str,
    record: Record | None,
    T: int | None,
) -> Side:
    if not isinstance(model, Side):
        return Side(model, layers=layers, record=record or "output", T=T)
    if layers is None:
        return model
    if model.layers is not None:
        raise ValueError(
            f"Expected layers in the Side or as `{argument}`, got both: "
            f"{model.layers!r} and {layers!r}."
        )
    return replace(model, layers=layers)


def _check_in_side(argument: str, value: object) -> None:
    if value is not None:
        raise ValueError(
            f"Expected no `{argument}` beside a Side, got {value!r}: give "
            f"Side(..., {argument}={value!r})."
        )


def _check_choice(argument: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(
            f"Expected `{argument}` to be one of {get_args(choices)}, got {value!r}."
        )


def _steps(kept: Tensor | LayerSummary) -> int:
    return len(kept) if isinstance(kept, Tensor) else kept.steps


def _released(tensors: list[Any]) -> Iterator[Any]:
    """Give each tensor and hold it no longer."""
    while tensors:
        yield tensors.pop(0)


def _shown(
    batches: Iterable[Any], loader: Iterable[Any], progress: bool
) -> Iterator[Any]:
    total = len(loader) if isinstance(loader, Sized) else None
    with tqdm(desc="CKA", total=total, unit="batch", disable=not progress) as bar:
        for batch in batches:
            yield batch
            bar.update()
        # A short last batch has joined the one before.
        bar.total = bar.n
        bar.refresh()


def _computed(sums: HsicSums | FeatureSpool, progress: bool) -> Similarity:
    if isinstance(sums, HsicSums):
        return sums.compute()
    total = sums.passes * sums.samples
    with tqdm(desc="exact", total=total, unit="sample", disable=not progress) as bar:
        return sums.compute(bar.update)


def _order(checked: set[str] | None) -> str:
    if checked is None:
        return "one loader"
    return " and ".join(sorted(checked, reverse=True)) or "nothing"


def _batch_sums(sums: HsicSums | FeatureSpool) -> BatchSums | None:
    return None if isinstance(sums, FeatureSpool) else BatchSums(*sums.batch_sums())
