"""AutoAugment is torchvision's, drawn once for each image from our generator."""

import pytest
import torch
from torchvision.transforms import AutoAugment as Theirs
from torchvision.transforms import AutoAugmentPolicy

from benchmarks.data.autoaugment import AutoAugment
from benchmarks.data.transforms import augmentation


def images(n=6, steps=3):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 3, 32, 32), generator=generator).float()
    return pixels.expand(steps, n, 3, 32, 32)


def drawn(frames, seed=1):
    return AutoAugment()(frames, torch.Generator().manual_seed(seed))


def test_every_image_is_changed_as_torchvision_does_and_stands_still():
    frames = images()
    before = torch.get_rng_state()
    found = drawn(frames)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.shape == frames.shape
    assert found.dtype == frames.dtype
    assert (found == found[0]).all()
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(1)))
    theirs = Theirs(AutoAugmentPolicy.CIFAR10)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for number, image in enumerate(frames[0].to(torch.uint8)):
            assert torch.equal(found[0, number], theirs(image).float())


def test_draws_follow_from_the_generator_and_differ_between_images():
    same = images(1).expand(3, 12, 3, 32, 32)
    assert torch.equal(drawn(same), drawn(same))
    assert not torch.equal(drawn(same), drawn(same, seed=2))
    found = drawn(same)[0]
    assert len({image.numpy().tobytes() for image in found}) > 1


def test_what_is_no_still_image_is_refused():
    moving = images().clone()
    moving[1] = 0
    with pytest.raises(ValueError, match="that change from step to step"):
        drawn(moving)
    with pytest.raises(ValueError, match=r"3 channels.*got \(3, 6, 2, 32, 32\)"):
        drawn(images()[:, :, :2])


def test_presets_of_images_do_what_their_names_say():
    # A white image: crop and flip leave a frame of it empty at most, Cutout a square.
    white = torch.full((1, 64, 3, 32, 32), 255.0)
    middle = slice(4, 28)
    plain = augmentation("cifar_plain")(white, torch.Generator().manual_seed(0))
    assert (plain[..., middle, middle] == 255).all()
    cut = augmentation("cifar")(white, torch.Generator().manual_seed(0))
    assert (cut[..., middle, middle] == 0).any()
    generator = torch.Generator().manual_seed(0)
    assert augmentation("cifar_autoaugment")(white, generator).shape == white.shape
