"""Robust accuracy is the worst case of all runs, sample by sample."""

import pytest
import torch

from sj_ext.attack import (
    PGD,
    RobustnessResult,
    attackable,
    perturb,
    robust_accuracy,
)
from sj_ext.attack.search import PROBES
from sj_ext.surrogate.probe import build_probe, probe_name
from tests.attack.networks import answers, counts, masked_network

BUDGETS = (0.2, 0.6)
TWO = (None, {"name": "Sigmoid", "alpha": 2.0})


def measured(**arguments):
    model = attackable(masked_network(), bounds=(0.0, 5.0))
    x = counts(8, T=2)
    batches = [(part, answers(model, part)) for part in (x[:5], x[5:])]
    common = {"attack": PGD(steps=3), "budgets": BUDGETS, "probes": TWO}
    return model, batches, robust_accuracy(model, batches, **common | arguments)


@pytest.fixture(scope="module")
def example():
    torch.manual_seed(0)
    return measured(keep_inputs=True)


def test_the_worst_case_is_at_most_what_each_run_leaves(example):
    _, _, found = example
    assert found.runs.shape == (2, 2, 2, 4, 8)
    assert found.clean_accuracy == 1.0
    assert (found.accuracy[:, None] <= found.by_probe).all()
    each = found.runs.all(3).double().mean(3)
    assert (found.by_probe[..., None] <= each).all()
    assert (found.by_probe[1:] <= found.by_probe[:-1]).all()
    assert (found.accuracy[1:] <= found.accuracy[:-1]).all()
    assert (found.accuracy < 1).any()


def test_by_hand_it_is_the_same(example):
    _, _, found = example
    for number in range(2):
        for n in range(8):
            wrong = bool((~found.runs[: number + 1, ..., n]).any())
            assert bool(found.correct[number, n]) is not wrong


def test_a_surrogate_alone_keeps_what_it_found_with_a_smaller_budget():
    # Sample 0 is lost at the first budget only, sample 1 at the second only.
    runs = torch.tensor([[False, True, True], [True, False, True]])
    found = RobustnessResult(
        attack={},
        norm="linf",
        budgets=BUDGETS,
        probes=("own",),
        clean=torch.tensor([True, True, True]),
        runs=runs[:, None, None, None],
    )
    assert found.by_probe.flatten().tolist() == pytest.approx([2 / 3, 1 / 3])
    assert torch.equal(found.by_probe[:, 0], found.accuracy)


def test_the_curve_over_steps_never_rises_and_ends_at_the_accuracy(example):
    _, _, found = example
    assert (found.curve[:, 1:] <= found.curve[:, :-1]).all()
    assert torch.equal(found.curve[:, -1], found.accuracy)
    assert found.raw_curve.shape == (2, 2, 2, 4)


def test_the_kept_inputs_are_wrong_where_the_result_says_so(example):
    model, batches, found = example
    target = torch.cat([target for _, target in batches])
    x = torch.cat([x for x, _ in batches])
    for number, budget in enumerate(BUDGETS):
        right = answers(model, found.inputs[number]) == target
        assert torch.equal(right, found.correct[number])
        assert (found.inputs[number] - x).abs().max() <= budget + 1e-6


def test_it_finds_at_least_what_its_first_run_finds():
    model, batches, found = measured(probes=[None], restarts=1, budgets=(0.6,))
    right = []
    for x, target in batches:
        new = perturb(model, x, target, PGD(steps=3), budget=0.6)
        right.append(answers(model, new) == target)
    assert torch.equal(found.correct[0, :5], right[0])


def test_the_same_seed_gives_the_same_result():
    few = {"probes": [None], "restarts": 1}
    first, again, other = (measured(seed=seed, **few)[2] for seed in (3, 3, 4))
    assert torch.equal(first.runs, again.runs)
    assert not torch.equal(first.runs, other.runs)


def test_an_attack_without_gradients_runs_through_no_surrogate():
    attack = {"name": "random_search", "queries": 6}
    _, _, found = measured(attack=attack, restarts=1)
    assert found.runs.shape == (2, 1, 1, 6, 8)
    assert found.probes == ("none",)
    assert found.summary()["attack"]["queries"] == 6


def test_samples_that_are_wrong_unperturbed_stay_wrong():
    model = attackable(masked_network(), bounds=(0.0, 5.0))
    x = counts(4)
    wrong = (answers(model, x) + 1) % 3
    common = {"budgets": (0.0,), "restarts": 1, "probes": [None]}
    found = robust_accuracy(model, [(x, wrong)], "fgsm", **common)
    assert found.clean_accuracy == 0
    assert found.accuracy.tolist() == [0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budgets": (0.2, 0.1)}, "Expected `budgets` to increase"),
        ({"restarts": 0}, "Expected at least one restart"),
        ({"probes": []}, "and one surrogate"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        measured(**arguments)


def test_the_default_surrogates_are_of_many_shapes_and_widths():
    names = {probe_name(build_probe(probe)) for probe in PROBES if probe is not None}
    assert len(names) >= 4
    assert len({name.partition("(")[0] for name in names}) >= 3
    assert None in PROBES
