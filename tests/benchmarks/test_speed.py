"""Speed is measured only between candidates that compute the same."""

import pytest
import torch

from benchmarks.speed import masked
from benchmarks.speed.timing import interleaved

CPU = torch.device("cpu")
SMALL = masked.Setting(T=3, batch=2, channels=4, size=16)


def test_all_candidates_compute_the_same():
    masked.check_equality(CPU)


def test_a_candidate_that_differs_is_refused(monkeypatch):
    right = masked._neurons

    def wrong(p=0.5):
        return right(p) | {masked.OURS: lambda: torch.nn.Threshold(0.5, 0.0)}

    monkeypatch.setattr(masked, "_neurons", wrong)
    with pytest.raises(AssertionError, match="masked, ours"):
        masked.check_equality(CPU)


def test_every_candidate_is_timed_in_turn():
    calls = []
    timings = interleaved(
        {name: (lambda n=name: calls.append(n)) for name in "ab"}, 3, CPU
    )
    assert calls == ["a", "a", "b", "b", *"ababab"]
    assert timings["a"].low <= timings["a"].seconds <= timings["a"].high


def test_saved_bytes_are_those_of_distinct_tensors():
    x = torch.randn(1000, requires_grad=True)
    timing = interleaved({"square": lambda: x * x}, 1, CPU)["square"]
    assert timing.saved_bytes == 4000


def test_the_layer_is_timed_for_every_candidate():
    timings = masked.time_layer(SMALL, CPU, 1)
    assert set(timings) == {masked.HOST, masked.TORCH, masked.OURS, masked.RELEASED}
    assert timings[masked.OURS].saved_bytes < timings[masked.HOST].saved_bytes


@pytest.mark.parametrize("network", ["VGGSNN", "ResNet-18"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_network_takes_a_step(network, channels_last):
    setting = masked.Setting(T=2, batch=2, size=32, channels_last=channels_last)
    timings = masked.time_training_step(network, setting, CPU, 1)
    assert all(timing.seconds > 0 for timing in timings.values())
