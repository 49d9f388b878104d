"""The state of a training run, its epochs, and how it is saved and restored."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from benchmarks.data.batches import Batch
from benchmarks.runs.config import CalibrationConfig, OptimizationConfig
from sj_ext.readout import (
    CrossEntropyLoss,
    Readout,
    ReadoutLoss,
    TemporallyWeightedOutput,
)
from sj_ext.surrogate import (
    MaskSchedule,
    calibrate_window,
    dense,
    gradient_density,
)
from sj_ext.surrogate.density import LayerDensity

_FORMAT = 2


@dataclass
class Selected:
    """The epoch that did best on the validation split, with what it had learned.

    Attributes:
        epoch: How many epochs it had been trained for; 0 before any.
        accuracy: On the validation split, in [0, 1].
        loss: Cross-entropy on it; decides between equal accuracies.
        network: State dict of the network.
        readout: State dict of the readout.
    """

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    network: dict[str, Any] = field(default_factory=dict)
    readout: dict[str, Any] = field(default_factory=dict)


class Session:
    """Trains a network and its readout, epoch by epoch.

    Args:
        fabric: Launched; says where and in which precision to compute.
        network: `[T, N, C, H, W]` to logits `[T, N, K]`.
        readout: Logits `[T, N, K]` to `[N, K]`.
        settings: How long and how fast.
        batches_per_epoch: Batches of an epoch in each process; those that one optimizer
            step takes are in `settings`.
        mask_schedule: Moves a number of the network's masks with each of them.
        loss: What is minimised; None is the cross-entropy of what is read out, with
            the label smoothing of `settings`.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        readout: Readout,
        settings: OptimizationConfig,
        batches_per_epoch: int,
        mask_schedule: MaskSchedule | None = None,
        loss: ReadoutLoss | None = None,
    ) -> None:
        optimizer = make_optimizer(network, settings)
        self.fabric = fabric
        self.settings = settings
        self.network = network
        self.readout = readout.to(fabric.device)
        self.model, self.optimizer = fabric.setup(network, optimizer)
        steps_per_epoch = optimizer_steps(batches_per_epoch, settings)
        self.scheduler = LambdaLR(
            optimizer,
            warmup_cosine(
                total=settings.epochs * steps_per_epoch,
                warmup=round(settings.warmup_epochs * steps_per_epoch),
            ),
        )
        self.loss = loss or CrossEntropyLoss(settings.label_smoothing)
        self.mask_schedule = mask_schedule
        self.windows: dict[str, dict[str, float]] = {}
        # An ANN has no surrogate derivatives whose density could be measured.
        self.spiking = any(hasattr(m, "surrogate_function") for m in network.modules())
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.layers: dict[str, dict[str, float]] = {}
        self.density = LayerDensity()
        self.selected = Selected()

    def calibrate_windows(
        self, training: DataLoader[Batch], settings: CalibrationConfig
    ) -> None:
        """Choose the window of each layer; every process must call it, before training.

        Args:
            training: Loads the training part; measured are batches of the first epoch.
            settings: Which share of the derivatives to keep, and what to measure.
        """

        def inputs() -> Iterator[Tensor]:
            for batch in training:
                yield self.fabric.strategy.precision.convert_input(batch.frames)

        training.sampler.set_epoch(0)  # type: ignore[attr-defined]
        with self.fabric.autocast():
            found = calibrate_window(
                self.network,
                inputs(),
                settings.density,
                settings.batches,
                share_of_base=settings.share_of_base,
            )
        self.windows = {name: window._asdict() for name, window in found.items()}

    def train_epoch(
        self,
        training: DataLoader[Batch],
        validation: DataLoader[Batch] | None,
        advance: Callable[[int], None],
        test: DataLoader[Batch] | None = None,
    ) -> dict[str, float]:
        """Train for one epoch, validate, and move the readout's weights.

        The density of surrogate derivatives, the firing rate and the scheduled number
        of the masks are those of the epoch's last training batch; a network that does
        not spike has none of them.

        Args:
            training: Loads the training part.
            validation: Loads the validation part; without one (None) its figures are
                NaN, and the last epoch is the selected one.
            advance: Told how many samples are done, batch by batch.
            test: Loads the test part, where it is to be judged each epoch as well.

        Returns:
            The epoch's row of metrics.
        """
        training.sampler.set_epoch(self.epoch)  # type: ignore[attr-defined]
        learning_rate = self.scheduler.get_last_lr()[0]
        start = time.perf_counter()
        sums = self._train(training, advance)
        seconds = time.perf_counter() - start
        accuracy = loss = unweighted = math.nan
        weighted = isinstance(self.readout, TemporallyWeightedOutput)
        if validation is not None:
            logits, target = self.predict(validation)
            accuracy, loss = self.evaluate(logits, target)
            if weighted:
                unweighted = self.unweighted_accuracy(logits, target)
            self._count_heldout(logits, target)
        row: dict[str, float] = {
            "epoch": self.epoch + 1,
            "lr": learning_rate,
            "train_loss": sums["loss"] / sums["samples"],
            "train_accuracy": sums["correct"] / sums["samples"],
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            **self._of_last_batch(),
            "seconds": seconds,
            "samples_per_second": sums["samples"] / seconds,
        }
        if isinstance(self.readout, TemporallyWeightedOutput):
            weights = enumerate(self.readout.weight.tolist())
            row["validation_accuracy_unweighted"] = unweighted
            row["readout_deviation"] = self.readout.deviation
            row |= {f"readout_weight_{t}": w for t, w in weights}
        if test is not None:
            # Even going through a loader draws from torch's random state.
            with torch.random.fork_rng(devices=[]):
                row["test_accuracy"], _ = self.evaluate(*self.predict(test))
        self.history.append(row)
        better = (accuracy, -loss) > (self.selected.accuracy, -self.selected.loss)
        if validation is None or better:
            self.selected = Selected(
                self.epoch + 1,
                accuracy,
                loss,
                network=_copy(self.network.state_dict()),
                readout=_copy(self.readout.state_dict()),
            )
        self.readout.end_epoch()
        self.epoch += 1
        return row

    def _of_last_batch(self) -> dict[str, float]:
        found: dict[str, float] = {}
        if self.spiking:
            found["gradient_density"] = self.density.density
            found["firing_rate"] = self.density.firing_rate
        if self.mask_schedule is not None:
            before_step = self.mask_schedule.steps_taken - 1
            value = self.mask_schedule.value_at(before_step)
            found[f"mask_{self.mask_schedule.attribute}"] = value
        return found

    def _train(
        self, loader: DataLoader[Batch], advance: Callable[[int], None]
    ) -> dict[str, float]:
        self.model.train()
        self.readout.train()
        device = self.fabric.device
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        every, last = self.settings.accumulate, len(loader)
        for number, batch in enumerate(loader, start=1):
            frames, target = batch.frames.to(device), batch.target.to(device)
            # Of mixed samples the class with the larger share, as the readouts count.
            answer = target.argmax(1) if target.ndim == 2 else target
            steps_now = number % every == 0 or number == last
            # What is left at the end of an epoch makes a step of fewer batches.
            together = every if number <= last - last % every else last % every
            with self.fabric.no_backward_sync(self.model, enabled=not steps_now):
                if number == last and self.spiking:
                    logits = self._measured(frames)
                else:
                    logits = self.model(frames)
                others = self._of_evaluation(frames)
                loss = self.loss(logits, target, self.readout, **others)
                self.fabric.backward(loss / together)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"The training loss became {loss.item()} in epoch "
                    f"{self.epoch + 1}, batch {number}: lower `optimization.lr`, or "
                    "the strength of what the loss adds."
                )
            if steps_now:
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.scheduler.step()
                if self.mask_schedule is not None:
                    self.mask_schedule.step()
            output = self.readout(logits.detach())
            self.readout.update(logits.detach(), target)
            functional.reset_net(self.network)
            sums += torch.stack(
                [
                    loss.detach() * len(target),
                    (output.argmax(1) == answer).sum(),
                    torch.tensor(len(target), device=device),
                ]
            )
            advance(len(target))
        reduced = self.fabric.all_reduce(sums, reduce_op="sum")
        return dict(zip(("loss", "correct", "samples"), reduced.tolist(), strict=True))

    def _of_evaluation(self, frames: Tensor) -> dict[str, Any]:
        """Give a loss that differentiates the network what it needs for that."""
        if not self.loss.needs_parameters:
            return {}
        functional.reset_net(self.network)
        # Past Fabric's wrapper, which lets itself be differentiated by Fabric alone;
        # after the training pass, which changes running statistics in place.
        with dense(self.network), self.fabric.autocast():
            evaluated = self.network(
                self.fabric.strategy.precision.convert_input(frames)
            )
        return {"parameters": self.network.parameters(), "evaluated": evaluated}

    def _measured(self, frames: Tensor) -> Tensor:
        with gradient_density(self.network) as measured:
            logits: Tensor = self.model(frames)
        measured.all_reduce()
        self.density = measured.total
        self.layers = {
            name: {
                "gradient_density": layer.density,
                "firing_rate": layer.firing_rate,
            }
            for name, layer in measured.layers.items()
        }
        return logits

    @torch.no_grad()
    def predict(self, loader: DataLoader[Batch]) -> tuple[Tensor, Tensor]:
        """Compute the logits of every sample and step, in evaluation mode.

        Args:
            loader: Loads a part of the split, unshuffled.

        Returns:
            Logits `[T, n, K]`, float32, and targets `[n]`, on the CPU and in the
            order of the split, complete in every process.
        """
        self.model.eval()
        found = []
        for batch in loader:
            logits = self.model(batch.frames.to(self.fabric.device))
            functional.reset_net(self.network)
            found.append((logits.float().cpu(), batch.target, batch.index))
        logits, target, index = (
            torch.cat(parts, -1 if parts[0].ndim == 1 else 1)
            for parts in zip(*found, strict=True)
        )
        if self.fabric.world_size > 1:
            logits = torch.cat(list(self.fabric.all_gather(logits)), 1).cpu()
            target, index = (
                self.fabric.all_gather(part).flatten().cpu() for part in (target, index)
            )
        # The shares of several processes are padded with repeated samples.
        order = torch.empty(len(loader.dataset), dtype=torch.int64)  # type: ignore[arg-type]
        order[index] = torch.arange(len(index))
        return logits[:, order], target[order]

    @torch.no_grad()
    def evaluate(self, logits: Tensor, target: Tensor) -> tuple[float, float]:
        """Judge logits through the readout as it stands.

        Args:
            logits: `[T, n, K]`.
            target: `[n]`.

        Returns:
            Accuracy in [0, 1] and mean cross-entropy.
        """
        self.readout.eval()
        output = self.readout(logits.to(self.fabric.device)).cpu()
        accuracy = (output.argmax(1) == target).double().mean()
        return float(accuracy), float(nn.functional.cross_entropy(output, target))

    def unweighted_accuracy(self, logits: Tensor, target: Tensor) -> float:
        """Judge logits as if all weights of the weighted readout were 1.

        Args:
            logits: `[t, n, K]`.
            target: `[n]`.

        Returns:
            Accuracy in [0, 1].
        """
        assert isinstance(self.readout, TemporallyWeightedOutput)
        with self.readout.unweighted():
            accuracy, _ = self.evaluate(logits, target)
        return accuracy

    def _count_heldout(self, logits: Tensor, target: Tensor) -> None:
        """Show the readout the validation part, in case its weights follow that."""
        self.readout.eval()
        # Every process has all of it, and the readout sums over processes.
        share = slice(self.fabric.global_rank, None, self.fabric.world_size)
        own = logits[:, share].to(self.fabric.device)
        self.readout.update(own, target[share].to(self.fabric.device))

    def use_selected(self) -> None:
        """Put the validation-selected weights back into network and readout."""
        self.network.load_state_dict(self.selected.network)
        self.readout.load_state_dict(self.selected.readout)

    def state(self) -> dict[str, Any]:
        """Collect all that resuming needs; every process must call it.

        Returns:
            Tensors, numbers, texts, lists and dicts.
        """
        rng = {"cpu": self._of_each_process(torch.get_rng_state())}
        if self.fabric.device.type == "cuda":
            cuda = torch.cuda.get_rng_state(self.fabric.device)
            rng["cuda"] = self._of_each_process(cuda)
        return {
            "format": _FORMAT,
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "mask_schedule": (
                None if self.mask_schedule is None else self.mask_schedule.state_dict()
            ),
            "windows": self.windows,
            "readout": self.readout.state_dict(),
            "selected": dict(vars(self.selected)),
            "history": self.history,
            "layers": self.layers,
            "rng": rng,
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was collected.

        Args:
            state: What `state()` returned, possibly in another process.

        Raises:
            ValueError: If another version of the program wrote it.
        """
        if state["format"] != _FORMAT:
            raise ValueError(f"it has format {state['format']}, not {_FORMAT}")
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.mask_schedule is not None:
            self.mask_schedule.load_state_dict(state["mask_schedule"])
        self.windows = state["windows"]
        for name, window in self.windows.items():
            surrogate = self.network.get_submodule(name).surrogate_function
            surrogate.mask.half_width = window["half_width"]
        self.readout.load_state_dict(state["readout"])
        self.selected = Selected(**state["selected"])
        self.history = state["history"]
        self.layers = state["layers"]
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        rank = self.fabric.global_rank
        # torch reads a state from the start of its storage: a row must be a copy.
        torch.set_rng_state(state["rng"]["cpu"][rank].clone())
        if "cuda" in state["rng"]:
            own = state["rng"]["cuda"][rank].clone()
            torch.cuda.set_rng_state(own, self.fabric.device)

    def _of_each_process(self, own: Tensor) -> Tensor:
        gathered = self.fabric.all_gather(own)
        return gathered.reshape(self.fabric.world_size, -1).cpu()


def optimizer_steps(batches: int, settings: OptimizationConfig) -> int:
    """Count the optimizer steps that so many batches make."""
    return math.ceil(batches / settings.accumulate)


def warmup_cosine(total: int, warmup: int) -> Callable[[int], float]:
    """Make the factor on the learning rate: a linear rise, then half a cosine to 0.

    Args:
        total: Optimizer steps in all.
        warmup: How many of them rise.

    Returns:
        Factor in [0, 1] by step, counted from 0.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return factor


def make_optimizer(
    network: nn.Module, settings: OptimizationConfig
) -> torch.optim.Optimizer:
    """Make the optimizer that a configuration names, of all parameters."""
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(network.parameters(), momentum=momentum, **common)
    return torch.optim.AdamW(network.parameters(), **common)


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.detach().cpu().clone() for key, value in state.items()}
