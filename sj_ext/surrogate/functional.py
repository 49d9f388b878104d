"""Pure tensor functions behind the masked surrogates."""

import math
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
        # Five times faster there than bernoulli_: random_ draws 31 uniform bits. As
        # a method it would break the graph of torch.compile.
        dropped = min(round(p * 2**31), 2**31 - 1)
        bits = torch.ops.aten.random_(torch.empty_like(x, dtype=torch.int32))
        return bits >= dropped
    return torch.empty_like(x, dtype=torch.bool).bernoulli_(1.0 - p)


def positive_noise(x: Tensor, mean: float, variance: float) -> Tensor:
    """Draw log-normal noise for each element of `x`.

    exp(mu + sigma z) with sigma^2 = log(1 + variance / mean^2) and
    mu = log(mean) - sigma^2 / 2 has the mean and the variance that are asked for.

    Args:
        x: Gives shape, device and memory layout; its values are not read.
        mean: Mean of the noise, positive.
        variance: Its variance, not negative; with 0 the noise is constant.

    Returns:
        A tensor shaped and laid out like `x`, float64 where `x` is, else float32;
        with no variance a single number that broadcasts.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if variance == 0.0:
        return torch.full((), mean, dtype=dtype, device=x.device)
    log_variance = math.log1p(variance / mean**2)
    mu = math.log(mean) - log_variance / 2
    noise = torch.empty_like(x, dtype=dtype, requires_grad=False)
    return noise.normal_(mu, math.sqrt(log_variance)).exp_()


def smallest_keep(x: Tensor, share: float, rows: int = 1) -> Tensor:
    """Keep, row by row, the elements of smallest absolute value.

    Args:
        x: A tensor with more than `rows` axes.
        share: Of the n elements of a row, round(share * n) are kept.
        rows: How many leading axes tell the rows apart.

    Returns:
        A bool tensor shaped and laid out like `x`; among equal values the first in
        index order are kept.
    """
    kept = torch.empty_like(x, dtype=torch.bool, requires_grad=False)
    size = x.detach().flatten(rows)
    count = round(share * size.shape[-1])
    if count == 0 or count == size.shape[-1] or x.numel() == 0:
        return kept.fill_(count > 0)
    size = size.abs()
    if size.dtype in (torch.float16, torch.bfloat16):
        size = size.float()
    # The limit is found by selection, several times faster than sorting.
    limit = size.kthvalue(count, dim=-1, keepdim=True).values
    below, tied = size < limit, size == limit
    room = count - below.sum(-1, keepdim=True)
    chosen = below | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room))
    return kept.copy_(chosen.view(x.shape))


def mask_gradient(x: Tensor, multiplier: Tensor, scale: float = 1.0) -> Tensor:
    """Pass `x` on unchanged and multiply the gradient that comes back.

    For a surrogate s with ds/dx = g(x), `s(mask_gradient(x, m, c))` has the value
    s(x) and the derivative c * m * g(x).

    Args:
        x: Any floating-point tensor.
        multiplier: A bool or floating-point tensor that broadcasts to the shape of
            `x`.
        scale: One more factor on the gradient.

    Returns:
        A view of `x`.
    """
    return _MaskGradient.apply(x, multiplier, scale)


class _MaskGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, multiplier: Tensor, scale: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, multiplier, scale = inputs
        ctx.save_for_backward(multiplier)
        ctx.scale = scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (multiplier,) = ctx.saved_tensors
        masked = grad * multiplier
        if ctx.scale != 1.0:
            masked = masked * ctx.scale
        return masked.to(grad.dtype), None, None
