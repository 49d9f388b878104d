"""Pure tensor functions behind the masked surrogates."""

from typing import Any

import torch
from torch import Tensor


def bernoulli_keep(x: Tensor, p: float) -> Tensor:
    """Draw for each element of `x` whether its surrogate derivative is kept.

    The draw uses torch's own generator of the device of `x`.

    Args:
        x: Gives shape, device and memory layout; its values are not read.
        p: Probability in [0, 1) that an element is dropped.

    Returns:
        A bool tensor shaped and laid out like `x`: true with probability 1 - p, met
        to 2**-31 on the CPU and to torch's own precision elsewhere.
    """
    if x.device.type == "cpu":
        # Five times faster there than bernoulli_: random_ draws 31 uniform bits.
        dropped = min(round(p * 2**31), 2**31 - 1)
        return torch.empty_like(x, dtype=torch.int32).random_() >= dropped
    return torch.empty_like(x, dtype=torch.bool).bernoulli_(1.0 - p)


def mask_gradient(x: Tensor, keep: Tensor, scale: float = 1.0) -> Tensor:
    """Pass `x` on unchanged and mask the gradient that comes back.

    For a surrogate s with ds/dx = g(x), `s(mask_gradient(x, m, c))` has the value
    s(x) and the derivative c * m * g(x).

    Args:
        x: Any floating-point tensor.
        keep: A bool tensor of the shape of `x`.
        scale: Factor on the gradients that are kept.

    Returns:
        A view of `x`.
    """
    return _MaskGradient.apply(x, keep, scale)


class _MaskGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, keep: Tensor, scale: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, keep, scale = inputs
        ctx.save_for_backward(keep)
        ctx.scale = scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        masked = grad * keep
        return (masked if ctx.scale == 1.0 else masked * ctx.scale), None, None
