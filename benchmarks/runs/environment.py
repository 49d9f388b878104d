"""Where a run took place: code, versions, host, device. Written beside every result."""

import hashlib
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import sj_ext

_ROOT = Path(__file__).resolve().parents[2]
_INDIRECT = ("torchvision", "torchaudio", "triton")
"""Packages that others bring along and that results hang on."""


def describe_environment() -> dict[str, Any]:
    """Describe the code and the machine that this process runs on.

    Returns:
        JSON-native: `commit` and `dirty` (None outside a git checkout), `python`,
        `packages` (version by name of all that the project asks for, extras
        included, as far as installed), `constraints` (the files that pin all versions
        for this release of SpikingJelly: SHA-256 by name), `host` (release of
        SpikingJelly), `cpu`, `cores`, `threads`, `gpu` and `cuda` (None without one),
        `platform`, `command`.
    """
    cuda = torch.cuda.is_available()
    return {
        "sj_ext": sj_ext.__version__,
        **_code(),
        "host": sj_ext.host.RELEASE,
        "python": platform.python_version(),
        "packages": {name: found for name in packages() if (found := _version(name))},
        "constraints": _constraints(sj_ext.host.RELEASE),
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


def as_committed(*environments: Mapping[str, Any]) -> bool:
    """Say whether a result is that of one commit, without changes.

    Args:
        environments: Of all processes that had a part in it; one that was resumed has
            those that it began with under `earlier`.

    Returns:
        Whether all were at the same commit, and none had changes.
    """
    every = [
        one
        for environment in environments
        for one in (environment, *environment.get("earlier", ()))
    ]
    return len({one["commit"] for one in every}) == 1 and all(
        one["dirty"] is False for one in every
    )


def packages() -> list[str]:
    """List the packages that the project asks for, those of all extras included."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *_INDIRECT]
    for extra in project["optional-dependencies"].values():
        asked += extra
    names = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in asked}
    return sorted(names - {project["name"]})


def _constraints(release: str) -> dict[str, str]:
    """Give the SHA-256 of the files that pin the versions for a release."""
    folder = _ROOT / "constraints"
    pin = re.compile(rf"^spikingjelly=={re.escape(release)}$", re.MULTILINE)
    texts = {file.name: file.read_text("utf-8") for file in folder.glob("*.txt")}
    found = [name for name, text in texts.items() if pin.search(text)]
    included = [n for n in texts if any(f"-c {n}" in texts[one] for one in found)]
    return {
        name: hashlib.sha256(texts[name].encode()).hexdigest()
        for name in sorted({*found, *included})
    }


def _code(checkout: Path = _ROOT) -> dict[str, Any]:
    commit = _git(checkout, "rev-parse", "HEAD")
    status = ("status", "--porcelain")
    # Results are outcomes: those of one run do not make the next one's code another.
    results = ":(exclude)benchmarks/results"
    changed = _git(checkout, *status, "--untracked-files=no", "--", ".", results)
    # A new file changes what the code does; beside the code it does not.
    new = _git(
        checkout,
        *(*status, "--untracked-files=all", "--"),
        *("sj_ext", "benchmarks", results),
    )
    dirty = bool(changed or new)
    return {"commit": commit, "dirty": None if commit is None else dirty}


def _git(checkout: Path, *arguments: str) -> str | None:
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
