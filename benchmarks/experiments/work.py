"""Jobs of a queue: done here, by workers, or by other processes on the same queue.

Whoever begins a job claims it. Processes that were started on one folder of runs, by
torchrun or by hand, thereby share the work: each takes the next that nobody has.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.experiments.kinds import Kind, kind_of
from benchmarks.runs.locks import claimed
from benchmarks.runs.progress import Reporter, duration
from benchmarks.runs.workers import one_thread, pool_of
from benchmarks.tasks.data import prepare

__all__ = ["PREPARED", "Job", "JobError", "done"]

PREPARED = ("event_digits", "planted_digits")
"""Data sets that the project makes by itself."""

_WAIT = 1.0


class JobError(ValueError):
    """Jobs that could not be done; the message names the first."""


@dataclass(frozen=True)
class Job:
    """Something to run, with its configuration, as a worker takes it.

    Attributes:
        task: Of the experiment.
        arm: Label of the cell.
        label: What progress and errors call it.
        config: Of the task.
        claims: Folder where processes claim jobs.
        settings: What tuning chose, or tries here; empty without.
    """

    task: str
    arm: str
    label: str
    config: Any
    claims: Path
    settings: str = ""

    @property
    def kind(self) -> Kind:
        """How the task is run."""
        return kind_of(self.task)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.kind.is_done(self.config)

    @property
    def is_free(self) -> bool:
        """Whether no other process has claimed it at this moment."""
        with self.claimed() as ours:
            return ours

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Keep other processes from the job during the block.

        The system ends the claim of a process that dies.

        Yields:
            Whether the job is ours; False if another process has claimed it.
        """
        self.claims.mkdir(parents=True, exist_ok=True)
        path = self.claims / f"{self.task}-{self.config.digest()}.lock"
        with claimed(path) as ours:
            yield ours


def done(
    title: str, wanted: Sequence[Job], workers: int, reporter: Reporter
) -> Iterator[Job]:
    """Do jobs, and give each as soon as it is done, here or by another process.

    Args:
        title: What progress calls them all.
        wanted: The jobs.
        workers: Processes at a time, for tasks that have no workers of their own.
        reporter: Shows progress.

    Yields:
        All jobs that could be done, first those that were done before.

    Raises:
        JobError: At the end, if some could not be done.
    """
    missing = [job for job in wanted if not job.is_done]
    reporter.line(f"{title}: {len(missing)} of {len(wanted)} to do")
    yield from (job for job in wanted if job not in missing)
    if not missing:
        return
    _prepare(missing, reporter)
    workers = min(workers, len(missing))
    # Without workers of the queue, a job itself shows how far it is.
    if workers == 1 or missing[0].kind.has_workers:
        outcomes = _one_by_one(missing, reporter)
    else:
        outcomes = _by_workers(missing, workers)
    start = time.perf_counter()
    failed = []
    for count, (job, error) in enumerate(outcomes, start=1):
        left = (len(missing) - count) * (time.perf_counter() - start) / count
        reporter.line(
            f"{title}: {count} of {len(missing)}, {job.label}: "
            f"{error or _headline(job)} ({duration(left)} left)"
        )
        if error:
            failed.append(f"{job.label}: {error}")
        else:
            yield job
    if failed:
        raise JobError(
            f"{len(failed)} of {len(missing)} runs could not be done. {failed[0]}"
        )


def _one_by_one(
    missing: Sequence[Job], reporter: Reporter
) -> Iterator[tuple[Job, str]]:
    """Do what no other process has claimed, and wait for the rest."""
    waiting = list(missing)
    while waiting:
        before = len(waiting)
        for job in tuple(waiting):
            error = _attempt(job, reporter)
            if error is not None:
                waiting.remove(job)
                yield job, error
        if len(waiting) == before:
            time.sleep(_WAIT)


def _by_workers(missing: Sequence[Job], workers: int) -> Iterator[tuple[Job, str]]:
    """Do the same, several at a time, each in a process of its own."""
    waiting, running = list(missing), dict[Future[str | None], Job]()
    with pool_of(workers) as pool:
        while waiting or running:
            for job in tuple(waiting):
                if len(running) < workers and job.is_free:
                    waiting.remove(job)
                    running[pool.submit(_attempt, job)] = job
            if not running:
                time.sleep(_WAIT)
            finished, _ = wait(running, _WAIT, return_when=FIRST_COMPLETED)
            for future in finished:
                job, error = running.pop(future), future.result()
                if error is None:
                    waiting.append(job)
                else:
                    yield job, error


def _attempt(job: Job, reporter: Reporter | None = None) -> str | None:
    """Do a job, unless it is done.

    Returns:
        What went wrong, empty if nothing; None if another process has the job.
    """
    with job.claimed() as ours:
        if not ours:
            return None
        if not job.is_done:
            with nullcontext() if job.kind.has_workers else one_thread():
                try:
                    job.kind.run_when_free(job.config, reporter or Reporter.silent())
                except (ValueError, OSError, FloatingPointError) as error:
                    return f"{error}" or type(error).__name__
        return ""


def _headline(job: Job) -> str:
    found = [m for _, m in job.kind.results(job.config) if m.metric == "test_accuracy"]
    return ", ".join(f"test accuracy {m.value:.2f}%" for m in found[:1]) or "done"


def _prepare(missing: Sequence[Job], reporter: Reporter) -> None:
    """Make what is missing of the data sets that the project makes by itself."""
    wanted = {
        (found.data.name, found.data.root, found.data.time_steps)
        for job in missing
        for found in job.kind.trainings(job.config)
        if found.data.name in PREPARED
    }
    for name, root, time_steps in sorted(wanted):
        try:
            data.load(name, root, time_steps)
        except FileNotFoundError:
            prepare(name, Path(root), time_steps, reporter)
