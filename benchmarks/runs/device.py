"""The device that studies of one process compute on, as their configuration says."""

import torch

from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import DeviceConfig


def device_of(config: DeviceConfig) -> torch.device:
    """Choose the device of a process.

    Args:
        config: As of a training run.

    Returns:
        The CPU, or the first GPU.

    Raises:
        ConfigError: If a GPU is asked for that is not there, or another accelerator.
    """
    there = torch.cuda.is_available()
    if config.accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ConfigError(
            "Expected `device.accelerator` of a study to be auto, cpu or gpu, got "
            f"{config.accelerator!r}."
        )
    if config.accelerator in ("gpu", "cuda") and not there:
        raise ConfigError(
            "Expected `device.accelerator` to be auto or cpu, as torch finds no GPU, "
            f"got {config.accelerator!r}."
        )
    on_gpu = there and config.accelerator != "cpu"
    return torch.device("cuda:0" if on_gpu else "cpu")
