"""`python -m benchmarks eval RUN`: judge a run from its stored logits."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from benchmarks.experiments.metrics import METRICS, TrainedRun, measure
from benchmarks.runs.progress import Reporter


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read the command line, compute metrics of a run, and print them.

    Args:
        arguments: The run's folder, and which metrics.
        reporter: Shows what comes out.
    """
    parser = ArgumentParser(
        prog="python -m benchmarks eval", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("run", help="folder of a complete training run")
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"of {', '.join(METRICS)}; all by default",
    )
    options = parser.parse_args(list(arguments))
    found = measure(TrainedRun.at(options.run), options.metric)
    width = max(map(len, found))
    for name, value in found.items():
        values = value if isinstance(value, list) else [value]
        reporter.line(f"{name:<{width}}  {'  '.join(f'{v:.4f}' for v in values)}")
