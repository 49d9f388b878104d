"""Configurations from YAML files and command lines, typed by dataclasses."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

_Config = TypeVar("_Config")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says which key and why."""


def read_as(
    kind: type[_Config], arguments: Sequence[str], prog: str, file: str = "config"
) -> _Config:
    """Read a configuration from a command line.

    Args:
        kind: A dataclass, of values and other dataclasses.
        arguments: `--config FILE.yaml` and overrides such as `--group.key 3`, the
            later ones winning.
        prog: How the usage message calls the command.
        file: In place of `config`, where the dataclass has a key of that name.

    Returns:
        The configuration, as checked by its own `__post_init__`.

    Raises:
        ConfigError: If a file is missing or no YAML mapping, a key is unknown (the
            nearest is named), or a value has the wrong type.
    """
    parser = _parser(kind, prog, file)
    try:
        values = vars(parser.instantiate(parser.parse_args(list(arguments))))
        values.pop(file)
        return kind(**values)
    except ArgumentError as error:
        raise ConfigError(_with_nearest_key(str(error), kind)) from None


@cache
def _parser(kind: type, prog: str, file: str) -> ArgumentParser:
    """Make a parser, once: that takes longer than to parse with it."""
    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.add_argument(f"--{file}", action="config", help="a YAML file with the keys")
    parser.add_class_arguments(kind)
    return parser


def options(settings: Mapping[str, Any]) -> list[str]:
    """Write settings as the command line that sets them.

    Args:
        settings: Values by dotted keys, as JSON can hold them.

    Returns:
        `--key` and value in turn, as `read_as` takes them. Text goes without quotes, as
        where text is wanted they would be part of it.
    """
    words = []
    for key, value in settings.items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return words


# What jsonargparse says of a key in a group that may be null, and of the group.
_INSIDE_OPTIONAL_GROUP = re.compile(
    r'Parser key "(?P<group>[\w.]+)": Does not validate.*'
    r"Problem with given class_path '[\w.]+': (?P<inner>.*)"
    r" - Expected a <class 'NoneType'> Given value type"
)
_NO_GROUP = re.compile(
    r'Parser key "(?P<group>[\w.]+)": Does not validate.*'
    r"- (?:Expected a dot import path|Unexpected import path|Not a valid subclass of)"
    r".* Given value: (?P<value>.*)"
)
_UNKNOWN_KEY = re.compile(
    r"Option '(?P<file>[\w.]+)' is not accepted"
    r"|Group '(?P<group>[\w.]+)' does not accept option '(?P<member>[\w.]+)'"
    r"|unrecognized arguments: --(?P<line>[\w.-]+)"
)


def _with_nearest_key(message: str, kind: type) -> str:
    message = " ".join(message.split())
    inside = _INSIDE_OPTIONAL_GROUP.search(message)
    if inside is not None:
        message = re.sub(
            r"(?<=Parser key \")|(?<=Option ')|(?<=arguments are required: )",
            f"{inside['group']}.",
            inside["inner"],
        )
    elif no_group := _NO_GROUP.search(message):
        group = no_group["group"]
        keys = [k.removeprefix(f"{group}.") for k in _keys(kind) if group + "." in k]
        return (
            f"Expected `{group}` to be a mapping with keys from {', '.join(keys)}, "
            f"got {no_group['value']}."
        )
    found = _UNKNOWN_KEY.search(message)
    if found is None:
        return message
    unknown = found["file"] or found["line"] or f"{found['group']}.{found['member']}"
    known = list(_keys(kind))
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.4)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return f"Unknown key `{unknown}`.{hint} Known keys: {', '.join(known)}."


def _keys(kind: type) -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        groups = [part for part in (hint, *get_args(hint)) if is_dataclass(part)]
        if not groups:
            yield name
        for group in groups:
            yield from (f"{name}.{key}" for key in _keys(group))
