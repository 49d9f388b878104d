"""`python -m benchmarks speed NAME`: time ours against peers in one process run."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import get_type_hints

from jsonargparse import ArgumentParser

from benchmarks import speed
from benchmarks.runs.progress import Reporter
from sj_ext import available
from sj_ext.registry import lookup


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Run the benchmark that is named first, with the options that it has."""
    for module in pkgutil.iter_modules(speed.__path__):
        if module.ispkg:
            import_module(f"{speed.__name__}.{module.name}.benchmark")
    if not arguments or arguments[0] in ("-h", "--help"):
        reporter.line("usage: python -m benchmarks speed NAME; NAME --help says more")
        for name in available("speed"):
            summary = (lookup("speed", name).__doc__ or "").partition("\n")[0]
            reporter.line(f"  {name:<12}{summary}")
        return
    name, *rest = arguments
    benchmark = lookup("speed", name)
    options_class = get_type_hints(benchmark)["options"]
    parser = ArgumentParser(
        prog=f"python -m benchmarks speed {name}",
        description=benchmark.__doc__,
        allow_abbrev=False,
    )
    parser.add_class_arguments(options_class)
    values = vars(parser.instantiate(parser.parse_args(rest)))
    benchmark(options_class(**values), reporter)
