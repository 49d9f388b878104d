"""A loss that moves temporal Fisher information to early or to late time steps."""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sj_ext.readout.functional import (
    check_hard_or_soft,
    check_logits,
    is_soft,
    mean_over_prefixes,
)
from sj_ext.readout.readout import Readout

DIRECTIONS = {"early": 1.0, "late": -1.0}
"""The sign with which the information centroid enters the loss."""

_CHECKPOINT = "CheckpointFunctionBackward"
_TOLERANCE = 0.05
_SEVERAL = "Expected `parameters` to be several tensors, such as net.parameters()"

LABELS = ("model", "empirical")
"""Whose labels the information is of, as in `sj_ext.fisher.TemporalFisher`."""


def temporal_concentration_loss(
    x_seq: Tensor,
    target: Tensor,
    parameters: Iterable[Tensor],
    strength: float = 1.0,
    direction: Literal["early", "late"] = "early",
    readout: Readout | None = None,
    evaluated: Tensor | None = None,
    labels: Literal["model", "empirical"] = "model",
    pairs: int | None = 2,
    label_smoothing: float = 0.0,
    generator: torch.Generator | None = None,
    check: bool = True,
) -> Tensor:
    """Cross-entropy, and a push of the information centroid to early or late steps.

        CE(o_T, y) +- strength * C / T,        C = sum_t(t I_t) / sum_t(I_t)

    with + for early and - for late, o_t the output of the first t steps and I_t its
    Fisher information, as arXiv 2211.14406 defines both (Eq. 7 is C). The formulation
    is this project's own; that paper's is not known to us. It estimates the I_t from
    their definition and differentiates the estimate. With p_t = softmax(o_t) and J_t
    the derivative of o_t in the parameters, the gradient of log p_t(y) is
    J_t'(onehot(y) - p_t), so that in the mean over the network's own answers y

        I_t = E tr(J_t' F_t J_t),        F_t = diag(p_t) - p_t p_t'

    F_t has a root, F_t = R_t R_t' with R_t = diag(s) - p_t s' and s the root of p_t. So
    for signs v that are drawn independently for each sample and class, the same ones
    for all t, cotangents R_t v give a gradient whose square is I_t in the mean, all
    samples in one pass:

        E ||sum_n J_tn' R_tn v_n||^2 = sum_n tr(J_tn' F_tn J_tn)

    No answer is drawn, so that the estimate can be differentiated, through J_t and F_t
    alike; and as all t share their signs, much of their chance cancels in the ratio.
    With `labels="empirical"` answers are those of the target q, a class or, after
    mixup, probabilities: the cotangents are sign_n (q_n - p_tn), and of probabilities
    the root of diag(q) - qq' as well.

    Not all prefixes are differentiated for each batch. C is the mean of the centroids
    of the pairs (t, T + 1 - t), weighted by their information; the middle step of an
    odd T is its own pair. A batch takes `pairs` of them, drawn anew with equal chances,
    and moves their common centroid: each pair's moves C, if not with C's weights. More
    pairs cost more time, and leave more of the accuracy. With None all are taken, and C
    is as defined, but for the chance in the estimate.

    It differentiates twice: through neurons of the torch backend, not through fused
    kernels nor reentrant checkpoints. A step costs a pass backward and its derivative
    for each prefix taken, in time and in memory.

    C is a ratio of sums over the batch and no mean over samples: the mean of the losses
    of parts of a batch is not the loss of the batch. Gradients that are averaged over
    processes, or over batches before a step, are those of another loss.

    Args:
        x_seq: Logits, `[T, N, K]`, with T at least 2.
        target: `[N]`, class indices, or `[N, K]`, probabilities.
        parameters: What the information is of, such as `net.parameters()`; those that
            require no gradient are left out.
        strength: How much the centroid counts beside the cross-entropy, at least 0.
        direction: Where the centroid is to move.
        readout: Gives the outputs of all prefixes; None is their mean.
        evaluated: Logits of the same samples, `[T, N, K]`, that the information is
            taken from; None is `x_seq`. In training batch norm couples samples, and
            hides gradients that the network has in evaluation; with it, and with
            dropout or masked surrogates, give the logits of a pass inside
            `sj_ext.surrogate.dense(net)`, after that of `x_seq`, which changes running
            statistics in place. In the first steps of a training it is another function
            than it will be: these have to follow.
        labels: `"model"`, answers of the network; `"empirical"`, the target.
        pairs: How many pairs of prefixes a batch takes, or all where there are fewer;
            None is all and the middle one.
        label_smoothing: Of the cross-entropy.
        generator: Draws signs and pairs, on the device of the logits; None is torch's
            own.
        check: Whether to make sure that autograd differentiates twice all the way,
            which takes another derivative: once for a network is enough.

    Returns:
        A scalar, of the batch as a whole.

    Raises:
        TypeError: If `parameters` are no tensors.
        ValueError: If an argument is outside its range, a shape does not fit, the
            target is no class of each sample, or no parameter is one of the logits.
        RuntimeError: If something cannot be differentiated twice: a neuron's kernel, a
            reentrant checkpoint.
    """
    check_concentration(strength, direction, labels, pairs)
    check_logits(x_seq, len(x_seq))
    if not x_seq.numel():
        raise ValueError(
            f"Expected `x_seq` of at least one sample, got {list(x_seq.shape)}."
        )
    check_hard_or_soft(x_seq, target)
    outputs = _prefixes(x_seq, readout)
    loss = F.cross_entropy(outputs[-1], target, label_smoothing=label_smoothing)
    if strength == 0:
        return loss
    if evaluated is not None:
        if evaluated.shape != x_seq.shape:
            raise ValueError(
                f"Expected `evaluated` of the shape of `x_seq`, {list(x_seq.shape)}, "
                f"got {list(evaluated.shape)}."
            )
        outputs = _prefixes(evaluated, readout)
    centroid = information_centroid_of(
        outputs,
        _trained(parameters),
        target if labels == "empirical" else None,
        pairs,
        generator,
        check,
    )
    return loss + DIRECTIONS[direction] * strength * centroid / len(x_seq)


