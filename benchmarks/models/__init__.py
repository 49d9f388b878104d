"""Networks for the experiments, each registered under the name that configs use.

Whether one spikes is said by its `neuron` alone: a spiking network and its twin with an
ordinary activation come from one description.
"""

from benchmarks.models.features import feature_layers
from benchmarks.models.neurons import NeuronFactory, neuron_factory
from benchmarks.models.normalization import PerStepBatchNorm2d
from benchmarks.models.preactivation_resnet import (
    PreactivationBlock,
    PreactivationResNet,
)
from benchmarks.models.resnet import BasicBlock, ResNet
from benchmarks.models.vgg import VGG

__all__ = [
    "VGG",
    "BasicBlock",
    "NeuronFactory",
    "PerStepBatchNorm2d",
    "PreactivationBlock",
    "PreactivationResNet",
    "ResNet",
    "feature_layers",
    "neuron_factory",
]
