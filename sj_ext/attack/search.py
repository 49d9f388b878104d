"""One attack on one batch, and robust accuracy: the worst of many, sample by sample."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sj_ext.attack.adapter import Attackable, Probe
from sj_ext.attack.base import Attack, Watched
from sj_ext.attack.result import RobustnessResult
from sj_ext.readout.functional import check_indices, check_target
from sj_ext.registry import create

PROBES: tuple[Probe, ...] = (
    None,
    {"name": "ATan", "alpha": 2.0},
    {"name": "Sigmoid", "alpha": 4.0},
    {"name": "PiecewiseQuadratic", "alpha": 1.0},
    {"name": "PiecewiseQuadratic", "alpha": 0.4},
    {"name": "Erf", "alpha": 1.0},
)
"""Surrogates to attack through by default: the network's own, dense; and other shapes
and widths, since none is the best for all networks."""


def build_attack(attack: Attack | str | Mapping[str, Any]) -> Attack:
    """Make an attack from its name.

    Args:
        attack: One, the name of a registered one, or its JSON form
            `{"name": "pgd", "steps": 20}`.

    Returns:
        The attack.

    Raises:
        TypeError: If it is something else.
    """
    if isinstance(attack, str):
        attack = create("attack", attack)
    elif isinstance(attack, Mapping):
        arguments = {key: value for key, value in attack.items() if key != "name"}
        attack = create("attack", attack["name"], **arguments)
    if not isinstance(attack, Attack):
        raise TypeError(
            "Expected `attack` to be an attack, its name or its JSON form, got "
            f"{attack!r}."
        )
    return attack


def perturb(
    model: Attackable,
    x: Tensor,
    target: Tensor,
    attack: Attack | str | Mapping[str, Any] = "pgd",
    *,
    budget: float,
    time_steps: Sequence[int] | None = None,
    seed: int = 0,
) -> Tensor:
    """Attack a batch once, through the surrogate that `model` has.

    Args:
        model: The network under attack.
        x: `[N, ...]`, as `model` takes it, within its bounds.
        target: `[N]`, class indices.
        attack: As in `build_attack`.
        budget: How far inputs may be changed, in the attack's norm.
        time_steps: Which steps of frames may be changed; None is all.
        seed: Of all that the attack draws, and of what the network does.

    Returns:
        `[N, ...]`: of all that the attack tried on a sample, what came nearest to a
        wrong answer or went farthest beyond it.

    Raises:
        ValueError: If an argument is outside its range, or inputs outside the bounds.
    """
    generator = torch.Generator().manual_seed(seed)
    watched = Watched(model, x, target, time_steps)
    with model.ready(), _drawing(seed, x.device):
        build_attack(attack).run(watched, _checked(budget), generator)
    return watched.strongest


def robust_accuracy(
    model: Attackable,
    batches: Iterable[tuple[Tensor, Tensor]],
    attack: Attack | str | Mapping[str, Any] = "pgd",
    *,
    budgets: Sequence[float],
    probes: Sequence[Probe] = PROBES,
    restarts: int = 2,
    time_steps: Sequence[int] | None = None,
    seed: int = 0,
    keep_inputs: bool = False,
) -> RobustnessResult:
    """Measure the accuracy that is left at each budget, sample by sample the worst.

    A sample counts as robust at a budget if it is right unperturbed, and after every
    step of every restart through every surrogate, at this budget and at all smaller
    ones. One surrogate alone can overrate a spiking network: its gradients vanish
    where another's do not.

    Args:
        model: The network under attack; its own probe gives way to `probes`.
        batches: `(x, target)`: `[N, ...]` as `model` takes it, within its bounds, and
            `[N]`, class indices.
        attack: As in `build_attack`.
        budgets: Increasing, in the attack's norm.
        probes: Surrogates to attack through, each as in `attackable`: at least four
            shapes and widths for a figure that is to be published. An attack without
            gradients does not use them.
        restarts: How often each attack runs on each sample; once, if it draws nothing.
        time_steps: Which steps of frames may be changed; None is all.
        seed: Of all that the attacks draw, and of what the network does.
        keep_inputs: Whether the result holds the strongest inputs.

    Returns:
        What each run achieved, and the worst case.

    Raises:
        ValueError: If an argument is outside its range, inputs are outside the bounds,
            or there is no batch.
    """
    attack = build_attack(attack)
    if restarts > 1 and not attack.draws:
        restarts = 1
    if restarts < 1 or not probes:
        raise ValueError(
            "Expected at least one restart and one surrogate in `probes`, got "
            f"{restarts} and {len(probes)}."
        )
    budgets = [_checked(budget) for budget in budgets]
    if not budgets or sorted(set(budgets)) != budgets:
        raise ValueError(f"Expected `budgets` to increase, got {budgets}.")
    models = (
        [model.with_probe(probe) for probe in probes]
        if attack.uses_gradients
        else [model]
    )
    generator = torch.Generator().manual_seed(seed)
    found: RobustnessResult | None = None
    for number, (x, target) in enumerate(batches):
        with _drawing(seed + number, x.device):
            one = _attacked(
                models, x, target, attack, budgets, restarts, time_steps, generator
            )
        if not keep_inputs:
            one.inputs = None
        found = one if found is None else found.merged(one)
    if found is None:
        raise ValueError("Expected at least one batch, got none.")
    return found


def _attacked(
    models: Sequence[Attackable],
    x: Tensor,
    target: Tensor,
    attack: Attack,
    budgets: Sequence[float],
    restarts: int,
    time_steps: Sequence[int] | None,
    generator: torch.Generator,
) -> RobustnessResult:
    check_indices(target, len(x))
    with torch.no_grad():
        logits = models[0](x)
        check_target(target.cpu(), logits.unsqueeze(0))
        clean = logits.argmax(1) == target
    correct: list[list[list[Tensor]]] = [[] for _ in budgets]
    vanished: list[list[Tensor]] = [[] for _ in budgets]
    strongest = [x.clone() for _ in budgets]
    score = [torch.full((len(x),), torch.inf, device=x.device) for _ in budgets]
    for model in models:
        with model.ready():
            for number, budget in enumerate(budgets):
                runs: list[Tensor] = []
                zeros: list[Tensor] = []
                for _ in range(restarts):
                    watched = Watched(model, x, target, time_steps)
                    attack.run(watched, budget, generator)
                    runs.append(torch.stack(watched.correct))
                    zeros += watched.vanished
                    better = watched.score < score[number]
                    score[number] = torch.where(better, watched.score, score[number])
                    strongest[number][better] = watched.strongest[better]
                correct[number].append(runs)
                vanished[number].append(_share(zeros, clean))
    for number in range(1, len(budgets)):
        # What a smaller budget allows, a larger one does.
        better = score[number - 1] < score[number]
        score[number] = torch.where(better, score[number - 1], score[number])
        strongest[number][better] = strongest[number - 1][better]
    runs_of_all = torch.stack(
        [
            torch.stack([torch.stack(restarted) for restarted in probed])
            for probed in correct
        ]
    )
    return RobustnessResult(
        attack=attack.config(),
        norm=attack.norm,
        budgets=tuple(budgets),
        probes=tuple(model.probe_name for model in models)
        if attack.uses_gradients
        else ("none",),
        clean=clean.cpu(),
        runs=runs_of_all.cpu(),
        vanished=torch.stack([torch.stack(of_probes) for of_probes in vanished]).cpu(),
        inputs=torch.stack(strongest).cpu(),
    )


def _share(zeros: Sequence[Tensor], like: Tensor) -> Tensor:
    """Give the share of gradients that vanished, `[N]`; of none it is NaN."""
    if not zeros:
        return torch.full(like.shape, torch.nan, dtype=torch.float64)
    return torch.stack(list(zeros)).double().mean(0).cpu()


@contextmanager
def _drawing(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators, which a network may draw from; put them back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _checked(budget: float) -> float:
    if not 0 <= budget < float("inf"):
        raise ValueError(f"Expected `budget` of at least 0, got {budget}.")
    return budget
