"""The typed configuration of a robustness study: which networks, which attacks."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.runs.command_line import ConfigError, read_as
from benchmarks.runs.config import (
    TrainConfig,
    at_least,
    check_folder_name,
    check_left_open,
    digest_of,
    overridden,
)
from sj_ext import host
from sj_ext.attack import Attack
from sj_ext.attack.base import whole_budget
from sj_ext.attack.search import PROBES, build_attack
from sj_ext.surrogate.probe import build_probe, probe_name


@dataclass
class AttackConfig:
    """An attack, and how far it may go.

    Attributes:
        attack: JSON form of an attack that uses gradients, see
            `sj_ext.available("attack")`.
        budgets: Increasing, in the attack's norm.
        restarts: How often it runs on each sample and through each surrogate.
        queries: Of the random search with the same norm, which must not find more; None
            where there is none for that norm.
    """

    attack: dict[str, Any]
    budgets: list[float]
    restarts: int = 1
    queries: int | None = None

    def built(self) -> Attack:
        """Build the attack."""
        return build_attack(self.attack)

    def black_box(self) -> Attack | None:
        """Build the random search."""
        if self.queries is None:
            return None
        norm = self.built().norm
        name = {"name": "random_search", "norm": norm, "queries": self.queries}
        return build_attack(name)


_TRIALS = 2
"""Counts what trials hold: those of an older version do not serve a newer one."""


@dataclass
class RobustnessConfig:
    """All that determines a robustness study.

    Where all steps of the data are equal, one image is attacked and corrupted, which
    the network sees at all of them; inputs are resized as in the training.

    Attributes:
        name: What people call it; first part of its folder's name.
        train: How networks are trained, as in a training run; name, seed and output are
            set here.
        arms: Networks by what people call them: the keys of `train` that differ, as in
            `{masked: {surrogate.mask: {name: bernoulli, p: 0.5}}}`.
        reference: The arm that others are compared with, and from which inputs are
            transferred: the one with dense surrogates.
        seeds: Of the networks of each arm; at least two.
        attacks: By what people call them.
        contrasts: Pairs of other arms that are compared, as
            `[[concentrated early, concentrated late]]`: the first beside the second.
        probes: Surrogates to attack through, each null for the network's own or JSON as
            `{name: ATan, alpha: 2.0}`; at least four that differ, for each arm.
        noise: Standard deviations of Gaussian noise, in the unit of the frames: events,
            or pixel values of 0 to 255.
        blur: Widths of the Gaussian blur, in pixels.
        samples: Test samples that are attacked, the first of a fixed order.
        batch_size: How many at a time.
        seed: Of the attacks.
        workers: Trainings or trials at a time, each with one thread.
        output: Folder that the study's folder is made in.
    """

    name: str = "robustness"
    train: TrainConfig = field(default_factory=TrainConfig)
    arms: dict[str, dict[str, Any]] = field(default_factory=lambda: {"base": {}})
    reference: str = "base"
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    attacks: dict[str, AttackConfig] = field(default_factory=dict)
    contrasts: list[list[str]] = field(default_factory=list)
    probes: list[dict[str, Any] | None] = field(default_factory=lambda: list(PROBES))
    noise: list[float] = field(default_factory=list)
    blur: list[float] = field(default_factory=list)
    samples: int = 96
    batch_size: int = 48
    seed: int = 0
    workers: int = 1
    output: str = "runs/robustness"

    def __post_init__(self) -> None:
        """Refuse what no study can have.

        Raises:
            ConfigError: The message names the key.
        """
        check_folder_name(self.name)
        for key in ("samples", "batch_size", "workers"):
            at_least(key, getattr(self, key), 1)
        check_left_open(self.train, ("name", "seed", "output"), "the study")
        if self.reference not in self.arms:
            raise ConfigError(
                f"Expected `reference` to be one of {', '.join(self.arms)}, got "
                f"{self.reference!r}."
            )
        if len(set(self.seeds)) < max(2, len(self.seeds)) or min(self.seeds) < 0:
            raise ConfigError(
                "Expected `seeds` to be different numbers >= 0, two or more, got "
                f"{self.seeds}."
            )
        if not self.attacks:
            raise ConfigError("Expected at least one of `attacks`, got none.")
        for name, settings in self.attacks.items():
            self._check_attack(f"attacks.{name}", settings)
        for arm in self.arms:
            self._check_probes(arm)
        others = set(self.arms) - {self.reference}
        for pair in self.contrasts:
            if len(pair) != 2 or len(set(pair)) != 2 or not set(pair) <= others:
                raise ConfigError(
                    "Expected `contrasts` to be pairs of different arms beside the "
                    f"reference, of {', '.join(sorted(others)) or 'none'}, got {pair}."
                )
        if len({frozenset(pair) for pair in self.contrasts}) < len(self.contrasts):
            raise ConfigError(
                f"Expected `contrasts` to name a pair once, got {self.contrasts}."
            )

    def _check_probes(self, arm: str) -> None:
        own = self.own_surrogate(arm)
        try:
            names = {probe_name(build_probe(probe)) or own for probe in self.probes}
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"`probes`: {error}") from error
        if len(names) < 4:
            raise ConfigError(
                "Expected at least four `probes` that differ: one surrogate alone can "
                f"miss what another finds, got {', '.join(sorted(names))} for {arm!r}."
            )

    def own_surrogate(self, arm: str) -> str:
        """Say which surrogate the networks of an arm were trained with."""
        surrogate = self.training(arm, self.seeds[0]).surrogate
        own = build_probe({"name": surrogate.base, **surrogate.base_kwargs})
        return probe_name(own) or "none"

    def _check_attack(self, key: str, settings: AttackConfig) -> None:
        try:
            built, _ = settings.built(), settings.black_box()
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"`{key}`: {error}") from error
        if not built.uses_gradients:
            raise ConfigError(
                f"Expected `{key}` to use gradients, got {built}: the random search "
                "runs where `queries` are given."
            )
        budgets = settings.budgets
        if not budgets or sorted(set(budgets)) != budgets or budgets[0] < 0:
            raise ConfigError(
                f"Expected `{key}.budgets` to increase from at least 0, got {budgets}."
            )
        if built.norm in ("events", "l0"):
            for budget in budgets:
                self._check_whole(key, budget)
        at_least(f"{key}.restarts", settings.restarts, 1)
        if settings.restarts > 1 and not built.draws:
            raise ConfigError(
                f"Expected `{key}.restarts` to be 1 where nothing is drawn, got "
                f"{settings.restarts} of {built}."
            )

    def _check_whole(self, key: str, budget: float) -> None:
        try:
            whole_budget(budget)
        except ValueError as error:
            raise ConfigError(f"`{key}.budgets`: {error}") from error

    def training(self, arm: str, seed: int) -> TrainConfig:
        """Say how a network of the study is trained.

        Args:
            arm: One of `arms`.
            seed: Of weights, order of samples and masks.

        Returns:
            A training run in the folder `networks` of `output`, which studies share.

        Raises:
            ConfigError: If keys of the arm are none of `train`.
        """
        try:
            train = overridden(self.train, self.arms[arm])
        except ConfigError as error:
            raise ConfigError(f"`arms.{arm}`: {error}") from error
        name = f"{as_file_name(arm)}-seed-{seed}"
        output = str(Path(self.output) / "networks")
        return replace(train, name=name, seed=seed, output=output)

    def digest(self) -> str:
        """Hash what determines the result, the release of SpikingJelly included.

        Returns:
            Ten hexadecimal digits.
        """
        content = asdict(self) | {
            "train": self.train.digest(),
            "arms": {arm: self.training(arm, 0).digest() for arm in self.arms},
            "host": host.RELEASE,
            "trials": _TRIALS,
        }
        for key in ("output", "workers", "seeds", "contrasts"):
            del content[key]
        return digest_of(content)

    @property
    def folder(self) -> Path:
        """The study's folder; more seeds go into the same."""
        return Path(self.output) / f"{self.name}-{self.digest()}"

    def to_yaml(self) -> str:
        """Write all keys, defaults included, as `read` takes them."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for key in ("name", "seed", "output"):
            del content["train"][key]
        return yaml.safe_dump(content, sort_keys=False)


def read(arguments: Sequence[str]) -> RobustnessConfig:
    """Read a configuration from a command line.

    Args:
        arguments: `--config FILE.yaml` and overrides such as `--samples 24`, the later
            ones winning.

    Returns:
        The checked configuration.
    """
    return read_as(RobustnessConfig, arguments, "python -m benchmarks robustness")


def as_file_name(arm: str) -> str:
    """Make a file's name of what people call an arm: `masked + weighted` loses +."""
    return "-".join(arm.replace("+", " ").split())
