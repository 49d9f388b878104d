"""What an experiment is: one YAML file that names a paper's table and how to repeat it.

The files lie in `benchmarks/configs/experiments`. Each has a full size, the paper's as
far as it is known, and a demo that shows in minutes on two cores that the file runs and
what its table looks like.
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks.experiments.row_metrics import ACCURACY, METRICS_OF, refusal
from benchmarks.runs.command_line import ConfigError, options, read_as
from benchmarks.runs.config import check_folder_name
from benchmarks.runs.labels import said
from sj_ext.registry import UnknownNameError

__all__ = [
    "CONFIGS",
    "PAPERS",
    "SIZES",
    "Cell",
    "Demo",
    "Experiment",
    "Reported",
    "Size",
    "Tuning",
    "available",
    "read_experiment",
]

Size = Literal["demo", "full"]
SIZES: tuple[Size, ...] = ("demo", "full")

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
"""Folder that the paths in an experiment's file start from."""

PAPERS = {
    "2406.19645": "masked surrogate gradients, temporally weighted output",
    "2211.14406": "temporal Fisher information",
    "2304.13098": "representations of spiking and ordinary networks",
}
"""arXiv numbers of the three papers, and what each is about."""

Settings = dict[str, Any]

_PROG = "python -m benchmarks run"


@dataclass
class Reported:
    """A figure that a paper reports.

    Attributes:
        arm: Label of the arm, with its cell of the grid, as the table of results has
            it.
        value: The figure; percent where it is a share.
        source: Where it stands.
        confidence: `"code"`, read in the authors' code; `"abstract"`; `"second-hand"`,
            transcribed from digests of the paper and not verified; `"derived"`.
        deviation: Over seeds, if one is reported.
        metric: Which metric it is a figure of.
    """

    arm: str
    value: float
    source: str
    confidence: Literal["code", "abstract", "second-hand", "derived"]
    deviation: float | None = None
    metric: str = ACCURACY

    @property
    def said(self) -> str:
        """Source and confidence in one line."""
        return f"reported ({self.confidence}), {self.source}"


@dataclass
class Tuning:
    """Settings that are tried for every arm before the study, all equally often.

    The one with the best validation accuracy is taken. No run of it is in the study.

    Attributes:
        candidates: Dotted overrides, tried for each arm; empty for no tuning.
        by_arm: Other candidates for some arms, as many as the others have.
        seed: Of the runs that try them; none of the study's seeds.
    """

    candidates: list[Settings] = field(default_factory=list)
    by_arm: dict[str, list[Settings]] = field(default_factory=dict)
    seed: int = 100

    def of(self, arm: str) -> list[Settings]:
        """List the candidates of an arm."""
        return self.by_arm.get(arm, self.candidates)


