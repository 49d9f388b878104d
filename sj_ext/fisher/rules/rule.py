"""What a rule is, and which one a module has."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, TypeVar

from torch import Tensor, nn


class Item(NamedTuple):
    """One evaluation of a layer: at one time step, or of a call without steps.

    Attributes:
        input: `[N, ...]`, what went in.
        gradient: `[N, ...]`, that of what came out; row i belongs to the loss of
            sample i alone.
    """

    input: Tensor
    gradient: Tensor


class Rule(ABC):
    """The per-sample gradients of one module's own parameters.

    A gradient is a sum over the items: those of all steps and of all calls.

    Args:
        module: Of a class that the rule was registered for.

    Attributes:
        parameters: Names of the parameters that it covers.
        stateful: Whether an item goes on from the state that the one before it left.
    """

    parameters: ClassVar[tuple[str, ...]]
    stateful: ClassVar[bool] = False

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @abstractmethod
    def gradient(self, name: str, items: Sequence[Item]) -> Tensor:
        """Give the gradient of one parameter for each sample.

        Args:
            name: One of `parameters`.
            items: At least one, all of the same N.

        Returns:
            `[N, *shape of the parameter]`.
        """

    def numel_per_sample(self, name: str, items: Sequence[Item]) -> int:
        """Estimate how many numbers `gradient` takes up for each sample."""
        return sum(item.input[0].numel() for item in items)

    def squared_norm(self, name: str, items: Sequence[Item]) -> Tensor | None:
        """Give ||gradient||^2 of each sample where that is cheaper than `gradient`.

        Args:
            name: One of `parameters`.
            items: As for `gradient`.

        Returns:
            `[N]`, float64; None where `gradient` is the cheaper way.
        """
        return None


_Class = TypeVar("_Class", bound=type[Rule])
_rules: dict[type[nn.Module], type[Rule] | None] = {}


def covers(*modules: type[nn.Module]) -> Callable[[_Class], _Class]:
    """Register a rule for classes of modules and for those derived from them.

    Args:
        *modules: The classes; a rule that one of them has already is replaced.

    Returns:
        A decorator that registers a class and returns it unchanged.
    """

    def enter(found: _Class) -> _Class:
        _rules.update(dict.fromkeys(modules, found))
        return found

    return enter


def not_covered(*modules: type[nn.Module]) -> None:
    """Take classes out: their parameters act otherwise than those of their bases."""
    _rules.update(dict.fromkeys(modules))


def rule_for(module: nn.Module) -> Rule | None:
    """Make the rule of a module, by the nearest class that it derives from.

    Args:
        module: Any.

    Returns:
        The rule, or None where there is none.
    """
    for base in type(module).__mro__:
        if base in _rules:
            found = _rules[base]
            return None if found is None else found(module)
    return None
