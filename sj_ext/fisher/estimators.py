"""Ways to estimate the squared norms of per-sample gradients, by name.

Each takes a batch and returns values `[parameters, prefixes, units]` with weights
`[units]`: the estimate is the sum of the values over that of the weights. g_i is the
gradient of the loss of sample i for a parameter.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sj_ext.fisher import prefix
from sj_ext.fisher.by_sample import SampleGradients
from sj_ext.fisher.measurement import Measurement
from sj_ext.fisher.passes import Pass


class Batch(NamedTuple):
    """A batch that went forward.

    Attributes:
        x: Its input.
        forward: The pass.
        residual: `[prefixes, N, K]`, softmax - onehot.
        share: `[prefixes, T]`, the weight of each step in each prefix.
    """

    x: Tensor
    forward: Pass
    residual: Tensor
    share: Tensor

    @property
    def samples(self) -> int:
        """Their number, N."""
        return self.residual.shape[1]

    def cotangents(self) -> list[Tensor]:
        """Give the gradients of each prefix's losses for the logits, `[t, N, K]`."""
        dtype = self.forward.logits[0].dtype
        return [
            prefix.cotangent(one, row, dtype)
            for one, row in zip(self.residual, self.share, strict=True)
        ]


Estimator = Callable[[Measurement, Batch, torch.Generator], tuple[Tensor, Tensor]]


def per_sample(
    measurement: Measurement, batch: Batch, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Take ||g_i||^2 of every sample: exact."""
    cotangents = batch.cotangents()
    measurement.check_rules(batch.forward, cotangents[-1])
    rows = {name: row for row, name in enumerate(measurement.covered.parameters)}
    values = torch.zeros(len(rows), len(cotangents), batch.samples).double()
    for k, cotangent in enumerate(cotangents):
        found = SampleGradients(
            measurement.covered, batch.forward, cotangent, keep=k < len(cotangents) - 1
        )
        norms = found.squared_norms()
        if norms:
            places = [rows[name] for name in norms]
            values[places, k] = torch.stack(list(norms.values())).cpu()
    for i, k, gradients in measurement.loop(batch.x, cotangents):
        for name, gradient in gradients.items():
            values[rows[name], k, i] = gradient.double().square().sum().cpu()
    return values, torch.ones(batch.samples, dtype=torch.float64)


def sampled_label(
    measurement: Measurement, batch: Batch, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Take ||sum_i g_i||^2 for each batch of B, with weight B.

    With labels drawn from the model the g_i are independent of mean zero, so that
    E||sum_i g_i||^2 = sum_i E||g_i||^2.

    Returns:
        Values and weights.
    """
    values = _norms_of_sums(measurement, batch)
    return values, torch.tensor([batch.samples], dtype=torch.float64)


def random_sign(
    measurement: Measurement, batch: Batch, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Take ||sum_i e_i g_i||^2 for each batch of B, with weight B.

    With independent signs e_i the mixed terms have mean zero, whatever the labels.

    Returns:
        Values and weights.
    """
    signs = prefix.draw_signs(batch.residual.shape[:2], generator)
    signed = batch.residual * signs.to(batch.residual.device).unsqueeze(-1)
    return sampled_label(measurement, batch._replace(residual=signed), generator)


def batch_mean(
    measurement: Measurement, batch: Batch, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Take ||mean_i g_i||^2 for each batch: biased, as the released code has it.

    E||mean_i g_i||^2 = ||E g||^2 + (E||g||^2 - ||E g||^2) / B.

    Returns:
        Values and weights.
    """
    mean = batch._replace(residual=batch.residual / batch.samples)
    return _norms_of_sums(measurement, mean), torch.ones(1, dtype=torch.float64)


ESTIMATORS: dict[str, Estimator] = {
    "per_sample": per_sample,
    "sampled_label": sampled_label,
    "random_sign": random_sign,
    "batch_mean": batch_mean,
}


def _norms_of_sums(measurement: Measurement, batch: Batch) -> Tensor:
    parameters = list(measurement.covered.parameters.values())
    cotangents = batch.cotangents()
    last = len(cotangents) - 1
    columns = [
        _squared_norms(batch.forward.gradients(cotangent, parameters, keep=k < last))
        for k, cotangent in enumerate(cotangents)
    ]
    return torch.stack(columns, 1).unsqueeze(-1).cpu()


def _squared_norms(gradients: tuple[Tensor | None, ...]) -> Tensor:
    device = next((g.device for g in gradients if g is not None), None)
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return torch.stack(
        [
            zero
            if one is None
            else torch.linalg.vector_norm(one, dtype=torch.float64).square()
            for one in gradients
        ]
    )
