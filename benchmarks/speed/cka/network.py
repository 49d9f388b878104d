"""End to end: from batches through a network to its matrix, by the public analysers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.models import PreactivationResNet, feature_layers
from benchmarks.speed.cka.candidates import OURS, PEER, PER_STEP, peer_version
from sj_ext.cka import CKA, CKAResult
from sj_ext.cka.summary import Time

FORWARD = "the network alone"
_CPU = torch.device("cpu")
_BATCHES = 4
_CLASSES = 10


@dataclass(frozen=True)
class NetworkSetting:
    """A spiking pre-activation ResNet against itself, on ten patterns in noise.

    Attributes:
        depth: Of the network; 20 has 73 layers.
        samples: n, of each of four batches.
        T: Time steps.
        size: Height and width of the frames.
        device: Where it runs.
    """

    depth: int = 20
    samples: int = 128
    T: int = 4
    size: int = 16
    device: torch.device = _CPU

    @property
    def title(self) -> str:
        """Say in words what is compared."""
        return (
            f"spiking ResNet-{self.depth} end to end: {_BATCHES} batches "
            f"{[self.T, self.samples, 2, self.size, self.size]}"
        )


class Concatenated(nn.Module):
    """Hands what the layers of a network compute to a peer as [N, T * features].

    What pytorch-cka hooks takes the first axis for the samples: each layer gets a
    probe, whose output is the layer's own with the steps among the features.

    Args:
        net: A network in multi-step mode.
        layers: Names of its layers.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.net = net
        self.probes = nn.ModuleList(_Probe() for _ in layers)
        for name, probe in zip(layers, self.probes, strict=True):
            net.get_submodule(name).register_forward_hook(_hand_to(probe))

    def forward(self, frames: Tensor) -> Tensor:
        """Run the network from a reset state.

        Args:
            frames: [T, N, C, H, W].

        Returns:
            Its logits [T, N, K].
        """
        functional.reset_net(self.net)
        logits: Tensor = self.net(frames)
        return logits


class _Probe(nn.Module):
    def forward(self, x_seq: Tensor) -> Tensor:
        return x_seq.transpose(0, 1).flatten(1)


def network_names() -> list[str]:
    """List the candidates, as far as they are installed.

    Returns:
        Their names; the last one is the passes of the network by themselves.
    """
    peers = [PEER] if peer_version() is not None else []
    return [OURS, PER_STEP, *peers, FORWARD]


def network_candidate(setting: NetworkSetting, name: str) -> Callable[[], Any]:
    """Make a candidate with its network and batches.

    Args:
        setting: What it compares.
        name: One of `network_names()`.

    Returns:
        A function of no arguments: CKA of the 73 layers, or None.
    """
    net, batches = _network(setting), _batches(setting)
    layers = feature_layers(net)
    if name in (OURS, PER_STEP):
        time: Time = "concat" if name == OURS else "per_step"
        return lambda: _ours(net, layers, time, batches)
    if name == PEER:
        wrapped = Concatenated(net, layers)
        return lambda: _peer(wrapped, batches)
    return lambda: _forward(net, batches)


def _network(setting: NetworkSetting) -> nn.Module:
    torch.manual_seed(0)
    size = (setting.size, setting.size)
    net = PreactivationResNet(2, _CLASSES, size, _neuron, depth=setting.depth)
    return net.to(setting.device).eval()


def _neuron() -> nn.Module:
    return neuron.LIFNode(v_threshold=0.5, step_mode="m")


def _batches(setting: NetworkSetting) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (setting.T, setting.samples, 2, setting.size, setting.size)
    templates = torch.randn(_CLASSES, *shape[2:], generator=generator)
    found = []
    for _ in range(_BATCHES):
        classes = torch.randint(_CLASSES, (setting.samples,), generator=generator)
        frames = templates[classes] + torch.randn(shape, generator=generator)
        found.append(frames.to(setting.device))
    return found


def _ours(
    net: nn.Module, layers: list[str], time: Time, batches: list[Tensor]
) -> Tensor:
    found: CKAResult = CKA(net, layers_x=layers, time=time).measure(
        batches, progress=False
    )
    # In the order in which the network's layers are listed, as the peer has them.
    order = torch.tensor([found.x.names.index(name) for name in layers])
    return found.cka[order][:, order]


def _peer(wrapped: Concatenated, batches: list[Tensor]) -> Tensor:
    from cka import compute_cka  # type: ignore[import-not-found]

    names = [f"probes.{i}" for i in range(len(wrapped.probes))]
    found: list[Tensor] = compute_cka(
        wrapped,
        wrapped,
        DataLoader(batches, batch_size=None),  # type: ignore[arg-type]
        layers=names,
        device=batches[0].device,
        progress=False,
    )
    return found[0].cpu()


def _forward(net: nn.Module, batches: list[Tensor]) -> None:
    with torch.inference_mode():
        for batch in batches:
            functional.reset_net(net)
            net(batch)


def _hand_to(probe: nn.Module) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        probe(output)

    return hook
