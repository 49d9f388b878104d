"""CKA of a whole set of samples, tile by tile."""

import numpy as np
import pytest
import torch

from sj_ext.cka.accumulator import HsicSums
from sj_ext.cka.exact import exact_cka

N = 101


def layers(kind):
    generator = torch.Generator().manual_seed(3)
    found = [
        torch.randn(N, width, generator=generator, dtype=torch.float64) + 20
        for width in (150, 6, 400)
    ]
    if kind == "spikes":
        found = [(layer > 20.3).float() for layer in found]
    if kind == "mixed":
        found[0] = (found[0] > 20.3).to(torch.uint8)
    if kind == "narrow":
        found = [layer[:, :5] for layer in found]
    return found


def one_shot(x, y, estimator):
    sums = HsicSums(
        [str(i) for i in range(len(x))],
        None if y is None else [str(i) for i in range(len(y))],
        estimator=estimator,
    )
    sums.update(
        [f.double()[None] for f in x], None if y is None else [f[None] for f in y]
    )
    return sums.compute()


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("kind", ["real", "spikes", "mixed", "narrow"])
@pytest.mark.parametrize("two_sides", [True, False])
def test_tiles_give_the_result_of_one_batch_of_all_samples(estimator, kind, two_sides):
    x = layers(kind)
    y = layers("narrow" if kind == "narrow" else "real")[:2] if two_sides else None
    expected = one_shot(x, y, estimator)
    for block in (25, 64, 1000):
        found = exact_cka(x, y, block=block, estimator=estimator)
        torch.testing.assert_close(
            found.concat, expected.concat, rtol=1e-10, atol=1e-10
        )
    if not two_sides:
        assert torch.equal(found.concat.diagonal(), torch.ones(3, dtype=torch.float64))


def test_float32_tiles_are_right_to_their_precision():
    expected = exact_cka(layers("real")).concat
    found = exact_cka(layers("real"), dtype=torch.float32, block=40).concat
    assert 0 < (found - expected).abs().max() < 1e-6


def test_features_may_lie_in_files_of_any_byte_order(tmp_path):
    x = [layer.numpy() for layer in layers("mixed")]
    mapped = []
    for i, layer in enumerate(x):
        layer = layer.astype(layer.dtype.newbyteorder(">")).reshape(N, -1, 2)
        np.save(tmp_path / f"{i}.npy", layer)
        mapped.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r"))
    assert torch.equal(
        exact_cka(mapped, block=40).concat, exact_cka(x, block=40).concat
    )


@pytest.mark.parametrize("kind", ["real", "narrow"])
def test_progress_counts_the_samples(kind):
    counted = []
    exact_cka(layers(kind), block=30, advance=counted.append)
    assert sum(counted) == N
    assert len(counted) == 4


@pytest.mark.parametrize("value", [0.1, 1.0])
@pytest.mark.parametrize("width", [3, 500])
def test_constant_layers_are_nan_and_named(value, width):
    x = {"live": torch.randn(20, width), "dead": torch.full((20, width), value)}
    found = exact_cka(x, block=8)
    assert found.constant_x == found.constant_y == ("dead",)
    assert found.concat[0, 0] == 1
    assert found.concat[1].isnan().all()
    assert found.concat[:, 1].isnan().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([torch.ones(3, 2)],), "at least 4 samples"),
        (([torch.ones(5, 2), torch.ones(6, 2)],), "layers of the same samples"),
        (([torch.ones(5, 2)], [torch.ones(6, 2)]), "the 5 samples of `features_x`"),
        (([torch.full((5, 2), float("nan"))],), "layer 0 to be finite"),
        (([],), "layers of the same samples"),
    ],
)
def test_features_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        exact_cka(*arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spikes", [False, True])
def test_one_sample_apart_from_all_others_is_undefined_and_listed(dtype, spikes):
    torch.manual_seed(0)
    base, apart = torch.rand(2, 90)
    x = (base.round() if spikes else base).repeat(20, 1)
    x[3] = apart.round() if spikes else apart
    features = {"odd": x, "other": torch.randn(20, 70)}
    found = exact_cka(features, block=7, dtype=dtype)
    assert found.constant_x == found.constant_y == ("odd",)
    assert found.concat.isnan().tolist() == [[True, True], [True, False]]