def information_centroid_of(
    outputs: Tensor,
    parameters: list[Tensor],
    target: Tensor | None = None,
    pairs: int | None = None,
    generator: torch.Generator | None = None,
    check: bool = True,
) -> Tensor:
    """Estimate the information centroid so that it can be differentiated.

    Args:
        outputs: Of every prefix, `[T, N, K]`, as they depend on the parameters.
        parameters: What the information is of.
        target: True labels, as in `temporal_concentration_loss`; None is answers of
            the network.
        pairs: As there.
        generator: As there.
        check: As there.

    Returns:
        A scalar, in time steps from 1 to T; it stays finite where there is no
        information.

    Raises:
        ValueError: If there are fewer than two steps, or no output depends on the
            parameters.
        RuntimeError: If something cannot be differentiated twice.
    """
    T = len(outputs)
    if T < 2:
        raise ValueError(
            f"Expected `x_seq` of at least 2 time steps to have a centroid, got {T}."
        )
    if not outputs.requires_grad or not parameters:
        raise ValueError(
            "Expected logits that depend on `parameters`, of which at least one "
            f"requires a gradient, got {len(parameters)} and logits that "
            f"{'do' if outputs.requires_grad else 'do not'} require one."
        )
    cotangents = information_cotangents(outputs, target, generator)
    if check:
        check_second_derivative(outputs[-1], parameters, cotangents[-1])
    moment = total = outputs.new_zeros((), dtype=cotangents.dtype)
    for t in _steps(T, pairs, generator):
        information = _squared_gradient(outputs[t - 1], parameters, cotangents[t - 1])
        moment = moment + t * information
        total = total + information
    tiny = torch.finfo(total.dtype).tiny
    # Of nothing it is the middle, as of a profile that is the same at all steps.
    return torch.where(total < tiny, (T + 1) / 2, moment / total.clamp_min(tiny))


