"""HSIC summed over minibatches, for layers and for their time steps."""

import copy

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from sj_ext.cka import hsic
from sj_ext.cka.accumulator import HsicSums

WIDTHS = ((5, 4), (9,), (70,), (2,))
STEPS = (3, 2, 1, 3)


def batch(n=20, dtype=torch.float64, widths=WIDTHS, steps=STEPS):
    return [
        torch.randn(t, n, *width, dtype=dtype)
        for t, width in zip(steps, widths, strict=True)
    ]


def summed(batches_x, batches_y=None, **options):
    names = [f"x{i}" for i in range(len(batches_x[0]))]
    names_y = batches_y and [f"y{i}" for i in range(len(batches_y[0]))]
    sums = HsicSums(names, names_y, **options)
    for i, x in enumerate(batches_x):
        sums.update(x, batches_y and batches_y[i])
    return sums


def ratio_of_sums(batches_x, batches_y, estimator="unbiased"):
    """CKA of features [n, ...], layer by layer, each batch times its samples."""

    def total(i, j, a, b):
        pairs = zip(a, b, strict=True)
        return sum(len(p[i]) * hsic(p[i], q[j], estimator) for p, q in pairs)

    rows, columns = range(len(batches_x[0])), range(len(batches_y[0]))
    return torch.stack(
        [
            torch.stack(
                [
                    total(i, j, batches_x, batches_y)
                    / (
                        total(i, i, batches_x, batches_x)
                        * total(j, j, batches_y, batches_y)
                    ).sqrt()
                    for j in columns
                ]
            )
            for i in rows
        ]
    )


def together(batches):
    return [[layer.transpose(0, 1) for layer in layers] for layers in batches]


def by_step(batches):
    return [[step for layer in layers for step in layer] for layers in batches]


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("two_sides", [True, False])
@pytest.mark.parametrize("spikes", [True, False])
def test_one_pass_gives_layers_and_time_steps(estimator, two_sides, spikes):
    x = [batch(20), batch(13)]
    y = [batch(20), batch(13)] if two_sides else None
    if spikes:
        x = [[(layer > 0.4).double() for layer in layers] for layers in x]
    found = summed(x, y, time="per_step", estimator=estimator).compute()
    other = y or x
    close = {"rtol": 1e-9, "atol": 1e-10}
    expected = ratio_of_sums(together(x), together(other), estimator)
    torch.testing.assert_close(found.concat, expected, **close)
    expected = ratio_of_sums(by_step(x), by_step(other), estimator)
    torch.testing.assert_close(found.per_step, expected, **close)
    assert found.steps_x == found.steps_y == list(STEPS)
    alone = summed(x, y, estimator=estimator).compute()
    torch.testing.assert_close(alone.concat, found.concat, **close)
    assert alone.per_step is None
    assert not found.constant_x


def test_mean_compares_the_means_over_time():
    x = [batch(), batch()]
    found = summed(x, time="mean").compute()
    means = [[layer.mean(0) for layer in layers] for layers in x]
    torch.testing.assert_close(found.concat, ratio_of_sums(means, means))
    assert found.steps_x == list(STEPS)


@hypothesis.given(
    n=st.integers(4, 40),
    widths=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    offset=st.sampled_from([0.0, 1000.0]),
)
def test_float32_features_of_any_shape_are_right_to_their_precision(n, widths, offset):
    x = [torch.randn(2, n, width) + offset for width in widths]
    y = [torch.randn(1, n, 8) for _ in range(2)]
    expected = ratio_of_sums(together([x]), together([y]), "biased")
    found = summed([x], [y], estimator="biased").compute().concat
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [1, 40])
def test_a_network_against_itself_is_one_and_symmetric(width):
    x = [batch(50, torch.float32, [(width,)] * 3, [2] * 3) for _ in range(2)]
    found = summed(x, time="per_step").compute()
    for matrix in (found.concat, found.per_step):
        assert torch.equal(matrix.diagonal(), torch.ones(len(matrix)).double())
        torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-14)
        assert matrix.min() >= -1
        assert matrix.max() <= 1 + 1e-12


