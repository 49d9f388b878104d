"""Attacks stay within budget and bounds, reach what they may, and repeat."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_ext.attack import (
    FGSM,
    PGD,
    EventAttack,
    RandomSearch,
    SparsePGD,
    attackable,
    gaussian_blur,
    gaussian_noise,
    perturb,
    robust_accuracy,
)
from sj_ext.attack.events import moved
from sj_ext.attack.functional import (
    distance,
    margin,
    project_events,
    project_l0,
)
from tests.attack.networks import (
    answers,
    counts,
    images,
    masked_network,
    network,
)

ATTACKS = [
    FGSM("linf"),
    FGSM("l2"),
    PGD("linf", steps=2),
    PGD("l2", steps=2, loss="margin"),
    SparsePGD(steps=2),
    EventAttack(steps=2),
    EventAttack(steps=2, moves="insert", random_start=False),
    EventAttack(steps=2, moves="delete"),
    RandomSearch("linf", queries=3),
    RandomSearch("events", queries=3),
]
UP_TO = {"linf": 3.0, "l2": 8.0, "l0": 60, "events": 60}


def modelled():
    return attackable(network(), bounds=(0.0, 5.0))


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@given(share=st.floats(0.0, 1.0), seed=st.integers(0, 9), some=st.booleans())
def test_no_attack_exceeds_budget_bounds_or_time_steps(attack, share, seed, some):
    model, x = modelled(), counts(2, T=3)
    budget = share * UP_TO[attack.norm]
    budget = budget if attack.norm in ("linf", "l2") else int(budget)
    steps = [1] if some else None
    target = answers(model, x)
    new = perturb(model, x, target, attack, budget=budget, time_steps=steps, seed=seed)
    assert (distance(new, x, attack.norm) <= budget * (1 + 1e-6) + 1e-6).all()
    assert new.min() >= 0
    assert new.max() <= 5
    if some:
        assert torch.equal(new[:, [0, 2]], x[:, [0, 2]])
    if attack.norm == "events":
        assert torch.equal(new, new.round())
        if getattr(attack, "moves", "both") == "insert":
            assert (new >= x).all()
        if getattr(attack, "moves", "both") == "delete":
            assert (new <= x).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_every_attack_lowers_the_margin_and_repeats_by_its_seed(attack):
    model, x = modelled(), counts(8, T=2)
    target = answers(model, x)
    budget = UP_TO[attack.norm]
    first, again, other = (
        perturb(model, x, target, attack, budget=budget, seed=seed)
        for seed in (0, 0, 1)
    )
    with torch.no_grad():
        before, after = margin(model(x), target), margin(model(first), target)
    assert (after <= before).float().mean() > 0.6
    assert after.mean() < before.mean()
    assert torch.equal(first, again)
    if getattr(attack, "random_start", False) or isinstance(attack, RandomSearch):
        assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_pgd_equals_a_loop_written_by_hand(name):
    model, x = attackable(network(), T=4), images()
    target = answers(model, x)
    budget, size = 0.2, 0.05
    attack = PGD(name, steps=4, step_size=size / budget, random_start=False)
    new = x
    tried = []
    for _ in range(4):
        new = new.clone().requires_grad_()
        logits = model(new)
        tried.append((margin(logits, target).detach(), new.detach()))
        loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, new)
        if name == "linf":
            step = size * gradient.sign()
            new = x + (new.detach() + step - x).clamp(-budget, budget)
        else:
            length = gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            change = new.detach() + size * gradient / length.clamp_min(1e-12) - x
            length = change.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            new = x + change * (budget / length.clamp_min(1e-12)).clamp_max(1)
        new = new.clamp(0, 1)
    tried.append((margin(model(new), target).detach(), new))
    best = torch.stack([score for score, _ in tried]).argmin(0)
    expected = torch.stack([tried[i][1][n] for n, i in enumerate(best)])
    found = perturb(model, x, target, attack, budget=budget)
    torch.testing.assert_close(found, expected)


@given(
    st.lists(st.floats(-2, 3), min_size=5, max_size=5),
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
    st.integers(0, 5),
)
def test_the_l0_projection_is_the_nearest_of_all(x, x0, budget):
    x, x0 = torch.tensor([x]).double(), torch.tensor([x0]).double()
    found = project_l0(x, x0, budget, (0.0, 1.0))
    assert ((found != x0).sum(1) <= budget).all()
    clipped = x.clamp(0, 1)
    nearest = min(
        float((torch.where(torch.tensor(keep), clipped, x0) - x).square().sum())
        for keep in itertools.product([False, True], repeat=5)
        if sum(keep) <= budget
    )
    assert float((found - x).square().sum()) == pytest.approx(nearest, abs=1e-12)


@given(
    st.lists(st.integers(-3, 3), min_size=4, max_size=4),
    st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    st.integers(0, 9),
)
def test_the_event_projection_keeps_what_is_worth_most(change, gain, budget):
    change, gain = torch.tensor([change]).double(), torch.tensor([gain]).double()
    x0 = torch.full((1, 4), 5.0).double()
    kept = (project_events(x0 + change, x0, gain, budget) - x0) * change.sign()
    assert ((kept >= 0) & (kept <= change.abs())).all()
    assert kept.sum() <= budget
    best = max(
        sum(k * g for k, g in zip(keep, gain[0].tolist(), strict=True))
        for keep in itertools.product(*(range(int(c) + 1) for c in change[0].abs()))
        if sum(keep) <= budget
    )
    assert float((kept * gain).sum()) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("kind", ["both", "insert", "delete"])
def test_the_moves_of_events_are_those_of_a_loop_over_places(kind):
    generator = torch.Generator().manual_seed(5)
    x0 = torch.randint(0, 6, (4, 12), generator=generator).double()
    worth = torch.randn(4, 12, generator=generator).double()
    found = moved(x0, x0, worth, (0.0, 5.0), moves=3, budget=12, kind=kind)
    expected = x0.clone()
    for row, gains in zip(expected, worth.tolist(), strict=True):
        made = 0
        for place in sorted(range(12), key=lambda i, g=gains: -abs(g[i])):
            up = gains[place] > 0
            allowed = kind in ("both", "insert" if up else "delete")
            count = row[place] + (1 if up else -1)
            if made < 3 and allowed and 0 <= count <= 5:
                row[place] = count
                made += 1
    assert torch.equal(found, expected)
    # A second call goes on from there, and keeps to the budget by what is worth most.
    again = moved(found, x0, worth, (0.0, 5.0), moves=3, budget=4, kind=kind)
    assert int((again - x0).abs().sum(1).max()) <= 4
    assert (((again - x0) * worth).sum(1) >= ((found - x0) * worth).sum(1)).all()


def test_fgsm_is_one_step_along_the_sign_of_the_gradient():
    model, x = modelled(), counts(4)
    target = answers(model, x)
    inner = x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(inner), target, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, inner)
    step = (x + 0.5 * gradient.sign()).clamp(0.0, 5.0)
    found = perturb(model, x, target, FGSM("linf"), budget=0.5)
    # The input itself is kept where the step did not come nearer to a wrong answer.
    moved_there = (found == step).flatten(1).all(1)
    stayed = (found == x).flatten(1).all(1)
    assert (moved_there | stayed).all()
    assert moved_there.any()


def test_a_budget_of_nothing_changes_nothing():
    model, x = modelled(), counts(1, T=1)
    for attack in ATTACKS:
        assert torch.equal(perturb(model, x, answers(model, x), attack, budget=0), x), (
            attack
        )


def test_fractions_of_events_are_refused():
    x = counts(2) / 2
    for attack in ("events", {"name": "random_search", "norm": "events"}):
        with pytest.raises(ValueError, match="Expected event counts, whole numbers"):
            perturb(modelled(), x, torch.zeros(2).long(), attack, budget=3)
    with pytest.raises(ValueError, match=r"whole number, got 1\.5"):
        perturb(modelled(), counts(2), torch.zeros(2).long(), "events", budget=1.5)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_no_attack_takes_inputs_outside_the_bounds(attack):
    x, target = counts(2), torch.zeros(2).long()
    message = r"Expected `x` within `bounds` \[0, 1\], got values from 0 to 5\."
    with pytest.raises(ValueError, match=message):
        perturb(attackable(network()), x, target, attack, budget=1)
    with pytest.raises(ValueError, match="within `bounds`"):
        robust_accuracy(
            attackable(network()), [(x, target)], attack, budgets=[1], probes=[None]
        )
    x[0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="got values from nan to nan"):
        perturb(modelled(), x, target, attack, budget=1)


@pytest.mark.parametrize("attack", ["pgd", "fgsm", "sparse"])
def test_what_rounding_put_outside_the_bounds_is_attacked_from_within(attack):
    model, x = attackable(network(), T=2), images(2)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 1 + 1e-6, -1e-6
    new = perturb(model, x, torch.zeros(2).long(), attack, budget=0)
    assert torch.equal(new, x.clamp(0, 1))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.full((2, 3), 1 / 3), r"Expected `target` of shape \[N=2\]"),
        (torch.zeros(2), "Expected `target` to hold class indices"),
        (
            torch.tensor([0, 3]),
            r"Expected `target` in \[0, 3\), got labels from 0 to 3",
        ),
        (
            torch.tensor([-100, 1]),
            r"Expected `target` in \[0, 3\), got labels from -100",
        ),
    ],
)
def test_targets_that_are_no_class_of_each_sample_are_refused(target, message):
    x = counts(2)
    with pytest.raises(ValueError, match=message):
        perturb(modelled(), x, target, "pgd", budget=1)
    with pytest.raises(ValueError, match=message):
        robust_accuracy(modelled(), [(x, target)], "pgd", budgets=[1])
    with pytest.raises(ValueError, match=message):
        margin(modelled()(x), target)


def test_labels_of_any_integer_type_are_attacked_alike():
    x, target = counts(2), torch.tensor([0, 2])
    for attack in (PGD(steps=2), EventAttack(steps=2)):
        wide, narrow = (
            perturb(modelled(), x, labels, attack, budget=2)
            for labels in (target, target.int())
        )
        assert torch.equal(wide, narrow)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_attack_repeats_where_the_network_itself_draws(attack):
    net = masked_network(p=0.5)
    x, target = counts(3, T=2), torch.zeros(3).long()
    model = attackable(net, bounds=(0.0, 5.0))
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        with model.ready():
            net[2].surrogate_function.mask_active = True
            net[2].surrogate_function.train()
            new = perturb(model, x, target, attack, budget=UP_TO[attack.norm])
        found.append(new)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*found)


def test_what_cannot_be_attacked_is_refused():
    x, target = images(2), torch.zeros(2).long()
    with pytest.raises(ValueError, match="Expected frames"):
        perturb(attackable(network(), T=4), x, target, budget=0.1, time_steps=[0])
    with pytest.raises(ValueError, match=r"numbers from 0 to 3, got \[4\]"):
        perturb(modelled(), counts(2), target, budget=0.1, time_steps=[4])
    with pytest.raises(ValueError, match="Expected `budget` of at least 0"):
        perturb(modelled(), counts(2), target, budget=-1)
    with pytest.raises(TypeError, match="Expected `attack` to be an attack"):
        perturb(modelled(), counts(2), target, 3, budget=1)
    with pytest.raises(ValueError, match="Expected `steps` to be a positive integer"):
        PGD(steps=0)
    with pytest.raises(ValueError, match="Expected `norm` to be one of linf, l2"):
        PGD("l1")


def test_noise_has_its_scale_its_bounds_and_its_steps():
    x = torch.full((4, 3, 2, 20, 20), 2.0)
    noisy = gaussian_noise(x, 0.5, torch.Generator().manual_seed(0), bounds=(0, 9))
    assert (noisy - x).std() == pytest.approx(0.5, rel=0.05)
    clipped = gaussian_noise(x, 0.5, torch.Generator().manual_seed(0), bounds=(0, 2))
    assert clipped.max() == 2
    some = gaussian_noise(
        x, 0.5, torch.Generator().manual_seed(0), bounds=(0, 9), time_steps=[1]
    )
    assert torch.equal(some[:, [0, 2]], x[:, [0, 2]])
    assert torch.equal(some[:, 1], noisy[:, 1])


def test_blur_spreads_each_channel_and_step_by_itself():
    x = torch.zeros(1, 3, 2, 9, 9)
    x[0, 1, 0, 4, 4] = 1
    blurred = gaussian_blur(x, 1.0)
    assert torch.equal(blurred[0, [0, 2]], x[0, [0, 2]])
    assert torch.equal(blurred[0, 1, 1], x[0, 1, 1])
    weight = torch.exp(-0.5 * torch.arange(-3.0, 4.0) ** 2)
    kernel = torch.outer(weight, weight) / weight.sum() ** 2
    torch.testing.assert_close(blurred[0, 1, 0, 1:8, 1:8], kernel)
    assert torch.equal(gaussian_blur(x, 1.0, time_steps=[0]), x)
    assert torch.equal(gaussian_blur(x, 0.0), x)
    with pytest.raises(ValueError, match="Expected `time_steps` of frames"):
        gaussian_blur(x[0], 1.0, time_steps=[0])