def information_cotangents(
    outputs: Tensor,
    target: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw what the squared gradient along is the Fisher information, in the mean.

    Args:
        outputs: Of every prefix, `[T, N, K]`.
        target: True labels, `[N]` or `[N, K]`; None is answers of the network.
        generator: Draws the signs.

    Returns:
        `[T, N, K]`, with the dependence on the outputs; float32 for half precision.
    """
    dtype = torch.promote_types(outputs.dtype, torch.float32)
    log_share = outputs.to(dtype).log_softmax(-1)
    share = log_share.exp()
    if target is None:
        # Halved before exp(): the root of an exact zero has no finite derivative.
        return _with_fisher_root(share, (log_share / 2).exp(), generator)
    signs = _signs(share[0, :, :1], generator)
    if not is_soft(target, outputs):
        return signs * (F.one_hot(target, outputs.shape[-1]).to(dtype) - share)
    target = target.to(dtype)
    return signs * (target - share) + _with_fisher_root(
        target, target.sqrt(), generator
    )


def check_concentration(
    strength: float, direction: str, labels: str, pairs: int | None
) -> None:
    """Refuse settings of the loss that are outside their ranges."""
    number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    if not number or not 0.0 <= strength < math.inf:
        raise ValueError(
            f"Expected `strength` to be a number of at least 0, got {strength!r}."
        )
    for name, value, known in (
        ("direction", direction, tuple(DIRECTIONS)),
        ("labels", labels, LABELS),
    ):
        if value not in known:
            raise ValueError(
                f"Expected `{name}` to be one of {', '.join(known)}, got {value!r}."
            )
    if pairs is not None and (type(pairs) is not int or pairs < 1):
        raise ValueError(f"Expected `pairs` to be None or at least 1, got {pairs!r}.")


def check_second_derivative(
    output: Tensor, parameters: list[Tensor], cotangent: Tensor
) -> None:
    """Refuse a network that autograd cannot differentiate twice all the way.

    The squared gradient is homogeneous of degree 2 in the cotangent, so that by Euler
    its derivative along the cotangent is twice itself. A kernel whose backward pass is
    a constant to autograd takes its part away, and the loss would push something else.

    Args:
        output: Of one prefix, `[N, K]`.
        parameters: What the information is of.
        cotangent: `[N, K]`.

    Raises:
        RuntimeError: If it cannot.
    """
    hint = (
        "set backend='torch' for neurons of another backend, and use_reentrant=False "
        "for checkpoints"
    )
    if _CHECKPOINT in _names_of_nodes(output):
        raise RuntimeError(
            "Expected a network that can be differentiated twice, got one with a "
            f"reentrant checkpoint, which hides its parameters: {hint}."
        )
    along = cotangent.detach().requires_grad_()
    try:
        found = _squared_gradient(output, parameters, along)
        (derivative,) = torch.autograd.grad(found, along, retain_graph=True)
    except RuntimeError as error:
        raise RuntimeError(
            f"Expected a network that can be differentiated twice: {hint}. {error}"
        ) from error
    twice, is_twice = (along * derivative).sum().detach(), 2 * found.detach()
    if not torch.isclose(twice, is_twice, rtol=_TOLERANCE, atol=0):
        raise RuntimeError(
            "Expected a network that can be differentiated twice, got one with a "
            f"derivative of {float(twice):.4g} where {float(is_twice):.4g} is due: "
            f"{hint}."
        )


def _names_of_nodes(output: Tensor) -> set[str]:
    """Name the kinds of operations that autograd has recorded for a tensor."""
    names: set[str] = set()
    left, seen = [output.grad_fn], {output.grad_fn}
    while left:
        node = left.pop()
        if node is None:
            continue
        names.add(node.name())
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        left += new
    return names


def _trained(parameters: Iterable[Tensor]) -> list[Tensor]:
    if not isinstance(parameters, Iterable) or isinstance(parameters, Tensor):
        raise TypeError(f"{_SEVERAL}, got one {type(parameters).__name__}.")
    found = list(parameters)
    for one in found:
        if not isinstance(one, Tensor):
            raise TypeError(f"{_SEVERAL}, got a {type(one).__name__}.")
    return [one for one in found if one.requires_grad]


def _prefixes(x_seq: Tensor, readout: Readout | None) -> Tensor:
    return mean_over_prefixes(x_seq) if readout is None else readout.prefixes(x_seq)


def _steps(
    T: int, pairs: int | None, generator: torch.Generator | None
) -> Iterator[int]:
    """Give the prefixes that a batch takes: all, or some pairs of mirrored ones."""
    if pairs is None:
        yield from range(1, T + 1)
        return
    device = None if generator is None else generator.device
    order = torch.randperm(T // 2, generator=generator, device=device)
    for t in order[:pairs].tolist():
        yield from (t + 1, T - t)


def _signs(like: Tensor, generator: torch.Generator | None) -> Tensor:
    drawn = torch.randint(2, like.shape, generator=generator, device=like.device)
    return drawn.to(like.dtype) * 2 - 1


def _with_fisher_root(
    share: Tensor, root: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Give (diag(s) - p s') v for random signs v, s being the root of p."""
    # Of `[T, N, K]` all steps have the same ones.
    like = share if share.ndim == 2 else share[0]
    pushed = _signs(like, generator) * root
    return pushed - share * pushed.sum(-1, keepdim=True)


def _squared_gradient(
    output: Tensor, parameters: list[Tensor], cotangent: Tensor
) -> Tensor:
    found = torch.autograd.grad(
        output,
        parameters,
        cotangent.to(output.dtype),
        create_graph=True,
        allow_unused=True,
    )
    gradients = [gradient for gradient in found if gradient is not None]
    if not gradients:
        raise ValueError("Expected logits that depend on `parameters`, got others.")
    return torch.stack(
        [gradient.to(cotangent.dtype).square().sum() for gradient in gradients]
    ).sum()
