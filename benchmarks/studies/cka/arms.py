"""The networks of a comparison: an arm for each combination of swept values."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.runs.config import NeuronConfig, SurrogateConfig, TrainConfig
from benchmarks.studies.cka.config import CkaConfig

_WORDS = {
    "depth": "depth {}",
    "width": "width {}",
    "time_steps": "T = {}",
}


@dataclass(frozen=True)
class Arm:
    """Networks of one shape: two spiking ones and two ANNs.

    Attributes:
        settings: The swept values, in the order of `SweepConfig`.
        snn: Training of the spiking networks, one for each seed.
        ann: Training of their twins.
    """

    settings: Mapping[str, Any]
    snn: tuple[TrainConfig, TrainConfig]
    ann: tuple[TrainConfig, TrainConfig]

    @property
    def label(self) -> str:
        """What people call it, such as `"depth 20, residual"`."""
        return label(self.settings)

    @property
    def folder(self) -> str:
        """Name of its folder, such as `"depth-20-residual"`."""
        return _as_file_name(self.label)


def label(settings: Mapping[str, Any]) -> str:
    """Write swept values as people say them.

    Args:
        settings: Values by the key of `SweepConfig`.

    Returns:
        Such as `"depth 20, residual"`; `"as configured"` where nothing is swept.
    """
    words = []
    for key, value in settings.items():
        if key == "residual":
            words.append("residual" if value else "plain")
        else:
            words.append(_WORDS[key].format(f"{value:g}"))
    return ", ".join(words) or "as configured"


def arms(config: CkaConfig) -> list[Arm]:
    """List the arms of a comparison.

    Args:
        config: Of the comparison.

    Returns:
        One for each combination of swept values.
    """
    swept = {key: v for key, v in asdict(config.sweep).items() if v is not None}
    return [
        _arm(config, dict(zip(swept, values, strict=True)))
        for values in itertools.product(*swept.values())
    ]


def _arm(config: CkaConfig, settings: Mapping[str, Any]) -> Arm:
    kwargs = {k: v for k, v in settings.items() if k != "time_steps"}
    base = replace(
        config.train,
        model=replace(
            config.train.model, kwargs={**config.train.model.kwargs, **kwargs}
        ),
        data=replace(
            config.train.data,
            time_steps=settings.get("time_steps", config.train.data.time_steps),
        ),
        output=str(Path(config.output) / "networks"),
    )
    kinds = {
        "snn": base,
        # Everything that only a spiking neuron has goes back to its default.
        "ann": replace(base, neuron=NeuronConfig("ReLU"), surrogate=SurrogateConfig()),
    }
    # The whole shape, swept or not: so that comparisons share their networks.
    shape = {k: v for k, v in base.model.kwargs.items() if k in asdict(config.sweep)}
    shape = _as_file_name(label(shape | {"time_steps": base.data.time_steps}))
    snn, ann = (
        tuple(
            replace(kind, name=f"{name}-{shape}-seed-{seed}", seed=seed)
            for seed in config.seeds
        )
        for name, kind in kinds.items()
    )
    return Arm(settings, snn, ann)


def _as_file_name(text: str) -> str:
    return "-".join(text.replace(",", "").replace("= ", "").split())
