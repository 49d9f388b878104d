"""FGSM and PGD, as foolbox runs them."""

from typing import Any, Literal

import torch
from torch import Tensor

from sj_ext.attack.base import Attack, Watched, check_count, check_norm
from sj_ext.attack.functional import margin
from sj_ext.registry import register

_NORMS = ("linf", "l2")


@register("attack", "pgd")
class PGD(Attack):
    """Projected gradient descent (Madry et al., arXiv 1706.06083), by foolbox.

    Args:
        norm: `"linf"` or `"l2"`.
        steps: How many. Many small ones find more than a few large ones.
        step_size: Length of a step as a share of the budget; None is 2.5 / steps.
        random_start: Whether it starts from a random point of the ball: with several
            restarts it must.
        loss: What rises: `"cross_entropy"`, or minus the `"margin"` between right and
            best wrong class, whose gradient does not vanish where a network is sure.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(
        self,
        norm: Literal["linf", "l2"] = "linf",
        steps: int = 40,
        step_size: float | None = None,
        random_start: bool = True,
        loss: Literal["cross_entropy", "margin"] = "cross_entropy",
    ) -> None:
        check_norm(norm, _NORMS)
        check_count("steps", steps)
        if step_size is not None and not step_size > 0:
            raise ValueError(f"Expected `step_size` to be positive, got {step_size}.")
        if loss not in ("cross_entropy", "margin"):
            raise ValueError(
                f"Expected `loss` to be one of cross_entropy, margin, got {loss!r}."
            )
        self.norm = norm
        self.steps = steps
        self.step_size = step_size
        self.random_start = random_start
        self.loss = loss

    def run(self, model: Watched, budget: float, generator: torch.Generator) -> None:
        """Descend from one start; all iterates are shown to `model`.

        Args:
            model: Watched network.
            budget: Radius of the ball.
            generator: Gives the seed of the start.
        """
        foolbox = import_foolbox()
        kinds = {
            "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
            "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
        }
        share = 2.5 / self.steps if self.step_size is None else self.step_size
        attack = kinds[self.norm](
            rel_stepsize=share, steps=self.steps, random_start=self.random_start
        )
        if self.loss == "margin":
            attack.get_loss_fn = _margin_loss
        run_foolbox(attack, model, budget, generator)

    def config(self) -> dict[str, Any]:
        """Give name and arguments."""
        return {"name": "pgd", **vars(self)}


@register("attack", "fgsm")
class FGSM(Attack):
    """One step along the gradient (Goodfellow et al., arXiv 1412.6572), by foolbox.

    Args:
        norm: `"linf"`, where the step is the gradient's sign, or `"l2"`.

    Raises:
        ValueError: If `norm` is another.
    """

    def __init__(self, norm: Literal["linf", "l2"] = "linf") -> None:
        check_norm(norm, _NORMS)
        self.norm = norm

    @property
    def draws(self) -> bool:
        """It takes one step from the input itself."""
        return False

    def run(self, model: Watched, budget: float, generator: torch.Generator) -> None:
        """Take the step.

        Args:
            model: Watched network.
            budget: Length of the step.
            generator: Not used up by this attack.
        """
        foolbox = import_foolbox()
        kinds = {
            "linf": foolbox.attacks.LinfFastGradientAttack,
            "l2": foolbox.attacks.L2FastGradientAttack,
        }
        run_foolbox(kinds[self.norm](), model, budget, generator)

    def config(self) -> dict[str, Any]:
        """Give name and arguments."""
        return {"name": "fgsm", "norm": self.norm}


def import_foolbox() -> Any:
    """Import foolbox where it is needed.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: If it is not installed; the message says how.
    """
    try:
        import foolbox
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "FGSM and PGD need foolbox: pip install 'sj_ext[attack]'.", name=error.name
        ) from error
    return foolbox


def run_foolbox(
    attack: Any, model: Watched, budget: float, generator: torch.Generator
) -> None:
    """Run an attack of foolbox with a fixed budget against a watched network.

    foolbox draws from torch's global generator: it is seeded from `generator` for the
    run, and put back.

    Args:
        attack: A `FixedEpsilonAttack`.
        model: Watched network.
        budget: Its epsilon.
        generator: Gives the seed.
    """
    foolbox = import_foolbox()
    seed = int(torch.randint(2**62, (), generator=generator))
    device = model.clean.device
    devices = [device] if device.type == "cuda" else []
    seen_by_foolbox = foolbox.PyTorchModel(model, bounds=model.bounds, device=device)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        found = attack.run(seen_by_foolbox, model.clean, model.target, epsilon=budget)
    # The iterate after the last step has not been looked at yet.
    with torch.no_grad():
        model(found)


def _margin_loss(model: Any, labels: Any) -> Any:
    def loss(inputs: Any) -> Any:
        logits: Tensor = model(inputs).raw
        return type(labels)(-margin(logits, labels.raw).sum())

    return loss
