"""`python -m benchmarks prune --config FILE`: pruning searches at fewer steps."""

from collections.abc import Sequence

from benchmarks.runs.progress import Reporter


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read the command line and run the study, or go on with it."""
    from benchmarks.studies.pruning.study import main as study

    study(arguments, reporter)
