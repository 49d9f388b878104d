"""Arguments of mask rules that change with the training steps."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from sj_ext.registry import UnknownNameError
from sj_ext.surrogate.masked import MaskedSurrogate
from sj_ext.surrogate.rule import MaskRule

_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 0.0,
    "linear": lambda share: share,
    "cosine": lambda share: 0.5 - 0.5 * math.cos(math.pi * share),
}


class MaskSchedule:
    """Moves an argument of mask rules from `start` to `end` over training steps.

    The value is `start` up to step `begin`, then goes to `end` within `steps`, and
    stays there. As with a learning rate scheduler, making one sets `start`, and
    `step()` follows each optimizer step. The paper's annealing of p from 0.5 towards
    1 after epoch 5 is `MaskSchedule(net, "p", "linear", start=0.5, end=0.99,
    begin=5 * n, steps=(epochs - 5) * n)` with n steps an epoch: p = 1 itself would
    leave no gradient, so `BernoulliMask` does not take it.

    Args:
        target: A network, of which all rules with that argument follow, also those
            that its surrogates are given later; or a rule, or several.
        attribute: `"p"`, `"density"`, `"half_width"` or another number that the
            rules' `config()` shows.
        shape: `"constant"`, `"linear"` or `"cosine"` (half a wave).
        start: Value before step `begin`.
        end: Value from step `begin + steps` on; None with a constant.
        steps: How many steps the way takes; 0 jumps at `begin`.
        begin: Steps before it starts.

    Raises:
        UnknownNameError: If there is no such shape.
        TypeError: If `target` is none of these.
        ValueError: If no rule has the attribute, `end` is missing or not wanted, a
            number of steps is no whole number or negative, or a rule does not take
            `start` or `end`.
    """

    def __init__(
        self,
        target: nn.Module | MaskRule | Iterable[MaskRule],
        attribute: str,
        shape: str = "linear",
        *,
        start: float,
        end: float | None = None,
        steps: int = 0,
        begin: int = 0,
    ) -> None:
        if shape not in _SHAPES:
            raise UnknownNameError("a shape of schedule", shape, sorted(_SHAPES))
        if (end is None) != (shape == "constant"):
            raise ValueError(
                f"Expected `end` with every shape but 'constant', got end={end!r} "
                f"with {shape!r}."
            )
        for name, number in (("steps", steps), ("begin", begin)):
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                raise ValueError(
                    f"Expected `{name}` to be a whole number from 0 on, got {number!r}."
                )
        self.attribute = attribute
        self.shape = shape
        self.start = start
        self.end = start if end is None else end
        self.steps = steps
        self.begin = begin
        self.steps_taken = 0
        self._target = _surrogates_or_rules(target)
        if not self._rules():
            listing = ", ".join(map(repr, _unique_rules(self._target))) or "no rule"
            raise ValueError(
                f"Expected `target` to have rules with the number {attribute!r}, got "
                f"{listing}."
            )
        self._check_ends()
        self._apply()

    @property
    def value(self) -> float:
        """What the rules have now."""
        return self.value_at(self.steps_taken)

    def value_at(self, step: int) -> float:
        """Compute the value after a number of steps.

        Args:
            step: How many training steps have been taken.

        Returns:
            The value; exactly `start` and `end` at the ends.
        """
        gone = step - self.begin
        if self.shape == "constant" or gone < 0 or (gone == 0 and self.steps > 0):
            return self.start
        if gone >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * _SHAPES[self.shape](
            gone / self.steps
        )

    def step(self) -> float:
        """Count one training step.

        Returns:
            The value for the next.
        """
        self.steps_taken += 1
        self._apply()
        return self.value

    def state_dict(self) -> dict[str, int]:
        """Collect what resuming needs.

        Returns:
            The number of steps taken; all else comes from the configuration.
        """
        return {"steps_taken": self.steps_taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state` was collected; the rules get their value at once.

        Args:
            state: What `state_dict()` returned.
        """
        self.steps_taken = int(state["steps_taken"])
        self._apply()

    def config(self) -> dict[str, Any]:
        """Give the JSON form: `MaskSchedule(target, **config)` is the same again.

        Returns:
            Keyword arguments, all but the target.
        """
        return {
            "attribute": self.attribute,
            "shape": self.shape,
            "start": self.start,
            "end": None if self.shape == "constant" else self.end,
            "steps": self.steps,
            "begin": self.begin,
        }

    def _rules(self) -> list[MaskRule]:
        return [
            rule
            for rule in _unique_rules(self._target)
            if _is_number(rule.config().get(self.attribute))
        ]

    def _apply(self) -> None:
        for rule in self._rules():
            setattr(rule, self.attribute, self.value)

    def _check_ends(self) -> None:
        for rule in self._rules():
            found = getattr(rule, self.attribute)
            try:
                # The bounds are convex: what both ends satisfy, all values do.
                setattr(rule, self.attribute, self.start)
                setattr(rule, self.attribute, self.end)
            finally:
                setattr(rule, self.attribute, found)


def _surrogates_or_rules(
    target: nn.Module | MaskRule | Iterable[MaskRule],
) -> list[MaskedSurrogate | MaskRule]:
    if isinstance(target, nn.Module):
        return [m for m in target.modules() if isinstance(m, MaskedSurrogate)]
    rules = [target] if isinstance(target, MaskRule) else list(target)
    for rule in rules:
        if not isinstance(rule, MaskRule):
            raise TypeError(
                f"Expected `target` to be a network or mask rules, got {rule!r}."
            )
    return list(rules)


def _unique_rules(target: Iterable[MaskedSurrogate | MaskRule]) -> list[MaskRule]:
    # A surrogate's rule can be exchanged: it is asked for each time.
    rules = [one.mask if isinstance(one, MaskedSurrogate) else one for one in target]
    return list({id(rule): rule for rule in rules}.values())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
