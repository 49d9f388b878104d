"""Exact gradients of each sample from one backward pass of a whole batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sj_ext.fisher.passes import Call, Execution, Layout, Pass, run
from sj_ext.fisher.rules import Item, Rule, rule_for

_BUDGET = 2**24
"""Numbers that the gradients of the samples of one layer may take up at a time."""


class Site(NamedTuple):
    """A place where a parameter acts.

    Attributes:
        layer: Name of the module.
        rule: Of the module.
        name: Of the parameter in the rule.
        mask: What the parameter is multiplied by first (`torch.nn.utils.prune`).
    """

    layer: str
    rule: Rule
    name: str
    mask: Tensor | None = None


@dataclass
class Coverage:
    """Which parameters are measured, and how.

    Attributes:
        parameters: Those that require a gradient, by name, in the network's order.
        sites: Where each parameter acts that rules cover.
        looped: Names of the others: their gradients need a pass for each sample.
    """

    parameters: dict[str, nn.Parameter]
    sites: dict[str, list[Site]] = field(default_factory=dict)
    looped: set[str] = field(default_factory=set)

    @property
    def rules(self) -> dict[str, Rule]:
        """The rules of the layers to follow in a pass, by the layers' names."""
        return {
            site.layer: site.rule
            for name, sites in self.sites.items()
            if name not in self.looped
            for site in sites
        }


def coverage(model: nn.Module) -> Coverage:
    """Look for a rule for each parameter that requires a gradient.

    Args:
        model: The network.

    Returns:
        The parameters; those without a rule are looped over.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    names = {id(parameter): name for name, parameter in parameters.items()}
    found = Coverage(parameters)
    for layer, module in model.named_modules():
        rule = rule_for(module)
        for name in () if rule is None else rule.parameters:
            parameter, mask = _acting(module, name)
            if rule is not None and id(parameter) in names:
                site = Site(layer, rule, name, mask)
                found.sites.setdefault(names[id(parameter)], []).append(site)
    found.looped = set(parameters) - set(found.sites)
    return found


def _acting(module: nn.Module, name: str) -> tuple[Tensor | None, Tensor | None]:
    own, masks = module._parameters, module._buffers
    if f"{name}_orig" in own and f"{name}_mask" in masks:
        return own[f"{name}_orig"], masks[f"{name}_mask"]
    return own.get(name), None


class SampleGradients:
    """The gradients of the losses of all samples for one cotangent, layer by layer.

    Args:
        covered: The parameters.
        forward: A pass in which the layers were followed.
        cotangent: `[t, N, K]`; row i is the gradient of the loss of sample i.
        keep: Whether the pass is needed again.
    """

    def __init__(
        self, covered: Coverage, forward: Pass, cotangent: Tensor, keep: bool = True
    ) -> None:
        self._covered = covered
        self._N = cotangent.shape[1]
        self._device = cotangent.device
        rules = covered.rules
        followed = {n: calls for n, calls in forward.calls.items() if n in rules}
        edges = [call.edge for calls in followed.values() for call in calls]
        found = iter(forward.gradients(cotangent, edges, keep))
        self._items = {
            name: _items(name, calls, list(islice(found, len(calls))), rules[name])
            for name, calls in followed.items()
        }

    def squared_norms(self) -> dict[str, Tensor]:
        """Give ||gradient||^2 of each sample, `[N]` float64, by covered parameter."""
        return {
            name: torch.cat(
                [
                    self._norm(sites, part)
                    for part in self._parts(name, sites, not _is_plain(sites))
                ]
            )
            for name, sites in self._covered_sites()
        }

    def sums_of_squares(self) -> dict[str, Tensor]:
        """Give the squares of the gradients, summed over samples, float64."""
        sums = {}
        for name, sites in self._covered_sites():
            parameter = self._covered.parameters[name]
            total = torch.zeros_like(parameter, dtype=torch.float64)
            for part in self._parts(name, sites, True):
                gradient = self._gradient(sites, part)
                if gradient is not None:
                    total += gradient.double().square().sum(0)
            sums[name] = total.detach()
        return sums

    def _covered_sites(self) -> Iterator[tuple[str, list[Site]]]:
        for name, sites in self._covered.sites.items():
            if name not in self._covered.looped:
                yield name, sites

    def _parts(self, name: str, sites: Sequence[Site], formed: bool) -> Iterator[slice]:
        """Cut the samples into runs whose gradients are within the budget.

        Where gradients must be formed, those of Gram matrices are not enough.
        """
        size = sum(
            site.rule.numel_per_sample(site.name, self._items[site.layer])
            for site in sites
            if self._items.get(site.layer)
        )
        if formed:
            size = max(size, len(sites) * self._covered.parameters[name].numel())
        step = max(1, _BUDGET // max(1, size))
        for start in range(0, self._N, step):
            yield slice(start, min(start + step, self._N))

    def _norm(self, sites: Sequence[Site], part: slice) -> Tensor:
        site = sites[0]
        items = self._items_of(site, part)
        if items and _is_plain(sites):
            norm = site.rule.squared_norm(site.name, items)
            if norm is not None:
                return norm
        gradient = self._gradient(sites, part)
        if gradient is None:
            return torch.zeros(
                part.stop - part.start, dtype=torch.float64, device=self._device
            )
        rows = gradient.reshape(len(gradient), -1)
        return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()

    def _gradient(self, sites: Sequence[Site], part: slice) -> Tensor | None:
        found = []
        for site in sites:
            items = self._items_of(site, part)
            if items:
                gradient = site.rule.gradient(site.name, items)
                found.append(gradient if site.mask is None else gradient * site.mask)
        return torch.stack(found).sum(0) if found else None

    def _items_of(self, site: Site, part: slice) -> list[Item]:
        items = self._items.get(site.layer, [])
        return [Item(x[part], d[part]) for x, d in items]


def _is_plain(sites: Sequence[Site]) -> bool:
    """Tell whether a gradient is that of one place alone, its norm a Gram's."""
    return len(sites) == 1 and sites[0].mask is None


