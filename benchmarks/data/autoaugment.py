"""AutoAugment of images that stand still for all time steps, by torchvision.

Cubuk et al., AutoAugment: Learning Augmentation Strategies from Data, arXiv 1805.09501:
the policy that was found on CIFAR-10. Many recipes for CIFAR-100 use it, too.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torchvision.transforms import autoaugment

__all__ = ["AutoAugment"]

_POLICY = autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy.CIFAR10)


@dataclass(frozen=True)
class AutoAugment:
    """One draw of the CIFAR-10 policy for each image, the same at all steps."""

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        """Change the colours and shapes of images.

        Args:
            frames: `[T, N, 3, H, W]`, pixels 0 to 255, each image equal at all steps.
            generator: On the CPU; torchvision's draws follow from it alone.

        Returns:
            Of the same shape, dtype and device.

        Raises:
            ValueError: If an image changes from step to step, or has not 3 channels.
        """
        images = frames[0]
        if frames.shape[2] != 3 or not (frames == images).all():
            raise ValueError(
                "Expected `frames` to be images of 3 channels, equal at all steps, got "
                f"{tuple(frames.shape)}"
                f"{'' if frames.shape[2] != 3 else ' that change from step to step'}."
            )
        seed = int(torch.randint(2**62, (), generator=generator))
        # torchvision draws from torch's own generator, which is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pixels = images.round().clamp(0, 255).to("cpu", torch.uint8)
            found = torch.stack([_POLICY(image) for image in pixels])
        return found.to(frames).expand_as(frames)
