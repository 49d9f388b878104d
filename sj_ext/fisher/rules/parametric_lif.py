"""The learnt time constant of ParametricLIF neurons (W. Fang et al., 2007.05785)."""

from collections.abc import Sequence

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor

from sj_ext.fisher.rules.rule import Item, Rule, covers


@covers(neuron.ParametricLIFNode)
class ParametricLIFRule(Rule):
    """Runs the neuron once more, each sample with a w of its own.

    The gradient of the spikes is given, so that the second run stays inside the
    layer; its potential goes on from item to item, as it did in the network. With
    r = sigmoid(w),

        h = v - r (v - v_reset) + (r x if decay_input else x)
    """

    parameters = ("w",)
    stateful = True
    module: neuron.ParametricLIFNode

    @torch.enable_grad()
    def gradient(self, name: str, items: Sequence[Item]) -> Tensor:
        """Differentiate the second run; see `Rule.gradient`."""
        x = items[0].input
        w = self.module.w.detach().to(x.dtype).expand(len(x)).clone().requires_grad_()
        rate = w.sigmoid().view(-1, *[1] * (x.ndim - 1))
        v = torch.full_like(x, self.module.v_reset or 0.0)
        spikes = []
        for item in items:
            spike, v = self._step(item.input.detach(), v, rate)
            spikes.append(spike)
        (gradient,) = torch.autograd.grad(
            spikes, w, [item.gradient for item in items], materialize_grads=True
        )
        return gradient

    def numel_per_sample(self, name: str, items: Sequence[Item]) -> int:
        """Count what the second run keeps for its backward pass, about."""
        return 8 * super().numel_per_sample(name, items)

    def _step(self, x: Tensor, v: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        node = self.module
        rest = node.v_reset or 0.0
        h = v - rate * (v - rest) + (rate * x if node.decay_input else x)
        spike = node.surrogate_function(h - node.v_threshold)
        fired = spike.detach() if node.detach_reset else spike
        if node.v_reset is None:
            return spike, h - fired * node.v_threshold
        return spike, (1 - fired) * h + fired * node.v_reset
