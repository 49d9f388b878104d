"""Networks for the experiments, each registered under the name that configs use."""

from benchmarks.models.neurons import NeuronFactory, neuron_factory
from benchmarks.models.vgg import VGG

__all__ = ["VGG", "NeuronFactory", "neuron_factory"]
