"""Corruptions, which no adversary chooses: blur and noise, on all steps or some."""

from collections.abc import Sequence

import torch
from torch import Tensor


def gaussian_noise(
    x: Tensor,
    scale: float,
    generator: torch.Generator,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    time_steps: Sequence[int] | None = None,
) -> Tensor:
    """Add independent normal noise to every value.

    Args:
        x: Images `[N, C, H, W]`, or frames `[N, T, C, H, W]`.
        scale: Standard deviation, in the unit of `x`.
        generator: On the CPU; all noise is drawn from it. What a step gets does not
            depend on which steps are chosen.
        bounds: What is outside afterwards is set to the nearer of these.
        time_steps: Which steps of frames; None is all.

    Returns:
        As `x`.

    Raises:
        ValueError: If an argument is outside its range.
    """
    _check_scale("scale", scale)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return _on_steps(x, (x + scale * noise).clamp(*bounds), time_steps)


def gaussian_blur(
    x: Tensor, sigma: float, *, time_steps: Sequence[int] | None = None
) -> Tensor:
    """Blur every channel in space, the borders reflected (torchvision's).

    Args:
        x: Images `[N, C, H, W]`, or frames `[N, T, C, H, W]`.
        sigma: Of the kernel, in pixels; 0 blurs nothing. The kernel reaches three of
            them to each side, or as far as the borders can be reflected.
        time_steps: Which steps of frames; None is all.

    Returns:
        As `x`.

    Raises:
        ValueError: If an argument is outside its range.
    """
    from torchvision.transforms.v2.functional import gaussian_blur as blur

    _check_scale("sigma", sigma)
    if sigma == 0:
        return _on_steps(x, x, time_steps)
    sizes = [
        2 * min(max(1, round(3 * sigma)), side - 1) + 1
        for side in (x.shape[-1], x.shape[-2])
    ]
    return _on_steps(x, blur(x, sizes, [sigma, sigma]), time_steps)


def _on_steps(x: Tensor, changed: Tensor, time_steps: Sequence[int] | None) -> Tensor:
    if time_steps is None:
        return changed
    if x.ndim < 5 or not all(0 <= step < x.shape[1] for step in time_steps):
        raise ValueError(
            f"Expected `time_steps` of frames [N, T, C, H, W], got {list(time_steps)} "
            f"of {list(x.shape)}."
        )
    steps = torch.tensor(list(time_steps), device=x.device, dtype=torch.int64)
    return x.index_copy(1, steps, changed.index_select(1, steps))


def _check_scale(argument: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise ValueError(f"Expected `{argument}` of at least 0, got {value}.")