@dataclass
class Demo:
    """The same experiment in minutes on two cores; what is None is as at full size.

    Attributes:
        minutes: Declared time budget on two cores.
        base: File that takes the place of the experiment's `base` and `config`.
        overrides: Dotted keys of the configuration that differ.
        arms: Names of the arms that run.
        by_arm: Dotted overrides on top of those of an arm.
        grid: In place of the experiment's; empty for none.
        seeds: In place of the experiment's.
        splits: In place of the experiment's.
        tuning: Whether arms are tuned in the demo, too.
        primary: In place of the experiment's, where its name has a budget in it.
        note: What a demo of this experiment is not, for the report.
    """

    minutes: float
    base: str | None = None
    overrides: Settings = field(default_factory=dict)
    arms: list[str] | None = None
    by_arm: dict[str, Settings] = field(default_factory=dict)
    grid: dict[str, list[Any]] | None = None
    seeds: list[int] | None = None
    splits: list[str] | None = None
    tuning: bool = False
    primary: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One column of an experiment: an arm in one cell of the grid.

    Attributes:
        label: What tables call it.
        arm: Name of the arm.
        settings: Dotted keys and values, later ones winning.
    """

    label: str
    arm: str
    settings: Mapping[str, Any]


@dataclass
class Experiment:
    """An experiment of a paper, at both sizes.

    Attributes:
        name: Of its file.
        title: One line on what it asks.
        paper: arXiv number.
        table: Which table or figure of the paper, as far as it is known.
        task: What runs it.
        demo: Its small size.
        base: File under `benchmarks/configs` that the configuration builds on.
        config: Keys of the task's configuration; a mapping of arguments (`kwargs`)
            replaces that of `base`, other groups are merged with it.
        arms: Dotted overrides by the name of each arm.
        reference: What arms are compared with: an arm, in every cell of the grid by
            itself, or one cell's label; by default the first arm of the file. Studies
            have arms of their own, named as in their tables.
        primary: Metric that answers the question: arms are compared by it. By default
            the accuracy on the test part, of a comparison by CKA the similarity.
        grid: Lists of values by dotted key: every arm runs in every combination.
        seeds: Of training; every seed with every split.
        splits: Names of split files; empty for the one that the configuration names.
        reported: What the paper reports.
        tuning: The same budget for every arm.
        recipe: What of the recipe is the paper's, and what is not.
    """

    name: str
    title: str
    paper: str
    table: str
    task: Literal["train", "cka", "fisher", "prune", "robustness"]
    demo: Demo
    base: str | None = None
    config: Settings = field(default_factory=dict)
    arms: dict[str, Settings] = field(default_factory=lambda: {"base": {}})
    reference: str | None = None
    primary: str | None = None
    grid: dict[str, list[Any]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    splits: list[str] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    tuning: Tuning = field(default_factory=Tuning)
    recipe: str = ""

    def __post_init__(self) -> None:
        """Refuse what no experiment can have.

        Raises:
            ConfigError: The message names the key.
        """
        check_folder_name(self.name)
        if self.paper not in PAPERS:
            raise ConfigError(
                f"Expected `paper` to be one of {', '.join(PAPERS)}, got {self.paper}."
            )
        if not self.demo.minutes > 0:
            raise ConfigError(
                f"Expected `demo.minutes` to be positive, got {self.demo.minutes}."
            )
        for key, found in (
            ("arms", list(self.arms)),
            ("demo.arms", self.arms_of("demo")),
            ("seeds", self.seeds),
            ("demo.seeds", self.seeds_of("demo")),
        ):
            if not found or len(set(found)) < len(found):
                raise ConfigError(
                    f"Expected `{key}` to be different ones, at least one, got {found}."
                )
        for key, names in (
            ("demo.arms", self.arms_of("demo")),
            ("demo.by_arm", list(self.demo.by_arm)),
        ):
            for name in names:
                if name not in self.arms:
                    raise ConfigError(
                        f"Expected `{key}` to be of {', '.join(self.arms)}, got {name}."
                    )
        for key, metric in (
            ("primary", self.primary_of("full")),
            ("demo.primary", self.primary_of("demo")),
        ):
            if wrong := refusal(self.task, key, metric):
                raise ConfigError(wrong)
        self._check_tuning()
        self._check_labels()

    def _check_tuning(self) -> None:
        budgets = {arm: len(self.tuning.of(arm)) for arm in self.arms}
        if len(set(budgets.values())) > 1:
            raise ConfigError(
                "Expected `tuning` to try as many settings for each arm, got "
                f"{budgets}."
            )
        if not any(budgets.values()):
            return
        if self.task != "train":
            raise ConfigError(
                f"Expected no `tuning` with the task {self.task}, got {budgets}."
            )
        if self.tuning.seed in {*self.seeds, *self.seeds_of("demo")}:
            raise ConfigError(
                "Expected `tuning.seed` to be none of the study's seeds, got "
                f"{self.tuning.seed}."
            )

    def _check_labels(self) -> None:
        if self.task != "train":
            return  # their studies have arms of their own
        labels = [cell.label for cell in self.cells("full")]
        if self.reference not in {None, *self.arms, *labels}:
            raise ConfigError(
                f"Expected `reference` to be one of {'; '.join(self.arms)}, or a cell "
                f"of the grid, got {self.reference}."
            )
        for figure in self.reported:
            if figure.arm not in labels:
                raise ConfigError(
                    f"Expected `reported.arm` to be one of {'; '.join(labels)}, got "
                    f"{figure.arm}."
                )

    @property
    def compared_with(self) -> str:
        """The arm, or the label, that others are compared with."""
        return self.reference or next(iter(self.arms))

    def primary_of(self, size: Size) -> str:
        """Give the metric that arms are compared by at a size."""
        own = self.demo.primary if size == "demo" else None
        return own or self.primary or METRICS_OF[self.task][0]

    def arms_of(self, size: Size) -> list[str]:
        """List the arms that run at a size."""
        if size == "demo" and self.demo.arms is not None:
            return self.demo.arms
        return list(self.arms)

    def seeds_of(self, size: Size) -> list[int]:
        """List the seeds of a size."""
        if size == "demo" and self.demo.seeds is not None:
            return self.demo.seeds
        return self.seeds

    def splits_of(self, size: Size) -> list[str | None]:
        """List the splits of a size; None is the one that the configuration names."""
        if size == "demo" and self.demo.splits is not None:
            return list(self.demo.splits) or [None]
        return list(self.splits) or [None]

    def candidates_of(self, arm: str, size: Size) -> list[Settings]:
        """List the settings that are tried for an arm; empty for no tuning."""
        return self.tuning.of(arm) if size == "full" or self.demo.tuning else []

    def cells(self, size: Size) -> list[Cell]:
        """List what is compared: every arm in every cell of the grid.

        Args:
            size: `"demo"` or `"full"`.

        Returns:
            Arms in the order of the file, each with all combinations of the grid.
        """
        grid = self.grid
        if size == "demo" and self.demo.grid is not None:
            grid = self.demo.grid
        found = []
        for arm in self.arms_of(size):
            own = self.demo.by_arm.get(arm, {}) if size == "demo" else {}
            for values in itertools.product(*grid.values()):
                cell = dict(zip(grid, values, strict=True))
                words = [said(k.removeprefix("train."), v) for k, v in cell.items()]
                label = ", ".join([arm, *words])
                found.append(Cell(label, arm, {**self.arms[arm], **own, **cell}))
        return found

    def words(self, size: Size, settings: Mapping[str, Any]) -> list[str]:
        """Write a configuration as a command line.

        Args:
            size: `"demo"` or `"full"`.
            settings: Dotted keys on top of those of the size.

        Returns:
            As `read_as` takes them.
        """
        words: list[str] = []
        if size == "demo" and self.demo.base is not None:
            words += ["--config", str(CONFIGS / self.demo.base)]
        else:
            if self.base is not None:
                words += ["--config", str(CONFIGS / self.base)]
            words += ["--config", json.dumps(self.config)]
        overrides = self.demo.overrides if size == "demo" else {}
        return [*words, *options(overrides), *options(settings)]

    def reported_for(self, arm: str, metric: str) -> Reported | None:
        """Find what the paper reports of an arm."""
        for figure in self.reported:
            if (figure.arm, figure.metric) == (arm, metric):
                return figure
        return None


def available() -> list[str]:
    """List the names of all experiments, in alphabetical order."""
    return sorted(file.stem for file in (CONFIGS / "experiments").glob("*.yaml"))


def read_experiment(name: str) -> Experiment:
    """Read an experiment.

    Args:
        name: One of `available()`, or the path of a file of one's own.

    Returns:
        The experiment, checked.

    Raises:
        UnknownNameError: If there is none of that name.
        ConfigError: If the file is no experiment, or is called otherwise than it.
    """
    path = Path(name)
    if path.suffix != ".yaml":
        if name not in available():
            raise UnknownNameError("an experiment", name, available())
        path = CONFIGS / "experiments" / f"{name}.yaml"
    try:
        found = read_as(Experiment, ["--file", _text(path)], _PROG, file="file")
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None
    if found.name != path.stem:
        raise ConfigError(
            f"Expected `name` of {path.name} to be {path.stem}, got {found.name}."
        )
    return found


def _text(path: Path) -> str:
    """Read a YAML file as JSON: a quoted number stays text, as an arXiv number must.

    Args:
        path: Of the file.

    Returns:
        JSON.

    Raises:
        ConfigError: If it is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise ConfigError(f"Expected {path} to be a mapping, got {content!r}.")
    return json.dumps(content)
