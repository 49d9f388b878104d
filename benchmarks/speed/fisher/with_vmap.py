"""A peer: per-sample gradients by `torch.func.vmap` over `torch.func.grad`."""

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.surrogate import SurrogateFunctionBase
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from sj_ext.surrogate import dense


class _Triangle(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return (x >= 0).to(x)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return gradient * (2.0 - 4.0 * x.abs()).clamp_min(0.0)


class VmapTriangle(SurrogateFunctionBase):
    """The quickstart's surrogate, 2 - 4|x|, with the rule for vmap the host's lacks."""

    def __init__(self) -> None:
        super().__init__(spiking=True)

    def forward(self, x: Tensor) -> Tensor:
        """Spike where `x` is not negative."""
        return _Triangle.apply(x)


def with_vmap_rule(net: nn.Module) -> nn.Module:
    """Give all neurons of `net` a `VmapTriangle`, and return it."""
    for module in net.modules():
        if hasattr(module, "surrogate_function"):
            module.surrogate_function = VmapTriangle()
    return net


def vmapped(net: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Measure a batch; for each t a new pass of the first t steps.

    Args:
        net: Takes `x` and returns logits `[T, N, K]`.
        x: `[T, N, ...]`.
        target: `[N]`.

    Returns:
        The mean of ||gradient of a sample||^2 for each t, `[T]`, by parameter.
    """
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(parameters: dict[str, Tensor], sample: Tensor, label: Tensor) -> Tensor:
        functional.reset_net(net)
        logits = functional_call(net, parameters, (sample.unsqueeze(1),))
        return cross_entropy(logits.mean(0), label.unsqueeze(0))

    gradients = vmap(grad(loss), in_dims=(None, 1, 0))
    squares: dict[str, list[Tensor]] = {name: [] for name in parameters}
    try:
        with dense(net):
            for t in range(1, len(x) + 1):
                for name, g in gradients(parameters, x[:t], target).items():
                    norms = g.flatten(1).double().square().sum(1)
                    squares[name].append(norms.mean().cpu())
    finally:
        functional.reset_net(net)
    return {name: torch.stack(found) for name, found in squares.items()}
