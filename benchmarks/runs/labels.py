"""Settings of a configuration as tables and figures say them."""

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "data.time_steps": "T = {}",
    "neuron.kwargs.tau": "tau = {}",
    "optimization.optimizer": "{}",
    "optimization.weight_decay": "weight decay {}",
    "data.label_noise": "label noise {}",
}


def said(key: str, value: Any) -> str:
    """Write a setting as people say it.

    Args:
        key: Of the configuration, dotted.
        value: Its value; a mapping is called by its `name` and `kwargs`, if it has one.

    Returns:
        Such as `"T = 4"`, `"temporal_concentration strength 1.0"` or `"depth 20"`;
        `"no mask"` of None.
    """
    if isinstance(value, Mapping):
        if "name" not in value:
            words = (said(f"{key}.{part}", one) for part, one in value.items())
            return ", ".join(words)
        kwargs = value.get("kwargs", {}).items()
        return " ".join([value["name"], *(f"{k} {v}" for k, v in kwargs)])
    if value is None:
        return f"no {key.rpartition('.')[2]}"
    return _WORDS.get(key, key.rpartition(".")[2] + " {}").format(value)
