import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_ext.pruning import (
    CubicSparsity,
    GeometricSparsity,
    ListedSparsity,
    choose,
)
from sj_ext.pruning.choice import Bounds, bounds_of
from sj_ext.pruning.sparsity import shrinking


def everything(scores):
    return {name: torch.ones_like(score).bool() for name, score in scores.items()}


def naive(scores, alive, remaining):
    """Sort all weights one by one, equal ones by their place."""
    ranked = sorted(
        (
            (-float(score.flatten()[i]), place, name, i)
            for place, (name, score) in enumerate(scores.items())
            for i in range(score.numel())
            if alive[name].flatten()[i]
        ),
    )
    masks = {name: torch.zeros(score.numel()) for name, score in scores.items()}
    for _, _, name, i in ranked[:remaining]:
        masks[name][i] = 1
    return {name: mask.reshape(scores[name].shape) for name, mask in masks.items()}


@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
def test_the_global_choice_is_that_of_a_sorted_list(sizes, seed, share):
    generator = torch.Generator().manual_seed(seed)
    scores = {
        # Few values, so that many are equal.
        f"layer{i}": torch.randint(4, (size, 2), generator=generator).double()
        for i, size in enumerate(sizes)
    }
    alive = {
        name: torch.rand(score.shape, generator=generator) < 0.8
        for name, score in scores.items()
    }
    total = sum(int(mask.sum()) for mask in alive.values())
    remaining = round(share * total)
    free = {name: Bounds(0, score.numel()) for name, score in scores.items()}
    found = choose(scores, alive, remaining, bounds=free)
    expected = naive(scores, alive, remaining)
    for name, mask in found.masks.items():
        assert torch.equal(mask, expected[name].bool())
    assert found.guarded == ()


@given(
    sizes=st.lists(st.integers(2, 30), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
    scope=st.sampled_from(["global", "layer", "balanced"]),
)
def test_any_scope_is_exact_to_one_weight_and_leaves_no_layer_empty(
    sizes, seed, share, scope
):
    generator = torch.Generator().manual_seed(seed)
    scores = {
        f"layer{i}": 10.0**i * torch.rand(size, generator=generator)
        for i, size in enumerate(sizes)
    }
    remaining = len(sizes) + round(share * (sum(sizes) - len(sizes)))
    found = choose(scores, everything(scores), remaining, scope)
    counts = [int(mask.sum()) for mask in found.masks.values()]
    assert sum(counts) == remaining
    assert min(counts) >= 1


def test_pruned_weights_are_never_chosen_again():
    scores = {"a": torch.tensor([9.0, 1.0, 2.0, 8.0])}
    alive = {"a": torch.tensor([False, True, True, False])}
    assert choose(scores, alive, 1).masks["a"].tolist() == [False, False, True, False]
    with pytest.raises(ValueError, match="from 1 to 2 weights"):
        choose(scores, alive, 3)


def test_layers_give_up_the_same_share_in_scope_layer():
    scores = {"small": torch.arange(10.0), "large": 100 * torch.arange(20.0)}
    found = choose(scores, everything(scores), 15, "layer")
    assert [int(mask.sum()) for mask in found.masks.values()] == [5, 10]
    assert found.masks["small"].tolist() == [False] * 5 + [True] * 5


def test_a_balanced_score_is_that_over_the_sum_of_those_that_are_not_smaller():
    scores = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([40.0, 5.0, 45.0])}
    # a: 1/6, 2/5, 1; b: 40/85, 5/90, 1.
    found = choose(scores, everything(scores), 4, "balanced")
    assert found.masks["a"].tolist() == [False, True, True]
    assert found.masks["b"].tolist() == [True, False, True]
    tighter = choose(scores, everything(scores), 3, "balanced")
    assert tighter.masks["a"].tolist() == [False, False, True]


def test_what_a_limit_protects_is_taken_elsewhere_and_named():
    scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0, 5.0])}
    found = choose(scores, everything(scores), 2)
    assert [mask.tolist() for mask in found.masks.values()] == [
        [False, True],
        [False, False, True],
    ]
    assert found.guarded == ("a", "b")
    limited = choose(scores, everything(scores), 3, bounds={"b": Bounds(1, 1)})
    assert int(limited.masks["b"].sum()) == 1
    with pytest.raises(ValueError, match="Expected to keep from 2 to 5 weights"):
        choose(scores, everything(scores), 1)


def test_a_limit_of_ninety_percent_of_ten_weights_leaves_one():
    assert bounds_of(10, 0.0, 0.9) == Bounds(1, 10)
    assert bounds_of(10, 0.3, 0.7) == Bounds(3, 7)
    assert bounds_of(10, 1.0, 1.0) == Bounds(1, 1)


def test_scores_that_are_no_numbers_name_their_layer():
    scores = {"a": torch.tensor([1.0, float("nan")]), "b": torch.ones(2)}
    with pytest.raises(ValueError, match="1 NaN or infinite of 'a'"):
        choose(scores, everything(scores), 2)
    alive = everything(scores)
    alive["a"][1] = False
    assert choose(scores, alive, 2).masks["a"].tolist() == [True, False]


def test_schedules_end_at_their_sparsity():
    cubic = CubicSparsity(0.9, 3)
    assert cubic.sparsities == pytest.approx((0.9 * 19 / 27, 0.9 * 26 / 27, 0.9))
    geometric = GeometricSparsity(0.99, 2)
    assert geometric.sparsities == pytest.approx((0.9, 0.99))
    assert geometric.remaining(1000) == [100, 10]
    assert ListedSparsity([0.25, 0.5]).remaining(10) == [8, 5]
    assert shrinking(100, 0.25, 3) == [75, 56, 42]


@pytest.mark.parametrize("sparsities", [[], [0.5, 0.5], [0.5, 0.3], [0.0], [1.0]])
def test_schedules_that_do_not_rise_are_refused(sparsities):
    with pytest.raises(ValueError, match="rising from round to round"):
        ListedSparsity(sparsities)


@pytest.mark.parametrize("fraction", [0.0, 1.0, 2, -0.1])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match=r"Expected `fraction` in \(0, 1\), got"):
        shrinking(100, fraction, 3)


def test_a_round_that_would_prune_nothing_is_refused():
    with pytest.raises(ValueError, match="got 0 of 1 weights in round 2"):
        shrinking(2, 0.5, 2)
