"""Small networks under attack, and inputs for them."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from sj_ext.surrogate import BernoulliMask, MaskedSurrogate


def network(mask=None, make=neuron.LIFNode):
    """Images or event frames of 2 x 6 x 6 to logits of 3 classes, each step."""
    torch.manual_seed(0)
    mask = mask or surrogate.ATan()
    net = torch.nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1),
        layer.BatchNorm2d(4),
        make(v_threshold=0.5, surrogate_function=mask),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Dropout(0.5),
        layer.Linear(36, 3),
    )
    functional.set_step_mode(net, "m")
    return net


def masked_network(p=0.9):
    return network(MaskedSurrogate("ATan", BernoulliMask(p)))


def images(N=5):
    return torch.rand(N, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def counts(N=5, T=4):
    """Event counts from 0 to 5."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 6, (N, T, 2, 6, 6), generator=generator).float()


def answers(model, x):
    with torch.no_grad():
        return model(x).argmax(1)
