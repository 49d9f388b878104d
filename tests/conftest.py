"""What every test shares: which host runs, real data, seeds, hypothesis profiles."""

import os

# Sums on the CPU depend on the number of threads, so it is the same everywhere; and
# processes of tests that run side by side would wait for each other with more. Set
# before anything is imported that reads it, for child processes too.
os.environ["OMP_NUM_THREADS"] = "1"

import random
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from sj_ext import host


class _TorchGenerator:
    """torch's default generator, as hypothesis wants a source of randomness."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


# Hypothesis keeps a weak reference only.
_torch_generator = _TorchGenerator()
hypothesis.register_random(_torch_generator)

hypothesis.settings.register_profile(
    "ci", max_examples=10, deadline=None, derandomize=True
)
hypothesis.settings.register_profile("full", max_examples=200, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test another SpikingJelly release than the one asked for."""
    expected = os.environ.get("SJ_EXT_EXPECT_HOST")
    if expected and expected != host.RELEASE:
        pytest.exit(
            f"Expected SpikingJelly {expected} (SJ_EXT_EXPECT_HOST), got "
            f"{host.RELEASE} from {_host_folder()}.",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


def pytest_report_header() -> list[str]:
    """Say which host, torch, device and data the results are for."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
    return [
        f"host: SpikingJelly {host.RELEASE} ({_host_folder()})",
        f"torch: {torch.__version__} ({device}, {torch.get_num_threads()} threads)",
        f"real data: {os.environ.get('SJ_EXT_DATA') or 'SJ_EXT_DATA is not set'}",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` where torch sees no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same seeds, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings and images; skips where it is not set."""
    value = os.environ.get("SJ_EXT_DATA")
    if not value:
        pytest.skip("needs real recordings: SJ_EXT_DATA is not set")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"Expected SJ_EXT_DATA to name a folder, got {value!r}.")
    return folder


def _host_folder() -> Path:
    import spikingjelly

    return Path(spikingjelly.__file__).parent
