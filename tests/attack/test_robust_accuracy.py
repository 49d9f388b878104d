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
        vanished=torch.zeros(2, 1, 3),
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


class Broken(torch.autograd.Function):
    """Right answers, and gradients that are not numbers."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.full_like(grad, torch.nan)


class WithBroken(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return Broken.apply(self.net(x))


@pytest.mark.parametrize("attack", ["pgd", "fgsm", "events", "sparse"])
def test_gradients_that_are_no_numbers_stop_an_attack_instead_of_going_nowhere(attack):
    model = attackable(WithBroken(masked_network()), bounds=(0.0, 5.0))
    x = counts(4, T=2)
    with pytest.raises(FloatingPointError, match=r"gradients of the inputs.*'ATan\("):
        robust_accuracy(
            model,
            [(x, answers(model, x))],
            attack,
            budgets=[2],
            probes=[{"name": "ATan", "alpha": 2.0}],
        )


def test_logits_that_are_no_numbers_are_refused():
    net = masked_network()
    with torch.no_grad():
        net[-1].bias.fill_(torch.nan)
    model = attackable(net, bounds=(0.0, 5.0))
    with pytest.raises(FloatingPointError, match=r"finite logits under attack.*'own'"):
        perturb(model, counts(2, T=2), torch.tensor([0, 1]), budget=0.1)


def test_the_share_of_gradients_that_vanish_is_counted_by_sample():
    net = masked_network()
    model = attackable(net, bounds=(0.0, 5.0))
    x = counts(3, T=2)
    target = answers(model, x)
    rect = {"name": "Rect", "alpha": 1000.0}
    found = robust_accuracy(
        model, [(x, target)], PGD(steps=4), budgets=[0.2], probes=[None, rect]
    )
    assert found.vanished.shape == (1, 2, 3)
    wide, narrow = found.vanished[0].mean(1)
    assert wide == 0, "an arctan has no end"
    assert narrow > 0.9, "of a rectangle that no potential is in there is nothing"
    assert found.summary()["vanished"] == [[float(wide), float(narrow)]]
    blind = robust_accuracy(model, [(x, target)], "random_search", budgets=[0.2])
    assert blind.vanished.isnan().all()
    assert blind.summary()["vanished"] is None


@pytest.mark.parametrize(
    ("attack", "runs"), [("fgsm", 1), (PGD(steps=2, random_start=False), 1), ("pgd", 3)]
)
def test_an_attack_that_draws_nothing_runs_once(attack, runs):
    model = attackable(masked_network(), bounds=(0.0, 5.0))
    x = counts(2, T=2)
    found = robust_accuracy(
        model,
        [(x, answers(model, x))],
        attack,
        budgets=[0.2],
        probes=[None],
        restarts=3,
    )
    assert found.runs.shape[2] == runs


def test_the_last_step_is_compared_with_the_best_of_its_own_run(example):
    _, _, found = example
    raw = found.raw_curve
    most = max(
        float(run[-1] - run.min())
        for of_budget in raw
        for of_probe in of_budget
        for run in of_probe
    )
    assert found.summary()["last_above_best"] == pytest.approx(most)
