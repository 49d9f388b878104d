"""The share is exact in each sample and step, whatever is tied."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_ext.surrogate import MaskedSurrogate, TopKMask


def by_sorting(x, count):
    """The definition: the first `count` of a stable sort of each row."""
    keep = torch.zeros(x.shape, dtype=torch.bool)
    order = x.abs().sort(dim=-1, stable=True).indices[..., :count]
    return keep.scatter(-1, order, True)


@given(
    density=st.floats(0.001, 1.0),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40)),
    levels=st.integers(1, 30),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_the_smallest_are_kept_and_ties_go_to_the_first(
    density, shape, levels, dtype, seed
):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randint(-levels, levels + 1, shape, generator=generator) / 8).to(dtype)
    found = TopKMask(density).multiplier(x)
    assert torch.equal(found, by_sorting(x, round(density * shape[1])))


def test_each_step_and_sample_of_a_sequence_has_its_share():
    x_seq = torch.randn(3, 4, 5, 6, 6)
    rule = TopKMask(0.3)
    found = rule.multiplier(x_seq, sequence=True)
    assert (found.flatten(2).sum(-1) == 54).all()
    steps = torch.stack([rule.multiplier(x) for x in x_seq])
    assert torch.equal(found, steps)


def test_the_choice_does_not_depend_on_the_memory_layout():
    x = torch.randint(-3, 4, (2, 8, 4, 4)).float()
    other = x.to(memory_format=torch.channels_last)
    found = TopKMask(0.4).multiplier(other)
    assert torch.equal(found, TopKMask(0.4).multiplier(x))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_the_largest_derivatives_are_those_that_are_kept():
    x = torch.randn(2, 500, requires_grad=True)
    masked = MaskedSurrogate("ATan", TopKMask(0.2))
    (slope,) = torch.autograd.grad(masked(x).sum(), x)
    (whole,) = torch.autograd.grad(masked.base(x).sum(), x)
    assert ((slope != 0).sum(1) == 100).all()
    for kept, all_of_them in zip(slope, whole, strict=True):
        assert torch.equal(kept[kept != 0].sort().values, all_of_them.sort()[0][-100:])


@pytest.mark.parametrize(("shape", "sequence"), [((7,), False), ((3, 7), True)])
def test_neurons_are_needed_besides_samples(shape, sequence):
    with pytest.raises(ValueError, match="several neurons a sample, got shape"):
        TopKMask(0.5).multiplier(torch.randn(shape), sequence)


@pytest.mark.parametrize("density", [0.0, 1.5, True, None])
def test_a_density_out_of_range_is_refused(density):
    with pytest.raises(ValueError, match=r"Expected `density` in \(0, 1\], got"):
        TopKMask(density)
