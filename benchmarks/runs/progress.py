"""How long work shows itself: a live bar on a terminal, plain lines elsewhere."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Reporter:
    """Prints lines, and shows progress in between.

    Args:
        console: Where to; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    @classmethod
    def silent(cls) -> "Reporter":
        """Make one that shows nothing, for all processes but the first."""
        return cls(Console(file=io.StringIO()))

    def line(self, text: str) -> None:
        """Print a line at once, also into a pipe or file."""
        self.console.print(text, soft_wrap=True, markup=False)
        self.console.file.flush()

    @contextmanager
    def bar(self, title: str, total: int, unit: str) -> Iterator["Bar"]:
        """Show how far a piece of work is.

        Args:
            title: What is being done.
            total: How many units of work there are.
            unit: What is counted, in the plural.

        Yields:
            The bar; its `advance` is called as work gets done.
        """
        if not self.console.is_terminal:
            yield _Lines(self, title, total, unit)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Throughput(unit),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield _Live(progress, title, total)


class Bar:
    """Progress of one piece of work."""

    def advance(self, count: int = 1, title: str | None = None) -> None:
        """Note that `count` more units are done.

        Args:
            count: How many.
            title: What is being done from here on; None leaves the title.
        """
        raise NotImplementedError


class _Live(Bar):
    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total)

    def advance(self, count: int = 1, title: str | None = None) -> None:
        self._progress.update(self._task, advance=count, description=title)


class _Lines(Bar):
    """At most one line every `_INTERVAL` seconds, so that logs stay short."""

    _INTERVAL = 15.0

    def __init__(self, reporter: Reporter, title: str, total: int, unit: str) -> None:
        self._reporter = reporter
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1, title: str | None = None) -> None:
        self._done += count
        self._title = title or self._title
        now = time.monotonic()
        if now - self._last < self._INTERVAL or self._done >= self._total:
            return
        self._last = now
        speed = self._done / (now - self._start)
        left = (self._total - self._done) / speed
        self._reporter.line(
            f"{self._title}: {self._done} of {self._total} {self._unit}, "
            f"{speed:.0f} {self._unit}/s, {duration(left)} left"
        )


class _Throughput(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} {self._unit}/s")


def duration(seconds: float) -> str:
    """Write a time span: `"42 s"`, `"3 min 05 s"`, `"2 h 07 min"`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
