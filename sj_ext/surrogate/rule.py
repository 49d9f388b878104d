"""What every mask rule must answer: which surrogate derivatives are kept."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class MaskRule(ABC):
    """Chooses the elements whose surrogate derivative survives.

    A rule holds plain numbers only, never a parameter or buffer: masking a network
    adds nothing to its state dict.
    """

    @property
    def scale(self) -> float:
        """Factor on the derivatives that are kept."""
        return 1.0

    @abstractmethod
    def keep(self, x: Tensor) -> Tensor:
        """Choose among the elements of `x`.

        Args:
            x: Potential minus threshold, h - v_threshold, of any shape.

        Returns:
            A bool tensor of the shape of `x`, true where the derivative is kept.
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
        return hash((type(self), tuple(sorted(self.config().items()))))
