"""The door to SpikingJelly lets two releases in and explains why others stay out."""

import os
import subprocess
import sys
from importlib import metadata, util

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron

from sj_ext import host


def test_the_release_is_the_one_that_the_metadata_names():
    assert metadata.version("spikingjelly") == host.RELEASE
    assert host.RELEASE in host.SUPPORTED


def test_both_releases_answer_the_same_questions():
    releases = [
        __import__(f"sj_ext.host._release_{name}", fromlist=["_"])
        for name in ("2_0_0", "2_0_0rc1")
    ]
    public = [
        {
            name
            for name, value in vars(release).items()
            if not name.startswith("_")
            and callable(value)
            and value.__module__ == release.__name__
        }
        for release in releases
    ]
    assert (
        public[0]
        == public[1]
        == {
            "enter_registry",
            "fused_backward",
            "fused_forward",
            "fused_refusal",
            "set_kernel",
            "surrogate_refusal",
            "multi_step_backends",
            "nodes_without_gradient_in_eval",
        }
    )


def test_the_cupy_backend_is_listed_where_the_host_has_one():
    has_cupy = util.find_spec("spikingjelly.activation_based.cuda_kernel") is not None
    assert ("cupy" in host.multi_step_backends()) == has_cupy
    assert "torch" in host.multi_step_backends()


@pytest.mark.parametrize(
    "make", [neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode]
)
def test_listed_nodes_are_those_without_gradient_in_eval(make):
    net = torch.nn.Sequential(layer.Linear(4, 4), make())
    functional.set_step_mode(net, "m")
    net.eval()
    spikes = net(torch.ones(3, 2, 4) * 3)
    (gradient,) = torch.autograd.grad(
        spikes.sum() + 0.0 * net[0].weight.sum(), net[0].weight, allow_unused=True
    )
    listed = bool(host.nodes_without_gradient_in_eval(net))
    assert listed == bool((gradient == 0).all())


def test_surrogates_are_the_hosts_classes_by_name():
    classes = host.surrogate_classes()
    assert {"ATan", "Sigmoid", "PiecewiseQuadratic"} <= set(classes)
    assert "SurrogateFunctionBase" not in classes
    assert all(issubclass(c, torch.nn.Module) for c in classes.values())


def _import_error(tmp_path, version, has_ops=False, has_cupy=False):
    """Import sj_ext.host beside a made-up SpikingJelly; return what it raises."""
    package = tmp_path / "spikingjelly"
    (package / "activation_based").mkdir(parents=True)
    (package / "__init__.py").touch()
    surrogate = "class SurrogateFunctionBase: pass\n"
    (package / "activation_based" / "__init__.py").touch()
    (package / "activation_based" / "surrogate.py").write_text(surrogate)
    for present, folder in (
        (has_ops, package / "_ops"),
        (has_cupy, package / "activation_based" / "cuda_kernel"),
    ):
        if present:
            folder.mkdir()
            (folder / "__init__.py").touch()
    info = tmp_path / f"spikingjelly-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: spikingjelly\nVersion: {version}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import sj_ext.host"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_another_release_is_refused_with_the_supported_ones(tmp_path):
    message = _import_error(tmp_path, "0.0.0.0.14", has_cupy=True)
    assert "Expected a supported SpikingJelly (2.0.0, 2.0.0rc1)" in message
    assert "got 0.0.0.0.14" in message


def test_two_releases_mixed_on_the_path_are_noticed(tmp_path):
    message = _import_error(tmp_path, "2.0.0", has_cupy=True)
    assert "metadata says 2.0.0" in message
    assert "look like 2.0.0rc1" in message
