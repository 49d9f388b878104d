"""Where a run took place: code, versions, host, device. Written beside every result."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import sj_ext

_PACKAGES = (
    "spikingjelly",
    "torch",
    "torchvision",
    "torchaudio",
    "numpy",
    "lightning-fabric",
    "jsonargparse",
    "scikit-learn",
    "triton",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


def describe_environment() -> dict[str, Any]:
    """Describe the code and the machine that this process runs on.

    Returns:
        JSON-native: `commit` and `dirty` (None outside a git checkout), `python`,
        `packages` (version by name, installed ones only), `host` (release of
        SpikingJelly), `cpu`, `cores`, `threads`, `gpu` and `cuda` (None without one),
        `platform`, `command`.
    """
    cuda = torch.cuda.is_available()
    return {
        "sj_ext": sj_ext.__version__,
        **_code(),
        "host": sj_ext.host.RELEASE,
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        # Where things lie on this machine says nothing about the result.
        "command": [
            Path(word).name if Path(word).is_absolute() else word for word in sys.argv
        ],
    }


def _code() -> dict[str, Any]:
    commit = _git("rev-parse", "HEAD")
    # Results are outcomes: those of one run do not make the next one's code another.
    changes = _git(
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ".",
        ":(exclude)benchmarks/results",
    )
    return {"commit": commit, "dirty": None if commit is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=checkout, capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return models[0].strip() if models else platform.machine()
