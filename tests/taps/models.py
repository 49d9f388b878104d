"""Small networks of the shapes that published spiking transformers have."""

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn


def _lif():
    return neuron.LIFNode(tau=2.0, v_threshold=0.3, step_mode="m")


class _Attention(nn.Module):
    """Spiking attention over tokens, `[T, N, L, D]` to the same."""

    def __init__(self, width, heads=2):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.q_lif, self.k_lif, self.v_lif = _lif(), _lif(), _lif()
        self.lif, self.proj = _lif(), nn.Conv1d(width, width, 1)

    def forward(self, x):
        T, N, L, D = x.shape
        q, k, v = (
            lif(linear(x)).reshape(T, N, L, self.heads, -1).transpose(2, 3)
            for linear, lif in (
                (self.q, self.q_lif),
                (self.k, self.k_lif),
                (self.v, self.v_lif),
            )
        )
        x = self.lif((q @ k.mT @ v).transpose(2, 3).reshape(T, N, L, D))
        x = self.proj(x.flatten(0, 1).mT)
        return x.mT.reshape(T, N, L, D)


class SpikformerLike(nn.Module):
    """Takes `[N, C, H, W]`, repeats it T times behind a first layer."""

    def __init__(self, T=4, width=6, classes=5):
        super().__init__()
        self.T = T
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.conv, self.bn = nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width)
        self.lif, self.attention = _lif(), _Attention(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.first(x)
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, N = x.shape[:2]
        x = self.bn(self.conv(x.flatten(0, 1))).unflatten(0, (T, N))
        x = self.lif(x).flatten(3).mT
        x = x + self.attention(x)
        return self.head(x.mean(2).mean(0))


class QKFormerLike(nn.Module):
    """Plain layers on `[T*N, ...]`, and a neuron that takes that for time."""

    def __init__(self, T=4, width=6, classes=5):
        super().__init__()
        self.T = T
        self.conv, self.bn = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.lif, self.odd_lif, self.pool = _lif(), _lif(), nn.MaxPool2d(2)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, N = x.shape[:2]
        x = self.bn(self.conv(x.flatten(0, 1))).unflatten(0, (T, N))
        x = self.lif(x)
        x = self.odd_lif(self.pool(x.flatten(0, 1)))
        x = x.flatten(2).mean(2).unflatten(0, (T, N))
        return self.head(x.mean(0))


class SpikeDrivenLike(nn.Module):
    """Takes `[N, T, C, H, W]` and returns logits and what its hooks have seen."""

    def __init__(self, width=6, classes=5, per_step=False):
        super().__init__()
        self.per_step = per_step
        self.conv, self.bn = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.lif, self.attention = _lif(), _Attention(width)
        self.head_lif, self.head = _lif(), nn.Linear(width, classes)

    def forward(self, x):
        x = x.transpose(0, 1)
        T, N = x.shape[:2]
        x = self.bn(self.conv(x.flatten(0, 1))).unflatten(0, (T, N))
        x = self.lif(x).flatten(3).mT
        x = self.head_lif(self.attention(x).mean(2))
        logits = self.head(x)
        logits = logits.transpose(0, 1) if self.per_step else logits.mean(0)
        return logits, {"spikes": x}


class LoopInside(nn.Module):
    """Step mode s; the network itself runs over `[T, N, D]`."""

    def __init__(self, shared=False):
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.lif, self.again = neuron.LIFNode(), neuron.IFNode()
        self.relu, self.head = nn.ReLU(), nn.Linear(6, 3)
        self.shared = shared

    def forward(self, x):
        outputs = []
        for step in x:
            y = self.relu(self.inner(step) * 3)
            y = self.again(self.lif(y) * 2)
            outputs.append(self.head(self.relu(y) if self.shared else y))
        return torch.stack(outputs)


def multi_step_net(**kwargs):
    """A small network of the host's layers in step mode m: `[T, N, 2, 4, 4]` in."""
    net = nn.Sequential(
        layer.Conv2d(2, 3, 3, padding=1),
        layer.BatchNorm2d(3),
        neuron.LIFNode(v_threshold=0.3, **kwargs),
        layer.Flatten(),
        layer.Dropout(0.5),
        layer.Linear(48, 6),
        neuron.IFNode(v_threshold=0.3, **kwargs),
    )
    functional.set_step_mode(net, "m")
    return net
