"""Folders that were preprocessed as for TET are read, in each of their forms."""

import numpy as np
import pytest
import torch

from benchmarks import data
from benchmarks.__main__ import main
from benchmarks.data.sets import CIFAR10_DVS
from benchmarks.data.splits import read_split
from benchmarks.runs.config import CacheConfig, read
from benchmarks.runs.progress import Reporter
from benchmarks.tasks.train import train

T, SIZE, EACH = 4, 16, {"train": 5, "test": 2}


def counts(part, index):
    rng = np.random.default_rng([part == "test", index])
    found = rng.poisson(0.4, (T, 2, SIZE, SIZE)).astype(np.float64)
    found[:, :, index % 10] += 3
    return found


def written(root, *, form=lambda frames: frames, trap=True):
    """Write both folders as the released code does, classes in turn."""
    for part, each in EACH.items():
        (root / part).mkdir(parents=True)
        for index in range(10 * each):
            frames = counts(part, index)
            frames /= frames.max(axis=(1, 2, 3), keepdims=True)
            label = index % 10
            # The released code: of the test files, a length instead of a value.
            stored = torch.Tensor(label) if trap and part == "test" else [label]
            content = [form(torch.Tensor(frames)), torch.as_tensor(stored)]
            torch.save(content, root / part / f"{index}.pt")
    return root


@pytest.fixture
def root(tmp_path):
    return written(tmp_path / "tet")


def test_frames_labels_and_parts_are_those_of_the_files(root):
    data.prepare("cifar10_dvs_tet", root, time_steps=T)
    found = data.load("cifar10_dvs_tet", root, T)
    assert found.frames.shape == (70, T, 2, SIZE, SIZE)
    assert found.classes == CIFAR10_DVS.classes
    assert found.labels.tolist() == [n % 10 for n in range(50)] + [
        n % 10 for n in range(20)
    ]
    assert found.names[53] == "cat/test_00003.pt"
    whole = counts("test", 3)
    # What the released loader makes of it: bytes of 255ths.
    expected = torch.Tensor(whole / whole.max((1, 2, 3), keepdims=True)) * 255
    assert torch.equal(found.frames[53], expected.byte())
    assert data.check("cifar10_dvs_tet", root) == []


@pytest.mark.parametrize(
    "form", [lambda f: f.permute(1, 2, 3, 0), lambda f: f.double()]
)
def test_other_layouts_and_types_give_the_same(root, tmp_path, form):
    other = written(tmp_path / "other", form=form, trap=False)
    found = [data.load("cifar10_dvs_tet", folder, T) for folder in (root, other)]
    assert found[0].checksum == found[1].checksum


def test_whole_counts_are_kept(root):
    for path in root.glob("*/*.pt"):
        label = torch.load(path)[1]
        frames = torch.as_tensor(counts(path.parent.name, int(path.stem)))
        torch.save([frames, label], path)
    found = data.load("cifar10_dvs_tet", root, T)
    assert np.array_equal(found.frames[53], counts("test", 3))


def test_a_frame_without_events_that_was_divided_by_zero_is_empty(root):
    frames, label = torch.load(root / "train" / "7.pt")
    frames[2] = torch.nan
    torch.save([frames, label], root / "train" / "7.pt")
    found = data.load("cifar10_dvs_tet", root, T).frames[7]
    assert found[2].sum() == 0
    assert found[1].sum() > 0


def test_the_splits_keep_the_test_folder(root):
    data.prepare("cifar10_dvs_tet", root, time_steps=T)
    names = data.load("cifar10_dvs_tet", root, T).names
    sizes = {"": (40, 10, 20), "_4": (40, 10, 20), "_all": (50, 0, 20)}
    for suffix, expected in sizes.items():
        split = read_split(root / f"cifar10_dvs_tet{suffix}.json")
        counts = tuple(len(indices) for indices in split.indices(names).values())
        assert counts == expected
        assert all("/test_" in name for name in split.test)


def test_a_network_trains_on_all_and_takes_the_last_epoch(root):
    data.prepare("cifar10_dvs_tet", root, time_steps=T)
    settings = {
        "data.name": "cifar10_dvs_tet",
        "data.root": root,
        "data.split": root / "cifar10_dvs_tet_all.json",
        "data.time_steps": T,
        "data.augment": "tet",
        "output": root / "runs",
        "model.kwargs.channels": "[4, A, 8, A]",
        "optimization.epochs": 2,
        "optimization.batch_size": 10,
        "device.accelerator": "cpu",
    }
    words = [str(w) for k, v in settings.items() for w in (f"--{k}", v)]
    result = train(read(words), Reporter.silent()).read_result()
    assert result["validation_accuracy"] is None
    assert result["selected_epoch"] == 2
    assert result["test_accuracy"]["selected"] == result["test_accuracy"]["last"]


def test_the_labels_are_read_once_and_again_when_a_file_changes(root, monkeypatch):
    data.load("cifar10_dvs_tet", root, T)
    record = root / "cifar10_dvs_tet_labels.json"
    time = record.stat().st_mtime_ns
    data.load("cifar10_dvs_tet", root, T, CacheConfig(compressed=True))
    assert record.stat().st_mtime_ns == time
    frames, _ = torch.load(root / "train" / "0.pt")
    torch.save([frames, torch.tensor([9.0])], root / "train" / "0.pt")
    assert data.load("cifar10_dvs_tet", root, T).labels[0] == 9
    record.write_text("{")
    assert data.load("cifar10_dvs_tet", root, T).labels[0] == 9


