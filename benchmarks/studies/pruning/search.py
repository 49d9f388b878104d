"""One search, stage by stage, which goes on where a killed one stopped."""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.data.batches import Batch, batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.transforms import input_transform
from benchmarks.models.build import build_network
from benchmarks.runs.config import OptimizationConfig
from benchmarks.studies.inputs import as_tested
from benchmarks.studies.pruning.arms import ARMS, Stage, stages
from benchmarks.studies.pruning.config import PruningConfig, Trial
from benchmarks.training.session import make_optimizer, warmup_cosine
from sj_ext.pruning import (
    ConstantTimeRule,
    CostLedger,
    CubicSparsity,
    EarlyTimeRule,
    FisherPruningScheduler,
    KLTimeRule,
    ListedSparsity,
    SparseOperations,
    SynapticOperations,
    TimeRule,
)
from sj_ext.pruning.counting import counted

_FORMAT = 1
_EVALUATED_AT_ONCE = 134


class Search:
    """A network on its way through the stages of an arm.

    Args:
        trial: Which arm, seed and target.
        frames: Recordings, pooled already.
        parts: Positions of the recordings of "train", "validation" and "test".
        device: What the network is trained on.
    """

    def __init__(
        self,
        trial: Trial,
        frames: EventFrames,
        parts: dict[str, Tensor],
        device: torch.device | str = "cpu",
    ) -> None:
        self.trial, self.config = trial, trial.study
        self.arm = ARMS[trial.arm]
        self.stages = stages(self.arm, self.config, trial.target)
        self.T = frames.time_steps
        self._frames, self._parts = frames, parts
        self._device = torch.device(device)
        self._training = batches(
            frames,
            parts["train"],
            self._settings.batch_size,
            shuffle=True,
            seed=trial.seed,
            augment=input_transform(self.config.train.data, training=False),
            device=self._device,
        )
        torch.manual_seed(trial.seed)
        # Made on the CPU, so that first weights are the same on every device.
        self.net = build_network(self.config.train, frames).to(self._device)
        self.optimizer = make_optimizer(self.net, self._settings)
        self.scheduler = FisherPruningScheduler(
            self.net,
            self.optimizer,
            schedule=self._schedule(),
            scores=self.arm.scores,
            early_time=time_rule(self.arm.rule, self.config, trial.seed),
            rewind=None if self.arm.kind == "gradual" else "initial",
            T=self.T,
            seed=trial.seed,
        )
        self.stage = 0
        self.steps_done = 0
        self.round_steps = round(self.config.round_epochs * self._steps_per_epoch)
        self.outcomes: list[dict[str, Any]] = []
        self._final: _Final | None = None

    @property
    def finished(self) -> bool:
        """Whether all stages have ended."""
        return self.stage == len(self.stages)

    @property
    def epochs(self) -> float:
        """Epochs of training in all, as far as is known before T' is."""
        each = self.round_steps / self._steps_per_epoch
        return sum(each if s.epochs is None else s.epochs for s in self.stages)

    def advance(self) -> None:
        """Do the next piece of work: an epoch of training, or another whole stage.

        Between two calls `state` holds all that going on needs.
        """
        stage = self.stages[self.stage]
        if stage.kind in ("train", "judge"):
            ended = self._train(stage)
        else:
            ended = True
            self._mark() if stage.kind == "mark" else self._prune()
        if ended:
            self.stage += 1
            self.steps_done = 0

    def result(self) -> dict[str, Any]:
        """Say what came out.

        Returns:
            As JSON has it: `arm`, `seed`, `time_steps` of the rounds, what probes saw,
            and an entry of `outcomes` for each sparsity that was tested.
        """
        choices = self.scheduler.choices
        return {
            "arm": self.trial.arm,
            "seed": self.trial.seed,
            "time_steps": choices[-1].steps if choices else self.T,
            "round_epochs": self.round_steps / self._steps_per_epoch,
            "evidence": choices[-1].evidence if choices else {},
            "outcomes": self.outcomes,
        }

    def state(self) -> dict[str, Any]:
        """Collect all that going on needs.

        Returns:
            Tensors, numbers, texts, lists and dicts.
        """
        return {
            "format": _FORMAT,
            "stage": self.stage,
            "steps_done": self.steps_done,
            "round_steps": self.round_steps,
            "network": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "outcomes": self.outcomes,
            "final": None if self._final is None else self._final.state(),
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was collected.

        Args:
            state: Of the same trial, possibly in another process.

        Raises:
            ValueError: If another version of the program wrote it.
        """
        if state["format"] != _FORMAT:
            raise ValueError(f"it has format {state['format']}, not {_FORMAT}")
        self.stage = state["stage"]
        self.steps_done = state["steps_done"]
        self.round_steps = state["round_steps"]
        self.net.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.outcomes = state["outcomes"]
        if state["final"] is not None:
            self._final = _Final(self.net, self.optimizer, self._settings, self._forks)
            self._final.restore(state["final"])
        torch.set_rng_state(state["rng"])

    def _train(self, stage: Stage) -> bool:
        """Train to the end of an epoch or of the stage; tell whether it has ended."""
        each = self._steps_per_epoch
        total = self.round_steps if stage.epochs is None else round(stage.epochs * each)
        net, optimizer = self.net, self.optimizer
        if stage.kind == "judge":
            if self._final is None:
                self._final = _Final(net, optimizer, self._settings, self._forks)
            net, optimizer = self._final.net, self._final.optimizer
        T = self.T if stage.full else self.scheduler.time_steps
        until = min(self.steps_done + each, total)
        self._training.sampler.set_epoch(  # type: ignore[attr-defined]
            stage.order + self.steps_done // each
        )
        start, samples = time.perf_counter(), 0
        factor, offset = self._factor(stage, total)
        net.train()
        for number, batch in zip(
            range(self.steps_done, until), self._training, strict=False
        ):
            for group in optimizer.param_groups:
                group["lr"] = self._settings.lr * factor(offset + number)
            loss = F.cross_entropy(
                net(batch.frames[:T]).mean(0), batch.target.to(self._device)
            )
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"The loss of {self.trial.name} became {loss.item()}: lower "
                    "`train.optimization.lr`."
                )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            functional.reset_net(net)
            samples += len(batch.target)
        seconds = time.perf_counter() - start
        self.steps_done = until
        ended = until >= total
        operations = self._operations(net, T)
        if stage.kind == "judge":
            self._judge(samples * T, seconds, operations, ended)
        else:
            self.scheduler.operations = operations
            self.scheduler.charge_training(samples, seconds, steps=T)
        return ended

    def _factor(self, stage: Stage, total: int) -> tuple[Callable[[int], float], int]:
        """Give the factor on the learning rate by step, and where the stage begins."""
        each, settings = self._steps_per_epoch, self._settings
        warmup = round(settings.warmup_epochs * each)
        if stage.part is not None:
            first, epochs = stage.part
            return warmup_cosine(epochs * each, warmup), first * each
        if not stage.decays:
            return (lambda step: min(1.0, (step + 1) / max(1, warmup))), 0
        return warmup_cosine(total, min(warmup, total // 2)), 0

    def _mark(self) -> None:
        self.scheduler.set_rewind_point()
        loader = self._inputs(self.config.probe_samples)
        self.scheduler.probe(loader)
        if self.arm.at_equal_cost:
            rule = time_rule("fisher", self.config, self.trial.seed)
            assert rule is not None
            with counted(self.net) as passes:
                chosen = rule.choose(self.net, loader, self.T)
            # What the other search spends on its probe, this one may train for.
            probe = (passes.forward + passes.backward) / (2 * self.T)
            probe /= self._settings.batch_size * len(self.config.schedule)
            self.round_steps = round(self.round_steps * chosen.steps / self.T + probe)

    def _prune(self) -> None:
        loader = None
        if self.arm.scores.startswith("fisher"):
            loader = self._inputs(self.config.score_samples)
        self.scheduler.step(loader)

    def _judge(
        self,
        sample_steps: int,
        seconds: float,
        operations: SparseOperations,
        ended: bool,
    ) -> None:
        final = self._final
        assert final is not None
        final.ledger.charge(
            "final",
            forward=sample_steps,
            backward=sample_steps,
            seconds=seconds,
            operations=operations,
        )
        final.end_epoch(*self._evaluated(final.net, "validation"))
        if not ended:
            return
        test = {"last": self._evaluated(final.net, "test")[0]}
        final.net.load_state_dict(final.best["network"])
        test["selected"] = self._evaluated(final.net, "test")[0]
        cost = CostLedger()
        cost.merge(self.scheduler.ledger)
        cost.merge(final.ledger)
        report = self.scheduler.report()
        counts = self._counted(final.net, self.T)
        self.outcomes.append(
            {
                "sparsity": report.sparsity,
                "test_accuracy": test,
                "validation_accuracy": final.best["accuracy"],
                "selected_epoch": final.best["epoch"],
                "cost": cost.state_dict(),
                "layers": {
                    one.name: {"weights": one.weights, "remaining": one.remaining}
                    for one in report.layers
                },
                "accumulates": counts.accumulates,
                "multiply_accumulates": counts.multiply_accumulates,
            }
        )
        self._final = None

    @torch.no_grad()
    def _evaluated(self, net: nn.Module, part: str) -> tuple[float, float]:
        """Give accuracy and loss on a part of the split, at full T."""
        net.eval()
        correct, loss, samples = 0, 0.0, 0
        for batch in self._batches(self._parts[part], _EVALUATED_AT_ONCE):
            output = net(batch.frames).mean(0)
            functional.reset_net(net)
            target = batch.target.to(self._device)
            correct += int((output.argmax(1) == target).sum())
            loss += float(F.cross_entropy(output, target, reduction="sum"))
            samples += len(target)
        return correct / samples, loss / samples

    def _operations(self, net: nn.Module, T: int) -> SparseOperations:
        """Count the synaptic operations of one sample-step."""
        found = self._counted(net, T)
        return SparseOperations(found.accumulates / T, found.multiply_accumulates / T)

    def _counted(self, net: nn.Module, T: int) -> Any:
        chosen = self._parts["validation"][: self.config.operation_samples]
        (batch,) = self._batches(chosen, len(chosen))
        counter = SynapticOperations(net)
        counter.update(batch.frames[:T])
        return counter.compute()

    def _inputs(self, samples: int) -> list[tuple[Tensor, Tensor]]:
        """Load the first training recordings of an order of the seed's own."""
        generator = torch.Generator().manual_seed(self.trial.seed)
        indices = self._parts["train"]
        chosen = indices[torch.randperm(len(indices), generator=generator)[:samples]]
        loaded: Iterator[Batch] = iter(self._batches(chosen, 64))
        return [(batch.frames, batch.target.to(self._device)) for batch in loaded]

    def _batches(self, indices: Tensor, size: int) -> DataLoader[Batch]:
        data = self.config.train.data
        return as_tested(data, self._frames, indices, size, self._device)

    def _schedule(self) -> ListedSparsity | CubicSparsity:
        if self.trial.target is not None:
            return CubicSparsity(self.trial.target, self.config.gradual_epochs)
        return ListedSparsity(self.config.schedule)

    @property
    def _forks(self) -> bool:
        """Whether a final training is that of a copy, with an optimizer of its own."""
        return self.arm.kind != "gradual"

    @property
    def _settings(self) -> OptimizationConfig:
        return self.config.train.optimization

    @property
    def _steps_per_epoch(self) -> int:
        return len(self._training)


class _Final:
    """A final training: of a copy, where the search itself goes on from before it.

    Args:
        net: The network with its masks.
        optimizer: Of `net`; a copy gets one of its own, with an empty memory.
        settings: Of the optimizer.
        forks: Whether to take a copy.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: OptimizationConfig,
        forks: bool,
    ) -> None:
        self.net, self.optimizer = net, optimizer
        if forks:
            # Masked in the forward pass, its pruned weights have no gradient.
            self.net = copy.deepcopy(net)
            self.optimizer = make_optimizer(self.net, settings)
        self.ledger = CostLedger()
        self.epochs = 0
        self.best: dict[str, Any] = {}

    def end_epoch(self, accuracy: float, loss: float) -> None:
        """Keep the network where it is the best so far on the validation part."""
        self.epochs += 1
        if self.best and (accuracy, -loss) <= (
            self.best["accuracy"],
            -self.best["loss"],
        ):
            return
        self.best = {
            "epoch": self.epochs,
            "accuracy": accuracy,
            "loss": loss,
            "network": {k: v.clone() for k, v in self.net.state_dict().items()},
        }

    def state(self) -> dict[str, Any]:
        """Collect all that going on needs."""
        return {
            "network": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ledger": self.ledger.state_dict(),
            "epochs": self.epochs,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was collected."""
        self.net.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ledger.load_state_dict(state["ledger"])
        self.epochs, self.best = state["epochs"], state["best"]


def time_rule(name: str | None, config: PruningConfig, seed: int) -> TimeRule | None:
    """Make the rule of an arm.

    Args:
        name: As in `Arm.rule`.
        config: Has its numbers.
        seed: Of drawn labels.

    Returns:
        The rule; None for full T.
    """
    if name == "fisher":
        # Exact: with so few samples an unbiased estimate scatters too much.
        return EarlyTimeRule(
            config.share, config.max_prefix_loss_gap, estimator="per_sample", seed=seed
        )
    if name == "kl":
        return KLTimeRule(config.kl_threshold)
    if name == "constant":
        assert config.constant_steps is not None
        return ConstantTimeRule(config.constant_steps)
    return None
