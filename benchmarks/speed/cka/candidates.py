"""The candidates: ours, pytorch-cka, the released procedure, and Grams alone."""

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from benchmarks.speed.cka.features import Features, Setting
from benchmarks.speed.cka.released import released_cka, released_pairs
from sj_ext.cka.accumulator import HsicSums
from sj_ext.cka.bits import spike_gram
from sj_ext.cka.gram import symmetric_product
from sj_ext.cka.pairs import hsic_row, products
from sj_ext.cka.similarity import normalised
from sj_ext.cka.summary import Time

OURS = "ours"
PER_STEP = "ours, per step"
PEER = "pytorch-cka"
RELEASED = "released procedure"
FLOOR = "float32 Grams"
HALF_FLOOR = "upper half of them"
BYTES_FLOOR = "int8 Grams"
BITS_FLOOR = "common bits alone"

Work = Callable[[], object]


def peer_version() -> str | None:
    """Find the release of pytorch-cka.

    Returns:
        Its number; None where it is not installed.
    """
    try:
        return version("pytorch-cka")
    except PackageNotFoundError:
        return None


def names() -> list[str]:
    """List those that compute a matrix, as far as they are installed.

    Returns:
        Names of candidates.
    """
    found = [OURS, PER_STEP, PEER, RELEASED]
    return [name for name in found if name != PEER or peer_version() is not None]


def floors(setting: Setting) -> list[str]:
    """List the floors that hold for some features.

    Args:
        setting: The features.

    Returns:
        Names of candidates that compute Gram matrices and nothing else.
    """
    found = [FLOOR, HALF_FLOOR]
    if setting.kind == "spikes" and setting.device.type == "cpu":
        found.append(BITS_FLOOR)
    if setting.kind == "spikes" and _multiplies_bytes(setting.device):
        found.append(BYTES_FLOOR)
    return found


def matrix(name: str, features: Features) -> Tensor:
    """Compare all layers.

    Args:
        name: One of `names`.
        features: What is compared.

    Returns:
        CKA [L, L], without any clamping.
    """
    if name in (OURS, PER_STEP):
        return ours(features.stepwise, "concat" if name == OURS else "per_step")
    return (_peer if name == PEER else released_cka)(features.concatenated)


def candidate(name: str, features: Features) -> Work:
    """Make one candidate.

    Args:
        name: One of `names` or `floors`.
        features: What it compares; made here, in the layout that it takes.

    Returns:
        A function of no arguments.
    """
    if name in (OURS, PER_STEP):
        _ = features.stepwise
    elif name == BITS_FLOOR:
        spikes = features.stepwise
        return lambda: [spike_gram(one) for one in spikes]
    elif name == BYTES_FLOOR:
        integers = features.integers
        return lambda: [torch._int_mm(one, one.T) for one in integers]
    else:
        flat = features.concatenated
    if name == FLOOR:
        return lambda: [one @ one.T for one in flat]
    if name == HALF_FLOOR:
        return lambda: [_upper_half(one) for one in flat]
    return lambda: matrix(name, features)


def alone(name: str, setting: Setting) -> Work:
    """Make one candidate with features in its own layout only.

    Args:
        name: One of `names` or `floors`.
        setting: What it compares.

    Returns:
        What `candidate` returns.
    """
    return candidate(name, Features(setting))


def pair_stage(grams: Tensor, name: str) -> Work:
    """Make a candidate that is given the Gram matrices.

    Args:
        grams: Float32 [L, n, n].
        name: One of `names` but `PER_STEP`, or `FLOOR`, which is one product of
            float64 vectors.

    Returns:
        A function of no arguments: CKA [L, L].
    """
    if name == OURS:
        return lambda: _ours_from(grams)
    if name == PEER:
        return lambda: _peer_from(grams)
    if name == RELEASED:
        return lambda: released_pairs(list(grams))
    n = grams.shape[1]
    rows = grams.flatten(1).double()[:, : n * (n - 1) // 2].clone()
    out = torch.zeros(len(rows), len(rows), dtype=rows.dtype, device=rows.device)
    return lambda: symmetric_product(rows, out)


def ours(features: list[Tensor], time: Time) -> Tensor:
    """Compare layers by what stands behind `sj_ext.cka.CKA`.

    Args:
        features: Of each of L layers [T, n, D / T].
        time: As of `HsicSums`.

    Returns:
        CKA [L, L] of the layers.
    """
    sums = HsicSums([str(i) for i in range(len(features))], time=time)
    sums.update(features)
    return sums.compute().concat


def reference(features: Sequence[Tensor]) -> Tensor:
    """Compute CKA from the formula, in float64.

    Args:
        features: Of each of L layers [n, D].

    Returns:
        CKA [L, L]: HSIC_1 of Song et al. 2012, equation 5, of features without their
        mean, which changes nothing but the rounding.
    """
    n = len(features[0])
    centred = (x.double() - x.double().mean(0) for x in features)
    k = torch.stack([(x @ x.T).fill_diagonal_(0) for x in centred])
    ends, sums = k.sum(2), k.sum((1, 2))
    # With symmetric kernels tr(KL) is the sum of the products of their entries.
    hsic = torch.einsum("aij,bij->ab", k, k)
    hsic += torch.outer(sums, sums) / ((n - 1) * (n - 2)) - 2 * ends @ ends.T / (n - 2)
    return hsic / torch.outer(hsic.diagonal(), hsic.diagonal()).sqrt()


def _ours_from(grams: Tensor) -> Tensor:
    rows = [hsic_row(gram, "unbiased") for gram in grams]
    return normalised(*products(rows, None, [1] * len(rows), None)[1])


def _peer(flat: list[Tensor]) -> Tensor:
    # As its class does for one network against itself: each Gram once.
    return _peer_from(torch.stack([torch.mm(x, x.T) for x in flat]))


def _peer_from(grams: Tensor) -> Tensor:
    from cka import hsic_cross  # type: ignore[import-not-found]

    cross = hsic_cross(grams, grams)
    own = cross.diagonal()
    # Its own last step clamps the root and the ratio, which would hide failures.
    return cross / torch.outer(own, own).sqrt()


def _multiplies_bytes(device: torch.device) -> bool:
    # Elsewhere torch takes seconds for what floats take a third of.
    capability = torch.backends.cpu.get_cpu_capability()
    return device.type == "cuda" or capability.startswith("AVX512")


def _upper_half(x: Tensor) -> Tensor:
    out = torch.zeros(len(x), len(x), dtype=x.dtype, device=x.device)
    symmetric_product(x, out)
    return out
