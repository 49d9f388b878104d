"""The command line: `python -m benchmarks TASK [options]`."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from benchmarks.runs import torchrun
from benchmarks.runs.folder import CheckpointError, FolderInUseError
from benchmarks.runs.progress import Reporter
from sj_ext.registry import UnknownNameError

_TASKS = {
    "quickstart": "train three networks on the event digits and write a report",
    "list": "experiments of the papers: which there are, and how long they take",
    "run": "run an experiment: NAME [--demo] [--shard i/n], going on where it stopped",
    "compare": "compare two runs or arms, with intervals: A B",
    "report": "one page of all results: [--latex]",
    "eval": "judge a run again from its stored logits: RUN --metric NAME",
    "train": "train one network: --config FILE [--key value ...]",
    "repeat": "train with several seeds, and how they spread: --config FILE",
    "data": "data sets: status, prepare or check NAME --root DIR; draw FILE",
    "cka": "compare spiking networks with their ANN twins by CKA: --config FILE",
    "fisher": "Fisher information over time: --config FILE, or --planted",
    "prune": "pruning searches at full T and at fewer steps: --config FILE",
    "robustness": "accuracy under attack: --config FILE",
    "speed": "time ours against peers: speed NAME",
}
_UNDER_TORCHRUN = ("train", "run")
# What a user can mend; anything else is a defect and shows its traceback.
_EXPLAINED = (
    ValueError,
    OSError,
    FloatingPointError,
    UnknownNameError,
    CheckpointError,
    FolderInUseError,
)
_USAGE = "usage: python -m benchmarks TASK [options]; TASK --help says more\n" + (
    "\n".join(f"  {name:<12}{text}" for name, text in _TASKS.items())
)


def main(arguments: Sequence[str]) -> int:
    """Run a task.

    Args:
        arguments: The task's name and its options.

    Returns:
        The exit status: 0, or 2 after an error that was explained on standard error
        (with its traceback where `SJ_EXT_TRACEBACK` is set).
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    task, *options = arguments
    try:
        _run(task, options)
    except _EXPLAINED as error:
        if "SJ_EXT_TRACEBACK" in os.environ:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(task: str, options: Sequence[str]) -> None:
    if task not in _TASKS:
        raise UnknownNameError("a task", task, sorted(_TASKS))
    processes = torchrun.place().size
    if processes > 1 and task not in _UNDER_TORCHRUN:
        raise ValueError(
            f"Expected one process for `{task}`, got WORLD_SIZE={processes}: under "
            "torchrun, `train` trains one network on all devices, and `run` shares "
            "the runs and studies of its experiments among them."
        )
    # A task is imported only when it runs: plots and trainers take seconds to load.
    import_module(f"benchmarks.tasks.{task}").main(options, Reporter())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
