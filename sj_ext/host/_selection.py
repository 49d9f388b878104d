"""Which SpikingJelly runs: found by what it can do, checked with its metadata."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

SUPPORTED = ("2.0.0", "2.0.0rc1")
"""The SpikingJelly releases that this package was tested with."""


class UnsupportedHostError(ImportError):
    """The installed SpikingJelly is none of the supported releases."""


def _installed_release() -> str:
    try:
        return version("spikingjelly")
    except PackageNotFoundError:
        raise UnsupportedHostError(
            "Expected SpikingJelly to be installed with pip, found no package "
            f"metadata. Supported releases: {', '.join(SUPPORTED)}."
        ) from None


def _release_by_capability() -> str | None:
    has_ops = find_spec("spikingjelly._ops") is not None
    has_cupy = find_spec("spikingjelly.activation_based.cuda_kernel") is not None
    return {(True, False): "2.0.0", (False, True): "2.0.0rc1"}.get((has_ops, has_cupy))


def _select() -> tuple[str, ModuleType]:
    release = _installed_release()
    if release not in SUPPORTED:
        raise UnsupportedHostError(
            f"Expected a supported SpikingJelly ({', '.join(SUPPORTED)}), got "
            f"{release}. Install one: pip install 'spikingjelly==2.0.0'."
        )
    capability = _release_by_capability()
    if capability != release:
        raise UnsupportedHostError(
            f"SpikingJelly's metadata says {release}, but its modules look like "
            f"{capability or 'no supported release'}: two releases are mixed on "
            "sys.path. Reinstall it, or put one whole release first on PYTHONPATH."
        )
    name = f"_release_{release.replace('.', '_')}"
    return release, import_module(f"sj_ext.host.{name}")


RELEASE, module = _select()
"""The release of SpikingJelly that runs, such as `"2.0.0"`, and our module for it."""
