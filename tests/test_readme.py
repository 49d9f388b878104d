"""What the README shows works as shown."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import _TASKS
from benchmarks.report.readme.__main__ import RESULTS, document_of, filled
from sj_ext import registry

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_python_examples_run_one_after_the_other(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(r"^\d+% of the surrogate derivatives", printed, re.MULTILINE)
    assert names["same"].mask.p == 0.3
    assert (tmp_path / "cka.png").exists()


def test_every_figure_is_that_of_a_result_file_with_its_commit():
    for document in (ROOT / "README.md", ROOT / "docs" / "scaling.md"):
        text = document.read_text(encoding="utf-8")
        assert filled(text, document) == text
    for file in RESULTS.glob("*.json"):
        text = document_of(file).read_text(encoding="utf-8")
        environment = json.loads(file.read_text(encoding="utf-8"))["environment"]
        assert len(environment["commit"]) == 40
        assert environment["dirty"] is False
        assert environment["commit"][:10] in text
        assert f"<!-- begin {file.stem} -->" in text


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


def test_the_contributing_example_runs(monkeypatch):
    registered = {kind: dict(found) for kind, found in registry._components.items()}
    monkeypatch.setattr(registry, "_components", registered)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = blocks(text, "python")
    names = {"__name__": "example"}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    assert names["surrogate"].mask.distance == 0.1
