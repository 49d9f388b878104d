"""No module outside `sj_ext.host` touches what is private in the host."""

import ast
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import base, neuron, surrogate

ROOT = Path(__file__).parents[2]
DOOR = ROOT / "sj_ext" / "host"
MODULES = sorted(
    path
    for wing in ("sj_ext", "benchmarks")
    for path in (ROOT / wing).rglob("*.py")
    if not path.is_relative_to(DOOR)
)
# Of any supported release, whichever of them runs.
KNOWN = {
    "_backend",
    "_memories",
    "_memories_rv",
    "_sg_params",
    "_step_mode",
    "_store_v_seq",
}
# Packages of one release alone; the other has none of the name.
OF_ONE_RELEASE = {"cuda_kernel", "triton_kernel"}


def _is_private(name):
    return name.startswith("_") and not name.startswith("__")


def _hosts_private_names():
    """Names on the host's nodes and surrogates that torch's modules have not."""
    objects = [
        base.MemoryModule(),
        neuron.IFNode(),
        neuron.LIFNode(),
        neuron.ParametricLIFNode(),
        neuron.QIFNode(),
        neuron.EIFNode(),
        neuron.IzhikevichNode(),
        surrogate.ATan(),
    ]
    names = {name for one in objects for name in dir(one)}
    names.update(name for one in objects for name in vars(one))
    torchs = {*dir(torch.nn.Module), *vars(torch.nn.Module())}
    return {name for name in names - torchs if _is_private(name)}


PRIVATE = KNOWN | _hosts_private_names()


def _is_private_module(path):
    parts = path.split(".")
    return parts[0] == "spikingjelly" and any(
        _is_private(part) or part in OF_ONE_RELEASE for part in parts
    )


def _names(node):
    """What a node of the syntax tree calls by name."""
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.keyword) and node.arg is not None:
        return [node.arg]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module is not None:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _touched(source):
    """Find where a source touches what is private in the host."""
    return [
        f"line {node.lineno}: {name}"
        for node in ast.walk(ast.parse(source))
        for name in _names(node)
        if name in PRIVATE or _is_private_module(name)
    ]


def test_the_hosts_private_names_are_found_on_its_nodes():
    assert KNOWN - {"_backend"} <= _hosts_private_names()


@pytest.mark.parametrize(
    "source",
    [
        "node._memories['v']",
        "node._step_mode = 's'",
        "getattr(node, '_memories_rv', {})",
        "node.__dict__['_backend'] = 'torch'",
        "class Node(LIFNode):\n    def _backend(self): ...",
        "from spikingjelly._ops import lif",
        "from spikingjelly.activation_based import _anything",
        "import spikingjelly.activation_based.cuda_kernel.neuron_kernel",
        "import_module('spikingjelly.activation_based.triton_kernel')",
    ],
)
def test_what_is_private_is_noticed(source):
    assert _touched(source)


@pytest.mark.parametrize(
    "source",
    [
        "node.v, node.step_mode, self._states",
        "module._modules, module._parameters, conv._conv_forward",
        "from spikingjelly.activation_based import neuron",
        "from sj_ext.host import memories",
    ],
)
def test_what_is_public_or_torchs_is_let_be(source):
    assert not _touched(source)


def test_only_the_door_touches_what_is_private_in_the_host():
    assert MODULES
    found = {
        str(path.relative_to(ROOT)): touched
        for path in MODULES
        if (touched := _touched(path.read_text(encoding="utf-8")))
    }
    assert not found
