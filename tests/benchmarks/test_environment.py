"""The environment of a result suffices to build it again, and says what was changed."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

import sj_ext
from benchmarks.experiments.kinds.base import Origin
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import DeviceConfig
from benchmarks.runs.device import device_of
from benchmarks.runs.environment import _code, as_committed, describe_environment

ROOT = Path(__file__).resolve().parents[2]


def test_packages_of_all_extras_and_the_pinned_versions_are_named():
    environment = json.loads(json.dumps(describe_environment()))
    assert {
        *("spikingjelly", "torch", "torchvision", "numpy", "scipy", "foolbox"),
        *("matplotlib", "lightning-fabric", "jsonargparse", "scikit-learn", "numba"),
    } <= environment["packages"].keys()
    name = {"2.0.0": "default.txt", "2.0.0rc1": "cupy.txt"}[sj_ext.host.RELEASE]
    assert environment["constraints"].keys() == {"common.txt", name}
    for file, checksum in environment["constraints"].items():
        content = (ROOT / "constraints" / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == checksum


@pytest.fixture
def checkout(tmp_path):
    """A small checkout with the project's folders."""
    for name in ("sj_ext/one.py", "benchmarks/results/a.csv", "README.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    for words in (("init",), ("add", "."), (*who, "commit", "-m", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("sj_ext/one.py", True),
        ("sj_ext/new.py", True),
        ("benchmarks/configs/new.yaml", True),
        ("README.md", True),
        ("benchmarks/results/a.csv", False),
        ("benchmarks/results/new.csv", False),
        ("notes.txt", False),
    ],
)
def test_new_files_beside_the_code_are_changes_results_are_none(checkout, name, dirty):
    assert _code(checkout)["dirty"] is False
    path = checkout / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("2")
    assert _code(checkout)["dirty"] is dirty


def test_a_result_is_clean_where_all_that_had_a_part_in_it_were():
    clean = {"commit": "a", "dirty": False}
    assert as_committed(clean, {**clean, "earlier": [clean]})
    assert not as_committed({**clean, "earlier": [{**clean, "dirty": True}]})
    assert not as_committed({**clean, "earlier": [{**clean, "commit": "b"}]})
    assert not as_committed(clean, {**clean, "dirty": None})


def test_a_study_is_no_cleaner_than_the_networks_it_is_of():
    clean = {"commit": "a", "dirty": False, "threads": 1}
    dirty = {**clean, "dirty": True}

    def origin(environment):
        return Origin(
            *("", "", "", "", 1), environment, "cpu", "", "", as_committed(environment)
        )

    assert origin(clean).in_study(clean, "", "").clean
    assert not origin(dirty).in_study(clean, "", "").clean
    assert not origin(clean).in_study(dirty, "", "").clean
    assert origin(clean).in_study(clean, "", "", device="cuda:0").device == "cuda:0"


@pytest.mark.parametrize(
    ("accelerator", "gpu", "device"),
    [
        ("auto", True, "cuda:0"),
        ("gpu", True, "cuda:0"),
        ("cpu", True, "cpu"),
        ("auto", False, "cpu"),
    ],
)
def test_studies_compute_where_their_configuration_says(
    accelerator, gpu, device, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert str(device_of(DeviceConfig(accelerator))) == device


@pytest.mark.parametrize(
    ("accelerator", "message"),
    [("gpu", "torch finds no GPU"), ("tpu", "auto, cpu or gpu, got 'tpu'")],
)
def test_a_device_that_is_not_there_is_refused(accelerator, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        device_of(DeviceConfig(accelerator))
