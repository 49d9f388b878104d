"""HSIC of all pairs of layers, and of time steps, summed over minibatches.

Minibatch CKA is a ratio of sums of unbiased estimates (Nguyen, Raghu and Kornblith,
arXiv 2010.15327, equation 4). The time-concatenated Gram is the sum of those of the
steps and centring is linear: blocks of time-resolved HSICs sum to those of layers.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from sj_ext.cka.compare import compare_layers
from sj_ext.cka.functional import Estimator, check_estimator
from sj_ext.cka.gram import full_precision
from sj_ext.cka.pairs import Products
from sj_ext.cka.similarity import Similarity, names_of_zeros, normalised
from sj_ext.cka.summary import LayerSummary, Time, summarise, summarised
from sj_ext.processes import states_of_all

__all__ = ["HsicSums", "Similarity"]


class _Batch(NamedTuple):
    samples: int
    products: dict[str, Products]


class HsicSums:
    """HSIC between the layers of two networks, or of one, batch by batch.

    Each batch weighs by its number of samples: batches of one size give the ratio of
    plain sums of the paper. The estimates of every batch are kept, as float64 on the
    CPU, for intervals over batches; they merge across runs, processes and machines.

    A float32 layer of shape [T, n, D] costs its Gram matrix, T n^2 D / 2 products, and
    R n (n-1) / 2 numbers of float64 while the batch lasts (R = T with
    `time="per_step"`, else 1).

    Args:
        layers_x: Names of the layers of one side.
        layers_y: Names of those of the other side; None compares `layers_x` with
            themselves.
        time: "concat" takes the time steps of a layer for further features, "mean"
            takes their mean; "per_step" compares all pairs of steps, and gives the
            result of "concat" too.
        estimator: "unbiased", HSIC_1, or "biased".
        rsa: Whether to compute the rank correlation of pairwise distances too. It is
            the ratio of sums over batches of covariances and variances of ranks.

    Raises:
        ValueError: If there are no layers, or an option is not one of those above.
    """

    def __init__(
        self,
        layers_x: Sequence[str],
        layers_y: Sequence[str] | None = None,
        *,
        time: Time = "concat",
        estimator: Estimator = "unbiased",
        rsa: bool = False,
    ) -> None:
        check_estimator(estimator)
        if time not in get_args(Time):
            raise ValueError(
                f"Expected `time` to be one of {get_args(Time)}, got {time!r}."
            )
        for name, layers in (("layers_x", layers_x), ("layers_y", layers_y)):
            if layers is not None and (isinstance(layers, str) or not len(layers)):
                raise ValueError(
                    f"Expected `{name}` to be a list of one name or more, got "
                    f"{layers!r}."
                )
        self._layers_x = list(layers_x)
        self._layers_y = None if layers_y is None else list(layers_y)
        self._time: Time = time
        self._estimator: Estimator = estimator
        self._rsa = rsa
        self.reset()

    def reset(self) -> None:
        """Forget all batches; the layers and options stay."""
        self._batches: list[_Batch] = []
        self._steps_x: list[int] | None = None
        self._steps_y: list[int] | None = None
        self._stacked: dict[str, Products] | None = None

    @property
    def batches(self) -> int:
        """Number of batches so far."""
        return len(self._batches)

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return sum(batch.samples for batch in self._batches)

    def summarise(self, features: Tensor) -> LayerSummary:
        """Reduce a layer's features to what `update` needs, so that they can be freed.

        In a forward hook, this keeps no layer's features beyond the layer.

        Args:
            features: Of shape [T, n, ...], of any real type, on any device.

        Returns:
            A summary, to be given to `update` in the place of the features.

        Raises:
            ValueError: If fewer than 4 samples come, or values that are not finite.
        """
        return summarised(features, self._time, self._estimator, self._rsa)

    def update(
        self,
        features_x: Iterable[Tensor | LayerSummary],
        features_y: Iterable[Tensor | LayerSummary] | None = None,
    ) -> None:
        """Add a batch.

        Layers are taken one after the other: a generator may free each before it
        makes the next.

        Args:
            features_x: For each of `layers_x` a tensor [T, n, ...] of any real type, or
                what `summarise` made of it; T may differ between layers.
            features_y: For each of `layers_y` likewise, of the same samples in the
                same order; None for one network against itself.

        Raises:
            ValueError: If the number of layers, samples or steps is not the expected
                one, if fewer than 4 samples come or values that are not finite.
        """
        if (features_y is None) != (self._layers_y is None):
            raise ValueError(
                "Expected `features_y` to be "
                + ("None" if self._layers_y is None else "given")
                + f" with these layers, got {type(features_y).__name__}."
            )
        with torch.no_grad(), full_precision():
            x = self._summaries(features_x, self._layers_x, "features_x")
            y = None
            if features_y is not None and self._layers_y is not None:
                y = self._summaries(features_y, self._layers_y, "features_y")
            self._check_samples([*x, *(y or ())])
            self._check_steps(
                [layer.steps for layer in x],
                None if y is None else [layer.steps for layer in y],
            )
            samples = x[0].samples
            found = compare_layers(x, y, self._estimator)
        if self._time != "per_step":
            found = {k: v for k, v in found.items() if not k.endswith("per_step")}
        self._batches.append(_Batch(samples, found))
        self._stacked = None

    def compute(self, batch_weights: Tensor | None = None) -> Similarity:
        """Divide the sums.

        Args:
            batch_weights: Of shape [batches], times the number of samples of each:
                counts of a bootstrap, for instance. None means all ones.

        Returns:
            The matrices.

        Raises:
            ValueError: If there was no batch, or the weights do not fit.
        """
        if not self._batches or self._steps_x is None:
            raise ValueError("Expected `update` before `compute`, got no batch.")
        weights = torch.tensor([b.samples for b in self._batches], dtype=torch.float64)
        if batch_weights is not None:
            if batch_weights.shape != weights.shape:
                raise ValueError(
                    f"Expected `batch_weights` to have the shape [{self.batches}] of "
                    f"the batches, got {list(batch_weights.shape)}."
                )
            weights = weights * batch_weights.to("cpu", torch.float64)
        if self._stacked is None:
            self._stacked = _stack(self._batches)
        sums = {
            kind: Products(*(torch.tensordot(weights, part, 1) for part in stacked))
            for kind, stacked in self._stacked.items()
        }
        matrices = {kind: normalised(*total) for kind, total in sums.items()}
        concat = sums["concat"]
        names_y = self._layers_x if self._layers_y is None else self._layers_y
        return Similarity(
            concat=matrices["concat"],
            per_step=matrices.get("per_step"),
            steps_x=list(self._steps_x),
            steps_y=list(self._steps_x if self._steps_y is None else self._steps_y),
            rsa=matrices.get("rsa"),
            rsa_per_step=matrices.get("rsa_per_step"),
            constant_x=names_of_zeros(self._layers_x, concat.self_x),
            constant_y=names_of_zeros(names_y, concat.self_y),
        )

    def batch_sums(self) -> Products:
        """Give what "concat" is made of, batch by batch.

        Returns:
            HSIC of the layers times the number of samples: cross [B, Lx, Ly], self_x
            [B, Lx] and self_y [B, Ly], float64 on the CPU. CKA is the ratio of their
            sums over any selection of batches.

        Raises:
            ValueError: If there was no batch.
        """
        if not self._batches:
            raise ValueError("Expected `update` before `batch_sums`, got no batch.")
        cross, self_x, self_y = _stack(self._batches)["concat"]
        n = torch.tensor([b.samples for b in self._batches], dtype=torch.float64)
        return Products(
            cross * n[:, None, None], self_x * n[:, None], self_y * n[:, None]
        )

    def merge(self, other: "HsicSums") -> None:
        """Append the batches of another run over the same layers.

        Args:
            other: Is not changed.
        """
        self._add(other.state_dict())

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Gather the batches of all processes, in all of them, in the order of ranks.

        Without `torch.distributed` there is nothing to do. Every process must call
        it; one without batches may.

        Args:
            group: The processes; None means all.
        """
        states = states_of_all(self.state_dict, group)
        if states is None:
            return
        self.reset()
        for state in states:
            self._add(state)

    def state_dict(self) -> dict[str, Any]:
        """Collect the batches.

        Returns:
            Tensors, lists, dicts, strings and numbers.
        """
        return {
            "options": self._options(),
            "steps_x": self._steps_x,
            "steps_y": self._steps_y,
            "samples": [batch.samples for batch in self._batches],
            "products": {
                kind: stacked._asdict()
                for kind, stacked in _stack(self._batches).items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the batches.

        Args:
            state: What `state_dict()` returned, of the same layers and options.

        Raises:
            ValueError: If it is of other ones; nothing is replaced then.
        """
        before = self.state_dict()
        self.reset()
        try:
            self._add(state)
        except ValueError:
            self._add(before)
            raise

    def _options(self) -> dict[str, Any]:
        return {
            "layers_x": self._layers_x,
            "layers_y": self._layers_y,
            "time": self._time,
            "estimator": self._estimator,
            "rsa": self._rsa,
        }

    def _add(self, state: dict[str, Any]) -> None:
        for option, value in self._options().items():
            if state["options"][option] != value:
                raise ValueError(
                    f"Expected `{option}` to be the same on both sides, {value!r}, got "
                    f"{state['options'][option]!r}."
                )
        if not state["samples"]:
            return
        self._check_steps(state["steps_x"], state["steps_y"])
        parts = {
            kind: zip(*(stacked[name] for name in Products._fields), strict=True)
            for kind, stacked in state["products"].items()
        }
        for samples in state["samples"]:
            found = {kind: Products(*next(rows)) for kind, rows in parts.items()}
            self._batches.append(_Batch(samples, found))
        self._stacked = None

    def _summaries(
        self,
        features: Iterable[Tensor | LayerSummary],
        names: list[str],
        argument: str,
    ) -> list[LayerSummary]:
        found: list[LayerSummary] = []
        for layer in features:
            name = names[len(found)] if len(found) < len(names) else "one too many"
            if isinstance(layer, Tensor):
                try:
                    layer = summarise(layer, self._time, self._estimator, self._rsa)
                except ValueError as error:
                    raise ValueError(
                        f"{error} This is `{argument}[{len(found)}]`, {name}."
                    ) from error
            found.append(layer)
        if len(found) != len(names):
            raise ValueError(
                f"Expected `{argument}` to have the {len(names)} layers of this "
                f"comparison, got {len(found)}."
            )
        return found

    def _check_samples(self, layers: list[LayerSummary]) -> None:
        n = layers[0].samples
        names = [*self._layers_x, *(self._layers_y or ())]
        for name, layer in zip(names, layers, strict=True):
            if layer.samples != n:
                raise ValueError(
                    f"Expected all layers to have the {n} samples of {names[0]}, got "
                    f"{layer.samples} in {name}."
                )

    def _check_steps(self, steps_x: list[int], steps_y: list[int] | None) -> None:
        if self._steps_x is None:
            self._steps_x, self._steps_y = list(steps_x), steps_y and list(steps_y)
        names = [*self._layers_x, *(self._layers_y or ())]
        before = [*self._steps_x, *(self._steps_y or ())]
        now = [*steps_x, *(steps_y or ())]
        for name, was, is_ in zip(names, before, now, strict=True):
            if was != is_:
                raise ValueError(
                    f"Expected {name} to have {was} time steps, as before, got {is_}."
                )


def _stack(batches: Sequence[_Batch]) -> dict[str, Products]:
    if not batches:
        return {}
    return {
        kind: Products(
            *(
                torch.stack(parts)
                for parts in zip(*(b.products[kind] for b in batches), strict=True)
            )
        )
        for kind in batches[0].products
    }
