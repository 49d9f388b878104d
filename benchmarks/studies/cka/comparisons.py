"""What is compared in each arm: spiking network with ANN, its ceiling and its floor."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import data
from benchmarks.data.splits import read_split
from benchmarks.models import feature_layers
from benchmarks.runs.config import TrainConfig
from benchmarks.runs.progress import Reporter
from benchmarks.studies.cka.arms import Arm
from benchmarks.studies.cka.config import CkaConfig
from benchmarks.studies.inputs import as_tested, bounds_of, repeats
from benchmarks.studies.networks import trained_network, untrained_network
from sj_ext.cka import CKA, CKAResult, Side

_CALIBRATION_BATCHES = 8


@dataclass(frozen=True)
class Network:
    """One of the networks of an arm.

    Attributes:
        kind: "snn" or "ann".
        seed: Which of the two seeds, 0 or 1.
        trained: Or as it was before training.
    """

    kind: str
    seed: int
    trained: bool = True

    @property
    def label(self) -> str:
        """Name in plots."""
        name = f"{self.kind.upper()} {'ab'[self.seed]}"
        return name if self.trained else f"untrained {name}"

    def training(self, arm: Arm) -> TrainConfig:
        """Find how it is trained."""
        configs = arm.snn if self.kind == "snn" else arm.ann
        return configs[self.seed]


@dataclass(frozen=True)
class Comparison:
    """Two networks, or one and itself over time.

    Attributes:
        x: A network.
        y: Another one; None compares all time steps of the first.
        permuted: Whether the second network is fed each time another sample.
    """

    x: Network
    y: Network | None = None
    permuted: bool = False


_SNN_A, _SNN_B = Network("snn", 0), Network("snn", 1)
_ANN_A, _ANN_B = Network("ann", 0), Network("ann", 1)
_NEW_SNN, _NEW_ANN = Network("snn", 0, False), Network("ann", 1, False)

COMPARISONS: Mapping[str, Comparison] = {
    # Never of one seed: twins start from the same weights, seeds of a kind do not.
    "snn-ann": Comparison(_SNN_A, _ANN_B),
    "snn-snn": Comparison(_SNN_A, _SNN_B),
    "ann-ann": Comparison(_ANN_A, _ANN_B),
    "untrained": Comparison(_NEW_SNN, _NEW_ANN),
    "permuted": Comparison(_SNN_A, _ANN_B, permuted=True),
    "time-snn-a": Comparison(_SNN_A),
    "time-snn-b": Comparison(_SNN_B),
    "time-ann-a": Comparison(_ANN_A),
    "time-ann-b": Comparison(_ANN_B),
    "time-untrained-snn": Comparison(_NEW_SNN),
    "time-untrained-ann": Comparison(_NEW_ANN),
}
"""Every comparison of an arm by the name of its file."""


def measure(
    arm: Arm, config: CkaConfig, folder: Path, reporter: Reporter
) -> dict[str, CKAResult]:
    """Compare the networks of an arm on the test part, or read what was compared.

    Args:
        arm: Whose networks are trained.
        config: Of the whole comparison.
        folder: Of the arm; each result is a file in it once it is complete.
        reporter: Shows progress.

    Returns:
        Results by the keys of `COMPARISONS`.
    """
    files = {name: folder / f"{name}.npz" for name in COMPARISONS}
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        samples = Samples(arm, config)

        @cache
        def side(network: Network) -> Side:
            net = samples.network(network).to(compare_device(network.training(arm)))
            return Side(net, layers=feature_layers(net), label=network.label)

        folder.mkdir(parents=True, exist_ok=True)
        with reporter.bar(f"CKA, {arm.label}", len(missing), "comparisons") as bar:
            for name in missing:
                _compare(COMPARISONS[name], side, samples).save(files[name])
                bar.advance()
    return {name: CKAResult.load(file) for name, file in files.items()}


def _compare(
    comparison: Comparison, side: Callable[[Network], Side], samples: "Samples"
) -> CKAResult:
    if comparison.y is None:
        cka = CKA(side(comparison.x), time="per_step")
    else:
        y = side(comparison.y)
        cka = CKA(
            side(comparison.x),
            replace(y, inputs=_permuted) if comparison.permuted else y,
        )
    for frames in samples.test():
        cka.update(frames)
    return cka.compute()


def compare_device(training: TrainConfig) -> str:
    """Say where a network is compared: where it was trained, as far as that is here."""
    on_gpu = training.device.accelerator != "cpu" and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


def _permuted(frames: Tensor) -> Tensor:
    """Give every place of a batch another sample than it had."""
    return frames.roll(1, dims=1)


class Samples:
    """The data of an arm, and its networks on them.

    Args:
        arm: Whose networks are compared.
        config: Of the whole comparison.
    """

    def __init__(self, arm: Arm, config: CkaConfig) -> None:
        settings = arm.snn[0]
        self._arm = arm
        self._data = settings.data
        self._frames = data.load_configured(settings.data)
        parts = read_split(settings.split).indices(self._frames.names)
        self._test, self._train = (_shuffled(parts[p]) for p in ("test", "train"))
        self._batch_size = config.batch_size

    @property
    def bounds(self) -> tuple[float, float]:
        """No event, and the largest value that there is."""
        return bounds_of(self._data, self._frames)

    @property
    def repeats(self) -> int | None:
        """Time steps of images that stand still; None of recordings."""
        return repeats(self._frames)

    def test(self) -> Iterator[Tensor]:
        """Go through the test part in batches of equal size, or one more or less."""
        for frames, _ in self.labelled():
            yield frames

    def labelled(self) -> Iterator[tuple[Tensor, Tensor]]:
        """As `test`, with the classes of the samples."""
        count = max(1, len(self._test) // self._batch_size)
        for indices in self._test.tensor_split(count):
            (batch,) = as_tested(self._data, self._frames, indices, len(indices))
            yield batch.frames, batch.target

    def network(self, network: Network) -> nn.Module:
        """Load a network, or make it where it is an untrained one."""
        training = network.training(self._arm)
        if network.trained:
            return trained_network(training, self._frames)
        size = training.optimization.batch_size
        first = self._train[: _CALIBRATION_BATCHES * size]
        some = as_tested(training.data, self._frames, first, size)
        return untrained_network(training, self._frames, (b.frames for b in some))


def _shuffled(indices: Tensor) -> Tensor:
    """Mix the classes, always in the same way: split files list them one by one."""
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))
    return indices[order]
