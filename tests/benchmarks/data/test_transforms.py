"""Augmentation of event frames: values, one draw a sample, counts kept whole."""

import numpy as np
import pytest
import torch

from benchmarks.data.batches import batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.transforms import (
    PRESETS,
    Crop,
    Cutout,
    EventDrop,
    EventMixup,
    Flip,
    Resize,
    Roll,
    Rotate,
    augmentation,
    collate,
)


@pytest.fixture
def frames():
    return torch.poisson(torch.full((3, 6, 2, 20, 24), 1.5))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images():
    """Make pictures that stand still, as those of CIFAR do."""
    return torch.randint(256, (6, 3, 20, 24)).float().expand(3, -1, -1, -1, -1)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_repeats_and_follows_the_generator(frames, name):
    if name.startswith("cifar"):
        frames = images()
    before, apply = frames.clone(), augmentation(name)
    first = apply(frames, generator())
    assert torch.equal(frames, before)
    assert first.shape == frames.shape
    assert torch.equal(first, apply(frames, generator()))
    assert not torch.equal(first, apply(frames, generator(1)))


@pytest.mark.parametrize("name", ["two", "tet", "nda"])
def test_all_steps_of_a_sample_are_changed_alike(frames, name):
    same = frames[:1].expand(3, -1, -1, -1, -1).contiguous()
    found = augmentation(name)(same, generator())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_samples_get_draws_of_their_own(frames):
    same = frames[:, :1].expand(-1, 6, -1, -1, -1).contiguous()
    found = Roll(5)(same, generator())
    assert len({tuple(found[0, n].flatten().tolist()) for n in range(6)}) > 3


def test_roll_and_crop_equal_a_loop_over_samples(frames):
    drawn = torch.randint(-4, 5, (2, 6), generator=generator())
    rolled, cropped = Roll(4)(frames, generator()), Crop(4)(frames, generator())
    for n, (dy, dx) in enumerate(drawn.T.tolist()):
        one = frames[:, n]
        assert torch.equal(rolled[:, n], one.roll((dy, dx), (-2, -1)))
        padded = torch.nn.functional.pad(one, (4, 4, 4, 4))
        expected = padded[..., 4 - dy : 24 - dy, 4 - dx : 28 - dx]
        assert torch.equal(cropped[:, n], expected)


def test_flips_mirror_and_a_right_angle_turns(frames):
    assert torch.equal(Flip(1)(frames, generator()), frames.flip(-1))
    assert torch.equal(Rotate(0)(frames, generator()), frames)
    square = frames[..., :20]
    turn = Rotate(90)
    drawn = torch.rand(6, generator=generator()) * 2 - 1
    exact = torch.tensor([1.0, -1, 1, -1, 1, -1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.data.transforms._symmetric", lambda n, g: exact)
        found = turn(square, generator())
    assert drawn.shape == exact.shape
    for n, sign in enumerate(exact.int().tolist()):
        assert torch.equal(found[:, n], square[:, n].rot90(sign, (-2, -1))) or (
            torch.equal(found[:, n], square[:, n].rot90(-sign, (-2, -1)))
        )


def test_cutout_empties_one_square_and_no_more(frames):
    found = Cutout(6)(frames + 1, generator())
    kept = found == frames + 1
    assert torch.equal(found[~kept], torch.zeros_like(found[~kept]))
    gone = (~kept)[0, :, 0].sum((-2, -1))
    assert (gone <= 36).all()
    assert (gone >= 9).all()


def test_dropped_events_leave_whole_counts_no_larger(frames):
    many = frames.repeat(1, 20, 1, 1, 1)
    found = EventDrop(0.5)(many, generator())
    assert torch.equal(found, found.round())
    assert (found <= many).all()
    assert 0.7 < found.sum() / many.sum() < 0.95


def test_mixed_events_are_those_of_both_in_their_shares():
    frames = torch.zeros(2, 2, 2, 40, 40)
    frames[:, 0, 0], frames[:, 1, 1] = 4, 4
    for seed in range(20):
        mixed = EventMixup(1.0)(frames, generator(seed))
        if mixed.partner.tolist() == [1, 0]:
            break
    own = mixed.frames[:, 0, 0].sum() / frames[:, 0].sum()
    other = mixed.frames[:, 0, 1].sum() / frames[:, 1].sum()
    assert own == pytest.approx(float(mixed.share[0]), abs=0.02)
    assert other == pytest.approx(1 - float(mixed.share[0]), abs=0.02)
    assert torch.equal(mixed.frames, mixed.frames.round())


def test_resizing_equals_interpolation_step_by_step(frames):
    found = Resize((10, 12))(frames)
    for t in range(3):
        expected = torch.nn.functional.interpolate(
            frames[t], (10, 12), mode="bilinear", align_corners=False
        )
        assert torch.equal(found[t], expected)


def test_collation_puts_time_first_and_refuses_unequal_samples():
    samples = [(np.full((3, 2, 4, 4), n, np.float32), n) for n in range(5)]
    frames, labels = collate(samples)
    assert frames.shape == (3, 5, 2, 4, 4)
    assert frames[0, :, 0, 0, 0].tolist() == labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="one shape"):
        collate([*samples, (np.zeros((2, 2, 4, 4)), 0)])


def test_batches_draw_by_epoch_and_seed_alone():
    data = EventFrames(
        torch.randint(9, (8, 2, 2, 12, 12), dtype=torch.uint8),
        torch.zeros(8, dtype=torch.int64),
        tuple(f"a/{n}" for n in range(8)),
        ("a",),
    )

    def epoch(number, seed=0):
        loader = batches(
            data,
            torch.arange(8),
            4,
            shuffle=True,
            seed=seed,
            augment=augmentation("nda"),
            device=torch.device("cpu"),
        )
        loader.sampler.set_epoch(number)
        found = list(loader)
        order = torch.cat([batch.index for batch in found]).argsort()
        return torch.cat([batch.frames for batch in found], 1)[:, order]

    assert torch.equal(epoch(3), epoch(3))
    assert not torch.equal(epoch(3), epoch(4))
    assert not torch.equal(epoch(3), epoch(3, seed=1))


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match="two, tet, nda"):
        augmentation("autoaugment")
