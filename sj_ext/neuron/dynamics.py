"""The equations of a spiking neuron as one value that every backend takes."""

from typing import NamedTuple

from torch import Tensor


class Dynamics(NamedTuple):
    """What a neuron does between two steps.

    With v the potential, x the input, h the charged potential, s the spike:

        IF             h = v + x
        LIF            h = v + (x - (v - v_rest)) / tau      with decay_input
                       h = v - (v - v_rest) / tau + x        without
        ParametricLIF  the same with sigmoid(w) in place of 1 / tau
        reset          v = s * v_reset + (1 - s) * h         hard
                       v = h - s * v_threshold               soft, v_reset None

    v_rest is v_reset, or 0 with a soft reset. The quadratic, exponential and
    Izhikevich neurons have the host's equations, with their constants in `constants`.

    Attributes:
        neuron: `"IF"`, `"LIF"`, `"ParametricLIF"`, `"QIF"`, `"EIF"` or
            `"Izhikevich"`.
        v_threshold: A neuron spikes where h >= v_threshold.
        v_reset: Potential after a spike; None subtracts the threshold instead.
        detach_reset: Whether no gradient passes through the reset.
        tau: Time constant of a LIF neuron, in steps; None for the others.
        decay_input: Whether the input decays as the potential does (LIF kinds).
        w: Parameter of a ParametricLIF neuron, a scalar tensor; None for the others.
        constants: Further constants by the host's names.
    """

    neuron: str
    v_threshold: float
    v_reset: float | None
    detach_reset: bool
    tau: float | None = None
    decay_input: bool = True
    w: Tensor | None = None
    constants: tuple[tuple[str, float], ...] = ()
