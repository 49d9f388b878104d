"""What the README shows works as shown."""

import re
from pathlib import Path

import pytest

from benchmarks.__main__ import _TASKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_python_examples_run_one_after_the_other(capsys):
    names = {}
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(r"^\d+% of the surrogate derivatives", printed, re.MULTILINE)
    assert names["same"].mask.p == 0.3


def test_the_first_example_is_as_short_as_promised():
    first = blocks(README, "python")[0]
    assert len([line for line in first.splitlines() if line]) <= 15


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_each_command_that_is_named_exists(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    tasks = set(re.findall(r"python -m benchmarks ([a-z]+)", text))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets | {"it"}
    assert tasks <= set(_TASKS)


def test_the_contributing_example_runs():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = blocks(text, "python")
    names = {"__name__": "example"}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    assert names["surrogate"].mask.distance == 0.1