@pytest.mark.parametrize("width", [3, 60])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_constant_layers_are_nan_and_named(width, value):
    x = batch(20, torch.float32, [(width,), (width,)], [2, 2])
    x[1][:] = value
    found = summed([x], time="per_step", rsa=True).compute()
    assert found.constant_x == found.constant_y == ("x1",)
    expected = torch.tensor([[False, True], [True, True]])
    for matrix in (found.concat, found.rsa):
        assert torch.equal(matrix.isnan(), expected)
    for matrix in (found.per_step, found.rsa_per_step):
        assert torch.equal(
            matrix.isnan(), expected.repeat_interleave(2, 0).repeat_interleave(2, 1)
        )


def test_a_layer_dead_at_one_step_is_nan_there_alone():
    x = [torch.rand(3, 10, 40).round()]
    x[0][0] = 0
    found = summed([x], time="per_step").compute()
    assert found.per_step[0].isnan().all()
    assert not found.per_step[1:, 1:].isnan().any()
    assert found.concat == 1
    assert not found.constant_x


def test_layers_may_be_summarised_or_generated_one_by_one():
    x = batch()
    expected = summed([x]).compute().concat
    sums = HsicSums(["a", "b", "c", "d"])
    sums.update(layer for layer in x)
    assert torch.equal(sums.compute().concat, expected)
    sums.reset()
    sums.update([sums.summarise(layer) for layer in x])
    assert torch.equal(sums.compute().concat, expected)


def test_weights_choose_among_the_batches():
    x = [batch(), batch(9), batch()]
    sums = summed(x, time="per_step", rsa=True)
    assert (sums.batches, sums.samples) == (3, 49)
    found = sums.compute(torch.tensor([2.0, 0.0, 1.0]))
    expected = summed([x[0], x[0], x[2]], time="per_step", rsa=True).compute()
    for name in ("concat", "per_step", "rsa", "rsa_per_step"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    with pytest.raises(ValueError, match=r"shape \[3\] of the batches, got \[2\]"):
        sums.compute(torch.ones(2))


def test_sums_of_every_batch_are_given():
    sums = summed([batch(), batch(9)], [batch(), batch(9)])
    cross, self_x, self_y = (part.sum(0) for part in sums.batch_sums())
    expected = sums.compute().concat
    found = cross / torch.outer(self_x, self_y).sqrt()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("two_sides", [True, False])
def test_merged_runs_and_resumed_ones_equal_one_run(two_sides):
    x = [batch(), batch(9), batch()]
    y = [batch(), batch(9), batch()] if two_sides else None
    options = {"time": "per_step", "rsa": True}
    whole = summed(x, y, **options)
    first, rest = (
        summed(x[part], y and y[part], **options) for part in (slice(0, 1), slice(1, 3))
    )
    resumed = HsicSums(whole._layers_x, whole._layers_y, **options)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    for i in (1, 2):
        resumed.update(x[i], y and y[i])
    first.merge(rest)
    for other in (first, resumed):
        assert other.samples == whole.samples
        for a, b in zip(other.compute(), whole.compute(), strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_states_of_other_layers_are_refused_and_change_nothing():
    sums, other = summed([batch()]), summed([batch()], time="mean")
    before = sums.compute().concat
    with pytest.raises(ValueError, match="Expected `time` to be the same"):
        sums.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="Expected `time` to be the same"):
        sums.merge(other)
    assert torch.equal(sums.compute().concat, before)


PROCESS = """
from sj_ext.cka.accumulator import HsicSums
torch.manual_seed(0)
batches = [[torch.randn(2, n, w) for w in (3, 50)] for n in (10, 8, 10)]
whole = HsicSums(["a", "b"], time="per_step", rsa=True)
part = HsicSums(["a", "b"], time="per_step", rsa=True)
for i, batch in enumerate(batches):
    whole.update(batch)
    if (i < 2) == (rank == 0):
        part.update(batch)
part.all_reduce()
for a, b in zip(part.compute(), whole.compute()):
    assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
empty = HsicSums(["a", "b"])
if rank:
    empty.update(batches[0])
empty.all_reduce()
assert empty.batches == 1
"""


def test_two_processes_equal_one(in_two_processes):
    in_two_processes(PROCESS)


def test_gradients_do_not_flow_into_the_sums():
    x = [layer.requires_grad_() for layer in batch()]
    assert not summed([x]).compute().concat.requires_grad


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([torch.ones(1, 3, 2)] * 2, r"at least 4 samples.*features_x\[0\]`, a"),
        ([torch.ones(1, 5, 2), torch.ones(1, 6, 2)], "5 samples of a, got 6 in b"),
        ([torch.ones(1, 5, 2)], "the 2 layers of this comparison, got 1"),
        ([torch.ones(1, 5, 2)] * 3, "the 2 layers of this comparison, got 3"),
        ([torch.ones(5), torch.ones(5)], r"\[T, n, ...\], got shape \[5\]"),
        (
            [torch.ones(1, 5, 2), torch.full((1, 5, 9), float("nan"))],
            r"45 of 45 values are NaN.*features_x\[1\]`, b",
        ),
    ],
)
def test_features_that_do_not_fit_are_refused_and_leave_no_trace(layers, message):
    sums = HsicSums(["a", "b"])
    with pytest.raises(ValueError, match=message):
        sums.update(layers)
    assert sums.batches == 0
    sums.update([torch.randn(2, 5, 2), torch.randn(1, 5, 2)])
    assert sums.batches == 1


