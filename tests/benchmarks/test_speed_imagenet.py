"""One device is measured, and a page says what follows for many."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.report.readme.scaling import scaling_example
from benchmarks.speed.masked.neurons import HOST, OURS

SMALL = ["--size", "32", "--T", "2", "--repetitions", "1", "--peak", "false"]


def test_the_command_writes_what_a_sample_takes_and_what_follows(tmp_path):
    words = ["speed", "imagenet", *SMALL, "--batches", "[1, 2]"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "speed-imagenet-cpu.json").read_text())
    assert 11e6 < result["parameters"] < 12e6
    rows = [(row["neuron"], row["batch"]) for row in result["rows"]]
    assert rows == [(HOST, 1), (OURS, 1), (HOST, 2), (OURS, 2)]
    for row in result["rows"]:
        step, forward = (row["timings"][name] for name in ("step", "forward"))
        assert row["seconds_per_sample"] == step["seconds"] / row["batch"]
        assert row["forward_share"] == forward["seconds"] / step["seconds"]
    text = scaling_example(result)
    assert "training steps of sew_resnet18" in text
    (ours,) = (r for r in result["rows"] if (r["neuron"], r["batch"]) == (OURS, 2))
    # 256 samples between 64 devices: the batch of 2 stands for that of 4.
    compute = 4 * ours["seconds_per_sample"] * 1e3
    (line,) = (x for x in text.splitlines() if x.startswith("| 64 |"))
    assert line.split(" | ")[3] == f"{compute:.4g}"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batches", "[0]"], "Expected `batches` to be positive numbers, got [0]"),
        (["--batches", "[]"], "Expected `batches` to be positive numbers, got []"),
        (["--size", "16"], "Expected `size` of at least 32, got 16"),
    ],
)
def test_what_cannot_be_measured_is_explained(more, message, capsys):
    assert main(["speed", "imagenet", *more]) == 2
    assert message in capsys.readouterr().err