def replaced(root, content):
    torch.save(content, root / "train" / "3.pt")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "train" / "3.pt").unlink(), r"train/3\.pt is missing"),
        (lambda root: (root / "train" / "3.pt").write_bytes(b"PK"), r"train/3\.pt"),
        (lambda root: replaced(root, [torch.zeros(2), 3]), r"train/3\.pt.*and int"),
        (
            lambda root: replaced(root, [torch.zeros(T, 2, 9, 9), torch.tensor([3])]),
            r"train/3\.pt.*got \[4, 2, 9, 9\]",
        ),
        (
            lambda root: replaced(
                root, [torch.full((T, 2, 16, 16), 7.5), torch.ones(1)]
            ),
            r"train/3\.pt.*fractions in \[0, 1\]",
        ),
        (
            lambda root: replaced(
                root, [torch.zeros(T, 2, 16, 16), torch.tensor([11])]
            ),
            r"train/3\.pt.*label in 0\.\.9, got 11",
        ),
    ],
    ids=["missing", "cut", "kind", "size", "values", "label"],
)
def test_what_is_wrong_is_named(root, damage, message):
    damage(root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        data.prepare("cifar10_dvs_tet", root, time_steps=T)
    (problem,) = data.check("cifar10_dvs_tet", root)
    assert "train/3.pt" in problem


def test_check_reads_what_was_made_of_the_files_and_the_splits(root):
    frames = data.prepare("cifar10_dvs_tet", root, time_steps=T)
    small = data.prepare("cifar10_dvs_tet", root, time_steps=T, compressed=True)
    assert data.check("cifar10_dvs_tet", root, time_steps=T) == []
    for path in (frames, small):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        (problem,) = data.check("cifar10_dvs_tet", root)
        assert f"{path} is damaged" in problem
        path.write_bytes(whole)
    split = root / "cifar10_dvs_tet_2.json"
    split.write_text(split.read_text().replace('"train"', '"test"', 1))
    (problem,) = data.check("cifar10_dvs_tet", root)
    assert str(split) in problem
    split.unlink()
    torch.save(torch.load(root / "train" / "0.pt"), root / "train" / "0.pt")
    problems = data.check("cifar10_dvs_tet", root)
    assert problems == [
        f"{path}: made of other events than lie here now"
        for path in sorted((frames, small))
    ]


def test_check_does_not_trust_the_labels_on_record(root):
    data.prepare("cifar10_dvs_tet", root, time_steps=T)
    record = root / "cifar10_dvs_tet_labels.json"
    record.write_text(record.read_text().replace('"labels": [0', '"labels": [1'))
    (problem,) = data.check("cifar10_dvs_tet", root)
    assert f"{record}: expected the labels of the files" in problem


def test_check_of_steps_that_the_files_do_not_have_says_so(root, capsys):
    data.prepare("cifar10_dvs_tet", root, time_steps=T)
    words = ["cifar10_dvs_tet", "--root", str(root), "--time-steps"]
    assert main(["data", "check", *words, str(T)]) == 0
    assert main(["data", "check", *words, "10"]) == 2
    assert "`time_steps` of 4" in capsys.readouterr().out
    assert main(["data", "status", *words, "10"]) == 0
    assert "not prepared yet" in capsys.readouterr().out


def test_the_command_line_prepares_the_compressed_form(root, capsys):
    words = ["cifar10_dvs_tet", "--root", str(root), "--time-steps", str(T)]
    assert main(["data", "prepare", *words, "--compressed"]) == 0
    assert [path.suffix for path in root.glob("*frames")] == [".cframes"]
    found = data.load("cifar10_dvs_tet", root, T, CacheConfig(compressed=True))
    assert found.checksum == data.load("cifar10_dvs_tet", root, T).checksum
    capsys.readouterr()
    for setting in (["--size", "48"], ["--split-by", "time"]):
        assert main(["data", "prepare", *words, *setting]) == 2
        printed = capsys.readouterr().err
        assert "neither `size` nor `split_by`" in printed
        assert "Traceback" not in printed


def test_a_first_file_of_another_kind_is_named(root):
    torch.save([torch.zeros(3, 3), torch.ones(1)], root / "train" / "0.pt")
    with pytest.raises(data.DamagedDataError, match=r"train/0\.pt: .*\[3, 3\]"):
        data.prepare("cifar10_dvs_tet", root, time_steps=T)
    (problem,) = data.check("cifar10_dvs_tet", root)
    assert "train/0.pt" in problem


def test_settings_that_the_files_do_not_have_are_refused(root, capsys):
    with pytest.raises(ValueError, match=r"`time_steps` of 4, as .*0\.pt has"):
        data.load("cifar10_dvs_tet", root, 10)
    with pytest.raises(ValueError, match="neither `size` nor `split_by`"):
        data.load("cifar10_dvs_tet", root, T, CacheConfig(size=8))
    assert main(["data", "status", "cifar10_dvs_tet", "--root", str(root)]) == 0
    assert "data prepare cifar10_dvs_tet" in capsys.readouterr().out