def test_time_steps_must_stay_the_same():
    sums = summed([batch()])
    with pytest.raises(ValueError, match="Expected x1 to have 2 time steps, as before"):
        sums.update(batch(steps=(3, 4, 1, 3)))


def test_sides_must_be_given_as_declared():
    with pytest.raises(ValueError, match="Expected `features_y` to be given"):
        HsicSums(["a"], ["b"]).update([torch.ones(1, 5, 2)])
    with pytest.raises(ValueError, match="Expected `features_y` to be None"):
        HsicSums(["a"]).update([torch.ones(1, 5, 2)], [torch.ones(1, 5, 2)])


@pytest.mark.parametrize("call", ["compute", "batch_sums"])
def test_without_a_batch_there_is_no_result(call):
    with pytest.raises(ValueError, match="got no batch"):
        getattr(HsicSums(["a"]), call)()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a"],), {"time": "step"}, "Expected `time` to be one of"),
        ((["a"],), {"estimator": "exact"}, "Expected `estimator` to be one of"),
        (([],), {}, "Expected `layers_x` to be a list"),
        ((["a"], "b"), {}, "Expected `layers_y` to be a list"),
    ],
)
def test_unknown_options_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        HsicSums(*arguments, **options)


@pytest.mark.parametrize("n", [4, 10, 33, 64])
@pytest.mark.parametrize("kind", ["spikes", "real", "one alone", "offset"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_sample_apart_from_all_others_is_undefined_and_listed(n, kind, dtype):
    generator = torch.Generator().manual_seed(n)
    for width in (2, 40, 300):
        base, apart = torch.rand(2, width, generator=generator, dtype=dtype)
        if kind == "spikes":
            base, apart = (base < 0.4).to(dtype), (apart < 0.4).to(dtype)
        base = {"one alone": 0.0, "offset": 50.0}.get(kind, 0.0) + base * (
            kind != "one alone"
        )
        x = base.repeat(n, 1)
        x[n // 2] = apart
        if torch.equal(base, apart):
            continue
        sums = HsicSums(["odd", "narrow", "wide"])
        others = (torch.randn(1, n, d, generator=generator) for d in (3, 500))
        sums.update([x[None], *others])
        found = sums.compute()
        assert found.constant_x == ("odd",), (width, found.concat)
        assert found.concat[0].isnan().all()
        assert found.concat[1:, 1:].isfinite().all()


def test_a_sample_far_from_others_that_differ_is_still_defined():
    x = torch.randn(1, 32, 400)
    y = x + 0.1 * torch.randn(1, 32, 400)
    x[:, 5] *= 100
    sums = HsicSums(["far", "others"])
    sums.update([x, y])
    found = sums.compute()
    assert not found.constant_x
    assert found.concat.isfinite().all()
