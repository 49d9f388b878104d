"""What every attack is, and the view of a network that it gets."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sj_ext.attack.adapter import Attackable
from sj_ext.attack.functional import margin
from sj_ext.readout.functional import check_indices, check_target

# Of the largest bound: resizing and normalising there and back round so much.
_ROUNDING = 1e-5


class Watched(nn.Module):
    """A network under attack: remembers the strongest of the inputs that it is shown.

    An attack from any library shows it one iterate after another, all within the
    budget, so none of them is lost, and how accuracy falls with the number of calls is
    known for each sample.

    Args:
        model: The network.
        x0: Unperturbed inputs, as `model` takes them, within its bounds; what rounding
            put outside is set to the nearer of them.
        target: `[N]`, class indices of any integer type.
        time_steps: The steps of frames that may be perturbed; the watched network takes
            these alone. None means all.

    Attributes:
        bounds: Smallest and largest value of an input.
        clean: The unperturbed values that may be perturbed.
        correct: For each call, whether samples were right, `[N]`.
        vanished: For each gradient, whether it was zero everywhere, `[N]`: there an
            attack sees nothing.
        score: Margin of the strongest input so far, `[N]`.

    Raises:
        ValueError: If inputs are outside the bounds, targets are no class indices, or
            `time_steps` do not fit.
        FloatingPointError: In a call or its gradient, if they are not finite: an attack
            would go nowhere, and the network look robust.
    """

    def __init__(
        self,
        model: Attackable,
        x0: Tensor,
        target: Tensor,
        time_steps: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.training = False
        self.bounds = model.bounds
        check_indices(target, len(x0))
        self.target = target.long()
        self.correct: list[Tensor] = []
        self.vanished: list[Tensor] = []
        self._model = [model]  # hidden from `modules()`: libraries change modes
        x0 = _within(x0, model.bounds)
        self._x0 = x0
        self._steps = _checked_steps(model, x0, time_steps)
        self.clean = x0 if self._steps is None else x0.index_select(1, self._steps)
        self.score = torch.full((len(x0),), torch.inf, device=x0.device)
        self._right = torch.ones(len(x0), dtype=torch.bool, device=x0.device)
        self._strongest = self.clean.clone()

    @property
    def strongest(self) -> Tensor:
        """The strongest inputs so far, whole."""
        return self._whole(self._strongest)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits, and keep what is stronger than before.

        Args:
            x: As `clean`.

        Returns:
            `[N, K]`.
        """
        if x.requires_grad:
            x.register_hook(self._look_at_gradient)
        logits: Tensor = self._model[0](self._whole(x))
        self._check_finite("logits", logits)
        if not self.correct:
            # Once, wherever it is: on a GPU a label that is none stops the process.
            check_target(self.target.cpu(), logits.unsqueeze(0))
        with torch.no_grad():
            right = logits.argmax(1) == self.target
            score = margin(logits.detach(), self.target).to(self.score)
            better = (~right & self._right) | (
                (right == self._right) & (score < self.score)
            )
            self._right &= right | ~better
            self.score = torch.where(better, score, self.score)
            self._strongest[better] = x.detach()[better]
            self.correct.append(right)
        return logits

    def margin_gradient(self, x: Tensor) -> Tensor:
        """Differentiate the sum of minus the margins: upwards makes answers wrong.

        Args:
            x: As `clean`.

        Returns:
            As `x`.
        """
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            loss = -margin(self(x), self.target).sum()
        return torch.autograd.grad(loss, x)[0]

    def _look_at_gradient(self, gradient: Tensor) -> None:
        self._check_finite("gradients of the inputs", gradient)
        self.vanished.append((gradient == 0).flatten(1).all(1))

    def _check_finite(self, what: str, values: Tensor) -> None:
        if not bool(values.isfinite().all()):
            raise FloatingPointError(
                f"Expected finite {what} under attack, got NaN or infinity through the "
                f"surrogate {self._model[0].probe_name!r}."
            )

    def _whole(self, part: Tensor) -> Tensor:
        if self._steps is None:
            return part
        return self._x0.index_copy(1, self._steps, part)


class Attack(ABC):
    """Searches near each input for one that is answered wrongly.

    Attributes:
        norm: What its budget limits, see `sj_ext.attack.functional.distance`.
        uses_gradients: Whether it depends on the surrogate.
    """

    norm: str
    uses_gradients: ClassVar[bool] = True

    @property
    def draws(self) -> bool:
        """Whether another run may find something else: it starts at random."""
        return bool(getattr(self, "random_start", True))

    @abstractmethod
    def run(self, model: Watched, budget: float, generator: torch.Generator) -> None:
        """Show `model` inputs near `model.clean`, each within budget and bounds.

        Args:
            model: Takes inputs like `model.clean`.
            budget: How far they may be changed.
            generator: On the CPU; all that is drawn is drawn from it.
        """
        raise NotImplementedError

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Give name and arguments as JSON has them."""
        raise NotImplementedError

    def __repr__(self) -> str:
        given = [f"{k}={v!r}" for k, v in self.config().items() if k != "name"]
        return f"{type(self).__name__}({', '.join(given)})"


def check_norm(norm: str, known: Sequence[str]) -> None:
    """Refuse a norm that an attack does not know."""
    if norm not in known:
        raise ValueError(
            f"Expected `norm` to be one of {', '.join(known)}, got {norm!r}."
        )


def check_count(argument: str, value: int) -> None:
    """Refuse what is no positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"Expected `{argument}` to be a positive integer, got {value!r}."
        )


def whole_budget(budget: float) -> int:
    """Refuse a number of values or events that is none."""
    if not math.isfinite(budget) or budget != int(budget) or budget < 0:
        raise ValueError(f"Expected `budget` to be a whole number, got {budget}.")
    return int(budget)


def _within(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Refuse inputs outside the bounds: attacks would change them beyond budgets."""
    if not x.numel():
        return x
    low, high = bounds
    least, most = float(x.min()), float(x.max())
    sizes = [abs(bound) for bound in bounds if math.isfinite(bound)]
    slack = _ROUNDING * max(sizes, default=0.0)
    # Not the other way round: comparisons with NaN are False.
    if not (low - slack <= least and most <= high + slack):
        raise ValueError(
            f"Expected `x` within `bounds` [{low:g}, {high:g}], got values from "
            f"{least:g} to {most:g}."
        )
    return x if low <= least and most <= high else x.clamp(low, high)


def _checked_steps(
    model: Attackable, x0: Tensor, time_steps: Sequence[int] | None
) -> Tensor | None:
    if time_steps is None:
        return None
    if not model.takes_frames:
        raise ValueError(
            "Expected frames [N, T, ...] where `time_steps` are given, got a network "
            "of images: every step shows the same image."
        )
    T = x0.shape[1]
    steps = list(time_steps)
    if not steps or len(set(steps)) < len(steps) or not all(0 <= s < T for s in steps):
        raise ValueError(
            f"Expected `time_steps` to be different numbers from 0 to {T - 1}, got "
            f"{steps}."
        )
    return torch.tensor(steps, device=x0.device)
