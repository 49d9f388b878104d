"""Planted evidence is in the planted steps, and nothing of the class is elsewhere."""

import shutil

import numpy as np
import pytest
import torch

from benchmarks import data
from benchmarks.data import event_digits, planted
from benchmarks.data.frames import EventFrames
from benchmarks.data.planted_steps import identical_steps, plant, pooled

from .conftest import PER_CLASS, TIME_STEPS

CLASSES = 5
T = 6


@pytest.fixture(scope="module")
def recordings():
    """500 recordings whose every step shows the class, and the parts of a split."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(500) % CLASSES
    frames = torch.poisson(torch.ones(500, T, 2, 4, 4), generator=generator)
    for label in range(CLASSES):
        frames[labels == label, :, :, label % 4, :] += 3 + label
    names = tuple(f"{label}/{i}" for i, label in enumerate(labels.tolist()))
    classes = tuple(str(label) for label in range(CLASSES))
    parts = {"train": torch.arange(350), "test": torch.arange(350, 500)}
    return EventFrames(frames.to(torch.uint8), labels, names, classes), parts


def accuracy_of_step(found, parts, t):
    """Classify the test part by the nearest mean frame of the training part."""
    x, y = found.frames[:, t].flatten(1).double(), found.labels
    train, test = parts["train"], parts["test"]
    means = torch.stack([x[train][y[train] == c].mean(0) for c in range(CLASSES)])
    answers = torch.cdist(x[test], means).argmin(1)
    return float((answers == y[test]).double().mean())


def test_the_class_can_be_told_from_the_planted_steps_alone(recordings):
    frames, parts = recordings
    found = plant(frames, parts, 3, 4, seed=0)
    accuracy = [accuracy_of_step(found, parts, t) for t in range(T)]
    assert min(accuracy[2:4]) > 0.95
    # Four standard deviations of guessing, in the mean over the other steps.
    outside = np.mean(accuracy[:2] + accuracy[4:])
    spread = np.sqrt(0.2 * 0.8 / (4 * len(parts["test"])))
    assert abs(outside - 1 / CLASSES) < 4 * spread


def test_planted_steps_are_untouched(recordings):
    frames, parts = recordings
    found = plant(frames, parts, 3, 4, seed=0)
    assert torch.equal(found.frames[:, 2:4], frames.frames[:, 2:4])
    assert torch.equal(found.labels, frames.labels)
    assert found.names == frames.names


def test_every_pixel_of_every_step_keeps_its_counts_within_a_part(recordings):
    frames, parts = recordings
    found = plant(frames, parts, 3, 4, seed=0)
    for indices in parts.values():
        before, after = (d.frames[indices].sort(dim=0).values for d in (frames, found))
        assert torch.equal(before, after)
    changed = (found.frames != frames.frames).double().mean((0, 2, 3, 4))
    assert torch.equal(changed > 0, torch.tensor([1, 1, 0, 0, 1, 1]).bool())


def test_the_order_of_the_recordings_is_all_that_noise_depends_on(recordings):
    frames, parts = recordings
    other = EventFrames(
        frames.frames, frames.labels.flip(0), frames.names, frames.classes
    )
    found = plant(frames, parts, 3, 4, seed=0)
    assert torch.equal(plant(other, parts, 3, 4, seed=0).frames, found.frames)


def test_one_seed_gives_the_same_noise_wherever_evidence_is(recordings):
    frames, parts = recordings
    found = plant(frames, parts, 1, 2, seed=7)
    assert found.checksum == plant(frames, parts, 1, 2, seed=7).checksum
    assert found.checksum != plant(frames, parts, 1, 2, seed=8).checksum
    later = plant(frames, parts, 3, 3, seed=7)
    assert torch.equal(later.frames[:, 3:], found.frames[:, 3:])


@pytest.mark.parametrize(("first", "last"), [(0, 2), (3, 2), (2, T + 1)])
def test_steps_that_do_not_exist_are_refused(recordings, first, last):
    with pytest.raises(ValueError, match=f"1 <= first <= last <= {T}, got {first}"):
        plant(*recordings, first, last, seed=0)


def test_identical_steps_come_from_the_same_class_and_part(recordings):
    frames, parts = recordings
    found = identical_steps(frames, parts, seed=0)
    for indices in parts.values():
        for label in range(CLASSES):
            members = indices[frames.labels[indices] == label]
            steps, origin = (d.frames[members].flatten(2) for d in (found, frames))
            origin = {tuple(row) for row in origin.flatten(0, 1).tolist()}
            assert {tuple(row) for row in steps.flatten(0, 1).tolist()} <= origin


def test_identical_steps_have_one_distribution(recordings):
    frames, parts = recordings
    dark = frames.frames.clone()
    dark[:, 1:] = 0
    uneven = EventFrames(dark, frames.labels, frames.names, frames.classes)
    rate = identical_steps(uneven, parts, seed=0).frames.double().mean((0, 2, 3, 4))
    assert float(rate.min()) > 0
    assert float(rate.max() / rate.min()) < 2


def test_pooling_adds_up_the_events_of_squares(recordings):
    frames, _ = recordings
    found = pooled(frames, 2)
    assert found.frames.shape == (500, T, 2, 2, 2)
    square = frames.frames[3, 1, 0, 2:, :2].sum()
    assert found.frames[3, 1, 0, 1, 0] == square
    with pytest.raises(ValueError, match="Expected `size` to divide 4 and 4, got 3"):
        pooled(frames, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("planted") / "digits"
    planted.prepare(root, per_class=PER_CLASS, time_steps=TIME_STEPS, first=2, last=2)
    return root


def test_prepared_digits_show_the_digit_in_the_planted_steps(folder):
    found = data.load("planted_digits", folder, TIME_STEPS)
    source = event_digits.load(folder / "event_digits", TIME_STEPS)
    same = (found.frames == source.frames).flatten(2).all(2).all(0)
    assert same.tolist() == [False, True, False, False]
    rate, expected = (d.frames.sum((0, 2, 3, 4)) for d in (found, source))
    assert torch.equal(rate, expected)


def test_a_complete_file_is_left_and_one_of_other_settings_renewed(folder):
    file = folder / f"planted_digits_T{TIME_STEPS}.npz"
    before = file.stat().st_mtime_ns
    options = {"per_class": PER_CLASS, "time_steps": TIME_STEPS}
    planted.prepare(folder, **options, first=2, last=2)
    assert file.stat().st_mtime_ns == before
    planted.prepare(folder, **options, first=2, last=2, seed=1)
    assert file.stat().st_mtime_ns != before
    planted.prepare(folder, **options, first=2, last=2)


def test_check_looks_at_the_digits_and_at_what_was_planted_in_them(folder, tmp_path):
    assert data.check("planted_digits", folder, time_steps=TIME_STEPS) == []
    assert data.check("planted_digits", folder) == []
    assert data.status("planted_digits", folder)[-1] == f"{folder}: complete"
    root = shutil.copytree(folder, tmp_path / "copy")
    event_file = next((root / "event_digits" / "extract").rglob("*.bin"))
    event_file.write_bytes(event_file.read_bytes()[:-5])
    (problem,) = data.check("planted_digits", root)
    assert str(event_file) in problem
    frames = root / f"planted_digits_T{TIME_STEPS}.npz"
    frames.rename(root / "planted_digits_T9.npz")
    problems = data.check("planted_digits", root)
    assert any("planted_digits_T9.npz has time_steps 4" in line for line in problems)


def test_planted_evidence_of_other_digits_is_seen(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(root / "event_digits")
    event_digits.prepare(root / "event_digits", per_class=1, time_steps=TIME_STEPS)
    (problem,) = data.check("planted_digits", root)
    assert problem.endswith(
        f"planted_digits_T{TIME_STEPS}.npz is of other event digits"
    )


def test_missing_digits_are_answered_with_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="data prepare planted_digits --root"):
        data.load("planted_digits", tmp_path)
