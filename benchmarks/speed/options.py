"""What every speed benchmark can be told; each adds options of its own."""

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class SpeedOptions:
    """What every speed benchmark can be told.

    Args:
        device: cpu or cuda.
        repetitions: Timed runs of each candidate; odd, for medians.
        output: Folder of the result.

    Raises:
        ValueError: If `repetitions` is even or not positive, or torch finds no such
            device.
    """

    device: str = "cpu"
    repetitions: int = 7
    output: Path = Path("runs/speed")

    def __post_init__(self) -> None:
        if self.repetitions < 1 or self.repetitions % 2 == 0:
            raise ValueError(
                "Expected `repetitions` to be an odd positive number, got "
                f"{self.repetitions}."
            )
        self.place()

    def place(self) -> torch.device:
        """Find the device, with its index.

        Returns:
            Where the candidates run.

        Raises:
            ValueError: If torch finds no such device.
        """
        try:
            return torch.empty((), device=self.device).device
        # Without a GPU torch raises an AssertionError or a RuntimeError, by its build.
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                "Expected `device` to be one that torch finds here, got "
                f"{self.device!r}: {error}"
            ) from error
