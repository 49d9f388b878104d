"""All readouts take the first t steps, and say what they do with each of them."""

import pytest
import torch

import sj_ext
from sj_ext.fisher import TemporalFisher
from sj_ext.readout import (
    LastStepReadout,
    MaxMembraneReadout,
    RateReadout,
    TemporallyWeightedOutput,
)

T = 4


def readouts():
    weighted = TemporallyWeightedOutput(T)
    weighted.weight.copy_(torch.tensor([0.2, 0.6, 1.0, 2.2]))
    return [RateReadout(T), LastStepReadout(T), MaxMembraneReadout(T), weighted]


def named(readout):
    return type(readout).__name__


def test_the_last_step_and_the_maximum_over_time_are_what_they_are_called():
    logits = torch.randn(T, 3, 5)
    assert torch.equal(LastStepReadout(T)(logits), logits[T - 1])
    expected = torch.stack(
        [torch.stack([max(logits[:, n, k]) for k in range(5)]) for n in range(3)]
    )
    assert torch.equal(MaxMembraneReadout(T)(logits), expected)


@pytest.mark.parametrize("readout", readouts(), ids=named)
def test_prefixes_are_what_a_loop_over_lengths_reads_out(readout):
    logits = torch.randn(T, 3, 5, dtype=torch.float64, requires_grad=True)
    found = readout.prefixes(logits)
    expected = torch.stack([readout(logits[: t + 1]) for t in range(T)])
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn_like(found)
    gradients = [
        torch.autograd.grad(output, logits, cotangent)[0]
        for output in (found, expected)
    ]
    torch.testing.assert_close(*gradients)
    shorter = readout.prefixes(logits[:2])
    torch.testing.assert_close(shorter, expected[:2])


@pytest.mark.parametrize("readout", readouts(), ids=named)
def test_shares_give_the_output_where_it_is_a_weighted_mean(readout):
    logits = torch.randn(T, 3, 5, dtype=torch.float64)
    if isinstance(readout, MaxMembraneReadout):
        with pytest.raises(TypeError, match="got MaxMembraneReadout, whose output has"):
            readout.shares(T)
        return
    for t in range(1, T + 1):
        share = readout.shares(t)
        assert share.dtype == torch.float64
        expected = sum(s * o for s, o in zip(share, logits, strict=False))
        torch.testing.assert_close(readout(logits[:t]), expected)


@pytest.mark.parametrize("readout", readouts(), ids=named)
def test_derivatives_are_right(readout):
    logits = torch.randn(T, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(readout, logits)


@pytest.mark.parametrize("name", ["rate", "last", "max", "temporally_weighted"])
def test_the_registered_name_builds_the_public_class(name):
    readout = sj_ext.create("readout", name, T=T)
    assert type(readout).__module__ == "sj_ext.readout"
    assert f"T={T}" in repr(readout)


class PerStep(torch.nn.Module):
    """Logits of each step from that step alone."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 3).double()

    def forward(self, x):
        return self.linear(x)


def test_fisher_information_of_the_last_step_is_that_of_each_step_alone():
    net = PerStep()
    x, target = torch.randn(T, 8, 6).double(), torch.randint(3, (8,))

    def measured(x, **kwargs):
        fisher = TemporalFisher(net, labels="empirical", **kwargs)
        return fisher.measure([(x, target)], progress=False).total

    found = measured(x, readout=LastStepReadout(T))
    alone = torch.cat([measured(x[t : t + 1]) for t in range(T)])
    torch.testing.assert_close(found, alone)
    assert not torch.allclose(found, measured(x))


def test_fisher_information_refuses_a_readout_without_shares():
    fisher = TemporalFisher(PerStep(), readout=MaxMembraneReadout(T))
    with pytest.raises(TypeError, match="Expected `readout` to be a weighted mean"):
        fisher.update((torch.randn(T, 8, 6).double(), torch.randint(3, (8,))))
