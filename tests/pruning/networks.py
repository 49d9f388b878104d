"""A small spiking network, data for it, and its training."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

T, N, K = 4, 6, 3


def network(seed=0):
    torch.manual_seed(seed)
    node = {"v_threshold": 0.4, "surrogate_function": surrogate.Sigmoid(alpha=2.0)}
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.LIFNode(**node),
        layer.Conv2d(4, 6, 3, stride=2, groups=2),
        neuron.LIFNode(**node),
        layer.Flatten(),
        layer.Linear(24, K),
    )
    functional.set_step_mode(net, "m")
    return net


def batches(count=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.rand(T, N, 2, 5, 5, generator=generator) * 2,
            torch.randint(K, (N,), generator=generator),
        )
        for _ in range(count)
    ]


def train(net, optimizer, loader, steps=T, scheduler=None):
    net.train()
    for x, target in loader:
        loss = nn.functional.cross_entropy(net(x[:steps]).mean(0), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
        if scheduler is not None:
            scheduler.charge_training(len(target), seconds=0.5)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
}
