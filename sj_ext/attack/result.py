"""What attacks achieved, by sample, budget, surrogate, restart and step."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class RobustnessResult:
    """Which samples were right under which attack, and what follows from that.

    Attributes:
        attack: Name and arguments.
        norm: What budgets limit.
        budgets: Increasing.
        probes: The surrogates that were attacked through, P of them.
        clean: `[N]`, whether samples are right unperturbed.
        runs: `[B, P, R, S, N]`, bool: whether sample n was right at call s of the
            network in restart r of the attack with budget b through surrogate p. For
            PGD call s is after s steps, call 0 the start.
        vanished: `[B, P, N]`, float64: the share of the gradients of a sample that were
            zero everywhere, where an attack cannot see. NaN without gradients.
        inputs: `[B, N, ...]`, the strongest found for each budget, or None.
    """

    attack: dict[str, Any]
    norm: str
    budgets: tuple[float, ...]
    probes: tuple[str, ...]
    clean: Tensor
    runs: Tensor
    vanished: Tensor
    inputs: Tensor | None = None

    @property
    def correct(self) -> Tensor:
        """Samples that no attack up to a budget made wrong, `[B, N]`, bool."""
        return self._after_steps()[:, -1]

    @property
    def accuracy(self) -> Tensor:
        """Robust accuracy: worst case of all runs for each sample, `[B]`, float64."""
        return self.correct.double().mean(1)

    @property
    def clean_accuracy(self) -> float:
        """Accuracy on unperturbed inputs."""
        return float(self.clean.double().mean())

    @property
    def curve(self) -> Tensor:
        """Accuracy after each step, worst case of all runs so far, `[B, S]`.

        It cannot rise: compare `raw_curve`, which shows what each step alone does.
        """
        return self._after_steps().double().mean(2)

    @property
    def raw_curve(self) -> Tensor:
        """Accuracy of the iterate of each step alone, `[B, P, R, S]`, float64."""
        return self.runs.double().mean(4)

    @property
    def by_probe(self) -> Tensor:
        """Accuracy left by each surrogate alone, `[B, P]`, float64.

        Over its steps, its restarts and all budgets up to each, as `accuracy` is.
        """
        worst = self.runs.all(3).all(2) & self.clean
        return _no_larger_budget_does_less(worst).double().mean(2)

    def merged(self, other: "RobustnessResult") -> "RobustnessResult":
        """Put the samples of the same attack on other samples behind these.

        Args:
            other: Is not changed.

        Returns:
            The result of all samples.

        Raises:
            ValueError: If it is another attack.
        """
        mine, others = (
            (r.attack, r.budgets, r.probes, r.runs.shape[:4]) for r in (self, other)
        )
        if mine != others:
            raise ValueError(f"Expected a result of {mine}, got {others}.")
        both = self.inputs is not None and other.inputs is not None
        return replace(
            self,
            clean=torch.cat([self.clean, other.clean]),
            runs=torch.cat([self.runs, other.runs], dim=4),
            vanished=torch.cat([self.vanished, other.vanished], dim=2),
            inputs=torch.cat([self.inputs, other.inputs], 1) if both else None,  # type: ignore[list-item]
        )

    def summary(self) -> dict[str, Any]:
        """Say in JSON-native numbers what was found.

        Returns:
            Attack, budgets, surrogates, accuracies, shares of vanished gradients (None
            without gradients), and
            `"correct"`, `[B][N]`, 1 where no attack made a sample wrong. `"raw_curve"`,
            `[B][P][S]`, is the mean over restarts; `"last_above_best"` how far the last
            step of a single run was above its best, at most.
        """
        return {
            "attack": self.attack,
            "norm": self.norm,
            "samples": len(self.clean),
            "budgets": list(self.budgets),
            "probes": list(self.probes),
            "clean_accuracy": self.clean_accuracy,
            "accuracy": self.accuracy.tolist(),
            "by_probe": self.by_probe.tolist(),
            "curve": self.curve.tolist(),
            "raw_curve": self.raw_curve.mean(2).tolist(),
            "last_above_best": float(
                (self.raw_curve[..., -1] - self.raw_curve.amin(-1)).max()
            ),
            "correct": self.correct.int().tolist(),
            "vanished": None
            if self.vanished.isnan().any()
            else self.vanished.mean(2).tolist(),
        }

    def _after_steps(self) -> Tensor:
        """Samples right at every step up to s in all runs, `[B, S, N]`, bool."""
        right = self.runs.all(2).all(1)
        so_far = right.to(torch.uint8).cummin(1).values.bool() & self.clean
        return _no_larger_budget_does_less(so_far)


def _no_larger_budget_does_less(right: Tensor) -> Tensor:
    """Count a sample right where it is at all budgets so far, `[B, ...]`."""
    return right.to(torch.uint8).cummin(0).values.bool()
