"""One registry of named components, so that a configuration file can name them.

Pure: it knows nothing of torch or the host. A component is anything callable that
builds an object from keyword arguments, usually a class.
"""

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

_Component = TypeVar("_Component", bound=Callable[..., Any])

_components: dict[str, dict[str, Callable[..., Any]]] = {}


def register(kind: str, name: str) -> Callable[[_Component], _Component]:
    """Enter the decorated component under `name` among those of its `kind`.

    Args:
        kind: The family, such as `"mask"`, `"surrogate"` or `"readout"`. A kind that
            does not exist yet is made.
        name: What configurations will call the component.

    Returns:
        A decorator that registers its argument and returns it unchanged.

    Raises:
        TypeError: If `kind` or `name` is no text, or is empty.
    """
    for argument, value in (("kind", kind), ("name", name)):
        if not isinstance(value, str) or not value:
            raise TypeError(f"Expected `{argument}` to be a text, got {value!r}.")

    def enter(component: _Component) -> _Component:
        family = _components.setdefault(kind, {})
        present = family.get(name)
        if present is not None and present is not component:
            raise ValueError(
                f"Expected `name` to be new among the components of kind {kind!r}, "
                f"got {name!r}, which is {_describe(present)} already."
            )
        family[name] = component
        return component

    return enter


def available(kind: str | None = None) -> list[str]:
    """List what can be created, in alphabetical order.

    Args:
        kind: A family of components; without it the families themselves are listed.

    Returns:
        The names of the components of `kind`, or the kinds.
    """
    return sorted(_components) if kind is None else sorted(_family(kind))


def create(kind: str, name: str, /, **kwargs: Any) -> Any:
    """Build the component `name` of `kind` with `kwargs`.

    Args:
        kind: A family of components, see `available()`.
        name: A component of it, see `available(kind)`.
        **kwargs: Handed to the component.

    Returns:
        What the component returns: for a class, an instance.
    """
    return lookup(kind, name)(**kwargs)


def lookup(kind: str, name: str) -> Callable[..., Any]:
    """Find a component without building it.

    Args:
        kind: A family of components, see `available()`.
        name: A component of it, see `available(kind)`.

    Returns:
        The component itself.

    Raises:
        UnknownNameError: If there is no such kind or component; the message lists
            what exists and names the nearest.
    """
    family = _family(kind)
    if name not in family:
        raise UnknownNameError(f"a {kind}", name, sorted(family))
    return family[name]


def name_of(kind: str, component: Callable[..., Any]) -> str | None:
    """Find the name under which `component` is registered, None where it is not."""
    for name, entry in _components.get(kind, {}).items():
        if entry is component:
            return name
    return None


class UnknownNameError(KeyError):
    """A name that nothing was registered under.

    Args:
        what: What was looked for, with its article ("a mask").
        name: The name that was not found.
        existing: The names that would have been.
    """

    def __init__(self, what: str, name: object, existing: list[str]) -> None:
        super().__init__(what, name, existing)
        near = difflib.get_close_matches(str(name), existing, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listing = ", ".join(existing) or "none yet"
        self._message = (
            f"Expected the name of {what}, got {name!r}.{hint} Available: {listing}."
        )

    def __str__(self) -> str:
        """Say what was expected, what came and what exists."""
        return self._message


def _family(kind: str) -> dict[str, Callable[..., Any]]:
    if kind not in _components:
        raise UnknownNameError("a kind of component", kind, sorted(_components))
    return _components[kind]


def _describe(component: Callable[..., Any]) -> str:
    module = getattr(component, "__module__", "?")
    return f"{module}.{getattr(component, '__qualname__', repr(component))}"
