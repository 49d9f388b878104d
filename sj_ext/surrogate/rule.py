"""What every mask rule must answer: by what each surrogate derivative is multiplied."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self, overload

from torch import Tensor


class MaskRule(ABC):
    """Chooses the elements whose surrogate derivative survives, or weighs them.

    A rule holds plain numbers only, never a parameter, a buffer or a mask: masking a
    network adds nothing to its state dict. The numbers may change between training
    steps (`MaskSchedule`), so rules are equal when their arguments are.

    Attributes:
        binary: Whether `multiplier` gives a bool tensor, so that the derivative of
            each element is either zero or `scale` times the base's.
    """

    binary: ClassVar[bool] = True

    @property
    def scale(self) -> float:
        """Factor on every derivative, beside the multiplier."""
        return 1.0

    @property
    def shared_over_time(self) -> bool:
        """Whether the multiplier of one step serves all steps of a sequence."""
        return False

    @abstractmethod
    def multiplier(self, x: Tensor, sequence: bool = False) -> Tensor:
        """Say by what the derivative at each element of `x` is multiplied.

        Args:
            x: Potential minus threshold, h - v_threshold: one step `[N, ...]`, or a
                whole sequence `[T, N, ...]`.
            sequence: Whether `x` is a whole sequence.

        Returns:
            A tensor that broadcasts to the shape of `x`: bool, true where the
            derivative is kept, or non-negative floating-point, without gradient.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Give the JSON form: the registered `name` and the arguments."""

    def __repr__(self) -> str:
        arguments = dict(self.config())
        arguments.pop("name")
        listing = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        return f"{type(self).__name__}({listing})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.config() == self.config()

    def __hash__(self) -> int:
        # Arguments may change while a rule sits in a set, its class does not.
        return hash(type(self))


class Bounded:
    """A number of a rule that stays within its bounds, whoever sets it.

    Args:
        interval: As in a text book: `"[0, 1)"`, `"(0, inf)"`.
    """

    def __init__(self, interval: str) -> None:
        self._interval = interval

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._field = name, f"_{name}"

    @overload
    def __get__(self, rule: None, owner: type) -> Self: ...

    @overload
    def __get__(self, rule: object, owner: type) -> float: ...

    def __get__(self, rule: object | None, owner: type) -> "Self | float":
        return self if rule is None else getattr(rule, self._field)

    def __set__(self, rule: object, value: float) -> None:
        setattr(rule, self._field, bounded(self._name, value, self._interval))


def bounded(name: str, value: object, interval: str) -> float:
    """Check a number.

    Args:
        name: Of the argument, for the message.
        value: What came.
        interval: Its bounds, such as `"[0, 1)"`; infinity is in none.

    Returns:
        The value as a float.

    Raises:
        ValueError: If it is no number within the bounds.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > low or (interval[0] == "[" and value == low))
        and (value < high or (interval[-1] == "]" and value == high))
    ):
        return float(value)
    raise ValueError(f"Expected `{name}` in {interval}, got {value!r}.")
