"""`python -m benchmarks fisher`: Fisher information over time, with its nulls.

`--config FILE` follows it through the training of networks; `--planted` asks whether it
finds evidence whose time steps are known.
"""

from collections.abc import Sequence

from benchmarks.runs.progress import Reporter


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read the command line and run one of the two studies."""
    words = list(arguments)
    if "--planted" in words:
        from benchmarks.studies.planted import study as planted

        words.remove("--planted")
        planted.main(words, reporter)
    else:
        from benchmarks.studies.fisher import study as fisher

        fisher.main(words, reporter)