def _items(
    name: str, calls: Sequence[Call], gradients: list[Tensor | None], rule: Rule
) -> list[Item]:
    """Pair inputs with gradients, without the calls that the loss does not know of."""
    while gradients and gradients[-1] is None:
        gradients.pop()
    items = []
    for call, gradient in zip(calls, gradients, strict=False):
        if gradient is None and rule.stateful:
            gradient = call.input.new_zeros(call.shape)
        if gradient is not None:
            items += call.items(name, gradient)
    return items


def loop(
    model: nn.Module,
    x: Tensor,
    layout: Layout,
    execution: Execution,
    parameters: Mapping[str, nn.Parameter],
    cotangents: Sequence[Tensor],
    T: int,
) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
    """Differentiate sample by sample, for parameters that no rule covers.

    Args:
        model: The network.
        x: Input of a batch.
        layout: Of input and output.
        execution: How to call the network.
        parameters: What to differentiate for, by name.
        cotangents: `[t, N, K]` each, of one loss for each sample.
        T: Number of time steps.

    Yields:
        The sample, the place in `cotangents` and the gradients by name.
    """
    steps = max(len(one) for one in cotangents)
    for i in range(cotangents[0].shape[1]):
        alone = layout.sample(x, i, T, cotangents[0].shape[1])
        forward = run(model, alone, layout, execution, steps)
        for k, cotangent in enumerate(cotangents):
            found = forward.gradients(
                cotangent[:, i : i + 1],
                list(parameters.values()),
                keep=k < len(cotangents) - 1,
            )
            yield (
                i,
                k,
                {
                    name: torch.zeros_like(parameter) if one is None else one
                    for (name, parameter), one in zip(
                        parameters.items(), found, strict=True
                    )
                },
            )
