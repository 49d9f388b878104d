"""What was written before is never lost."""

import subprocess
import sys

import pytest

from sj_ext.files import replace_file, write_text


def test_the_file_is_replaced_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "first")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_former_file_and_no_remains(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "first")
    with pytest.raises(ZeroDivisionError), replace_file(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


WRITE_UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
from benchmarks.runs.config import TrainConfig
from benchmarks.runs.folder import RunFolder
import numpy, torch
folder = RunFolder(TrainConfig(output=sys.argv[1]))
content = torch.rand(100_000)
write = {
    "checkpoint": lambda: folder.save_checkpoint({"weights": content}),
    "predictions": lambda: folder.write_predictions(logits=content.numpy()),
    "metrics": lambda: folder.write_metrics([{"x": i} for i in range(100_000)]),
}[sys.argv[2]]
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write()
except (OSError, RuntimeError):
    sys.exit(3)
"""


@pytest.mark.parametrize("what", ["checkpoint", "predictions", "metrics"])
def test_a_write_that_fails_half_way_leaves_the_former_file_whole(tmp_path, what):
    from benchmarks.runs.config import TrainConfig
    from benchmarks.runs.folder import RunFolder

    folder = RunFolder(TrainConfig(output=str(tmp_path)))
    name = {"checkpoint": "checkpoint.pt", "predictions": "predictions.npz"}.get(
        what, "metrics.csv"
    )
    if what == "checkpoint":
        folder.save_checkpoint({"epoch": 7})
    elif what == "predictions":
        import numpy as np

        folder.write_predictions(logits=np.arange(3))
    else:
        folder.write_metrics([{"x": 1}])
    before = (folder.path / name).read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", WRITE_UNDER_A_LIMIT, str(tmp_path), what],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, done.stderr
    assert (folder.path / name).read_bytes() == before
    assert [file.name for file in folder.path.iterdir()] == [name]
