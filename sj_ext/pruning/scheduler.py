"""Iterative pruning, round by round, that runs short where information comes early."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from sj_ext.processes import is_distributed
from sj_ext.pruning.choice import SCOPES, Scope, choose
from sj_ext.pruning.counting import counted
from sj_ext.pruning.early_time import TimeChoice, TimeRule
from sj_ext.pruning.ledger import CostLedger, Purpose, SparseOperations
from sj_ext.pruning.limits import Limits, bounds_at, limits_of
from sj_ext.pruning.report import LayerReport, PruningReport, RoundReport
from sj_ext.pruning.rewinding import RewindPoint
from sj_ext.pruning.scores import Score
from sj_ext.pruning.sparsity import SparsitySchedule, plan
from sj_ext.pruning.weights import MaskedWeights, parameter_of, prunable
from sj_ext.readout import Readout
from sj_ext.registry import create
from sj_ext.taps.selection import unwrap

_FORMAT = 2


class FisherPruningScheduler:
    """Prunes a network in rounds, each a training followed by `step`.

    A round trains the network at `time_steps` steps, the loss and the readout seeing
    those alone; `step` then scores the weights at that number of steps, prunes the
    lowest, and rewinds the rest to an earlier time. `probe` chooses the number of
    steps from a network that was trained at full T; after the last round it is T
    again, for the final training.

        scheduler = FisherPruningScheduler(net, optimizer, rounds=10, T=10)
        train(net, epochs=2)                            # at full T
        scheduler.set_rewind_point()
        scheduler.probe(loader)                         # T'
        while not scheduler.finished:
            for x, target in loader:                    # x: [T, N, ...]
                logits = net(x[: scheduler.time_steps])
                loss = cross_entropy(logits.mean(0), target)
                ...
                scheduler.charge_training(samples=len(target), seconds=...)
            scheduler.step(loader)
        train(net, epochs=10)                           # `time_steps` is T again
        scheduler.finalize()

    Rounds are those of iterative magnitude pruning with rewinding (Frankle et al.,
    arXiv 1912.05671); the steps are few where temporal Fisher information (Kim et al.,
    arXiv 2211.14406) is early.

    Masks are those of `torch.nn.utils.prune`: from the construction of the scheduler
    on, a prunable layer has `weight_orig`, the same parameter as before, and
    `weight_mask`, under these keys in the state dict too, until `finalize` gives
    `weight` back, dense with zeros. The masks need no care in training: pruned weights,
    and the optimizer's memory of them, are exactly zero after each optimizer step,
    whatever momentum or weight decay it has. The optimizer must step by its own
    `step` (as also AMP's scaler and DDP do). Under `torch.distributed` every process
    has its own scheduler and calls it alike: scores of Fisher information are averaged
    over processes, and the masks are those of the first.

    Args:
        model: Returns logits of every step, `[T, N, K]`.
        optimizer: Of its parameters.
        rounds: How many times to prune; with `schedule`, None or its length.
        fraction: Share of the *remaining* prunable weights that each round prunes.
        schedule: Instead, the *total* sparsity after each round: a
            `SparsitySchedule`, or a list of numbers in (0, 1).
        scores: `"magnitude"`, `"fisher"`, `"fisher_magnitude"`, `"random"`, or a
            callable of (model, loader, steps) that returns a tensor for each layer
            by name; the lowest are pruned.
        scope: What scores are compared over: `"global"`, `"layer"` or `"balanced"`,
            see `sj_ext.pruning.choice.choose`.
        early_time: How T' is chosen by `probe`: a rule or its name, `"fisher"` being
            `EarlyTimeRule(share=0.9)`; None is full T, without probing.
        rewind: `"initial"`: the rewind point is now, unless `set_rewind_point` moves
            it; None: weights are not rewound.
        exclude: Layers to leave whole: names, patterns or classes. Biases, batch norm,
            neurons and the last layer are left whole in any case.
        prune_readout: Whether the last layer is pruned too.
        limits: Of all layers, or by name; a layer without any keeps at least one
            weight.
        T: Number of time steps; by default that of the readout.
        readout: Whose weights over time count in scores and probing, and which is
            rewound too; None is the mean.
        seed: Of scores that draw.

    Attributes:
        ledger: What the search has cost, see `CostLedger`; under `torch.distributed`,
            in this process: `merge` adds those of others.
        operations: Synaptic operations of one sample-step forward, charged with
            everything from when it is set (see `SynapticOperations`); None charges
            none.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is outside its range.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        rounds: int | None = None,
        fraction: float = 0.25,
        schedule: SparsitySchedule | Sequence[float] | None = None,
        scores: str | Score = "fisher",
        scope: Scope = "global",
        early_time: TimeRule | str | None = "fisher",
        rewind: Literal["initial"] | None = "initial",
        exclude: Sequence[str | type[nn.Module]] = (),
        prune_readout: bool = False,
        limits: Limits | Mapping[str, Limits] | None = None,
        *,
        T: int | None = None,
        readout: Readout | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"Expected `model` to be a module, got {type(model).__name__}."
            )
        if scope not in SCOPES:
            raise ValueError(
                f"Expected `scope` to be one of {', '.join(SCOPES)}, got {scope!r}."
            )
        if rewind not in ("initial", None):
            raise ValueError(
                f"Expected `rewind` to be 'initial' or None, got {rewind!r}."
            )
        if isinstance(early_time, str):
            early_time = create("early_time", early_time)
        if early_time is not None and not isinstance(early_time, TimeRule):
            raise TypeError(
                "Expected `early_time` to be a rule such as EarlyTimeRule(), its name, "
                f"or None, got {early_time!r}."
            )
        T = readout.T if T is None and readout is not None else T
        if not isinstance(T, int) or isinstance(T, bool) or T < 1:
            raise ValueError(
                f"Expected `T` to be the number of time steps, got {T!r}: give it, or "
                "a `readout` that has it."
            )
        self.model = unwrap(model)
        self.T = T
        self.early_time = early_time
        self.ledger = CostLedger()
        self.operations: SparseOperations | None = None
        self._readout = readout
        self._optimizer = optimizer
        self._scope = scope
        self._score = self._made(scores, seed)
        # What a resumed search must agree in.
        self._settings = {
            "T": T,
            "scores": scores if isinstance(scores, str) else _name_of(scores),
            "scope": scope,
            "early_time": None if early_time is None else _name_of(early_time),
            "rewinding": rewind is not None,
        }
        layers = prunable(self.model, exclude, prune_readout)
        sizes = {name: parameter_of(module).numel() for name, module in layers.items()}
        self._plan = plan(sum(sizes.values()), rounds, fraction, schedule)
        self._limits = limits_of(limits, sizes)
        self._sizes = sizes
        self._weights = MaskedWeights(layers, optimizer)
        self._rewinding = rewind is not None
        self._point: RewindPoint | None = None
        self._history: list[RoundReport] = []
        self._choices: list[TimeChoice] = []
        self._steps: int | None = None
        self._trained_short = False
        self._finalized = False
        if self._rewinding:
            self.set_rewind_point()

    @property
    def score(self) -> Score:
        """What the weights are scored by."""
        return self._score

    def _made(self, scores: str | Score, seed: int) -> Score:
        if not isinstance(scores, str):
            if not callable(scores):
                raise TypeError(
                    f"Expected `scores` to be a name or a callable, got {scores!r}."
                )
            return scores
        arguments: dict[str, Any] = {}
        if scores != "magnitude":
            arguments["seed"] = seed
        if scores.startswith("fisher"):
            arguments["readout"] = self._readout
        made: Score = create("pruning_score", scores, **arguments)
        return made

    @property
    def rounds(self) -> int:
        """How many rounds the search has."""
        return len(self._plan)

    @property
    def round(self) -> int:
        """How many of them have ended."""
        return len(self._history)

    @property
    def finished(self) -> bool:
        """Whether the last round has ended; what is left is the final training."""
        return self.round == self.rounds

    @property
    def time_steps(self) -> int:
        """How many time steps training in this round needs.

        T' as `probe` chose it last; T before any probe and after the last round.
        """
        return self.T if self._steps is None or self.finished else self._steps

    @property
    def masks(self) -> dict[str, Tensor]:
        """A copy of the mask of each layer, bool, True where a weight remains."""
        self._check_open("masks")
        return self._weights.masks

    @property
    def sparsity(self) -> float:
        """Share of the prunable weights that is pruned."""
        return 1 - self._remaining() / sum(self._sizes.values())

    @property
    def choices(self) -> tuple[TimeChoice, ...]:
        """What each probe found."""
        return tuple(self._choices)

    def set_rewind_point(self) -> None:
        """Make the present weights, statistics and readout those to rewind to.

        Copies are kept that later training cannot touch. The states of neurons are
        not among them.

        Raises:
            ValueError: If the scheduler does not rewind.
        """
        self._check_open("set_rewind_point")
        if not self._rewinding:
            raise ValueError(
                "Expected `rewind` to be 'initial' for a rewind point, got None."
            )
        self._point = RewindPoint.of(self.model, self._readout, self._trained_short)

    def probe(self, loader: Iterable[Any]) -> int:
        """Choose T' from the network as it is, which was trained at full T.

        Its cost is charged under "probing".

        Args:
            loader: Batches of (x, target), x with all T steps.

        Returns:
            T'.

        Raises:
            RuntimeError: If the network has been trained at fewer steps, by what was
                charged, and not been rewound since.
        """
        self._check_open("probe")
        if self._trained_short:
            raise RuntimeError(
                f"Expected a network trained at full T={self.T} to probe, got one "
                f"trained at {self.time_steps} since it was last rewound: it says "
                "nothing of later steps."
            )
        if self.early_time is not None:
            with self.ledger.timed("probing"), counted(self.model) as steps:
                choice = self.early_time.choose(
                    self.model, loader, self.T, self._readout
                )
            self._charge("probing", steps.forward, steps.backward)
            self._choices.append(choice)
            self._steps = choice.steps
        return self.time_steps

    def charge_training(
        self, samples: int, seconds: float = 0.0, steps: int | None = None
    ) -> None:
        """Charge a training step, or several, to the ledger.

        Args:
            samples: That went forward and backward.
            seconds: That it took.
            steps: Time steps of each; by default `time_steps`.
        """
        steps = self.time_steps if steps is None else steps
        self._trained_short |= steps < self.T
        purpose: Purpose = "final" if self.finished else "training"
        self._charge(purpose, samples * steps, samples * steps, seconds)

    def step(self, loader: Iterable[Any] | None = None) -> RoundReport:
        """End a round: score, prune, rewind.

        Args:
            loader: Batches that scores are measured on; magnitude and random need
                none.

        Returns:
            What was done.

        Raises:
            RuntimeError: If all rounds have ended.
            ValueError: If the scores lack a layer, have another shape or are not
                finite, or the limits leave no way to the sparsity of this round.
        """
        self._check_open("step")
        if self.finished:
            raise RuntimeError(
                f"Expected `step` at most {self.rounds} times, as there are rounds, "
                "got one more."
            )
        start, steps = time.perf_counter(), self.time_steps
        with self.ledger.timed("scoring"), counted(self.model) as passes:
            scores = self._checked(self._score(self.model, loader, steps))
        self._charge("scoring", passes.forward, passes.backward)
        remaining = self._plan[self.round]
        with self.ledger.timed("scoring"):
            choice = choose(
                scores,
                self._weights.masks,
                remaining,
                self._scope,
                bounds_at(self._limits, self._sizes, remaining, self._plan[-1]),
            )
            self._weights.shrink(_of_first_process(choice.masks))
        with self.ledger.timed("rewinding"):
            rewound = self._rewind()
        report = RoundReport(
            number=self.round + 1,
            steps=steps,
            remaining=self._remaining(),
            sparsity=self.sparsity,
            guarded=choice.guarded,
            rewound=rewound,
            seconds=time.perf_counter() - start,
            scores=str(self._settings["scores"]),
        )
        self._history.append(report)
        return report

    def report(self) -> PruningReport:
        """Say what has been done so far, by layer and by round.

        Returns:
            The report; `print` shows it.
        """
        self._check_open("report")
        kept = {name: int(mask.sum()) for name, mask in self._weights.masks.items()}
        parameters = {id(parameter) for _, parameter, _ in self._weights.items()}
        return PruningReport(
            layers=tuple(
                LayerReport(
                    name,
                    tuple(p.shape),
                    p.numel(),
                    kept[name],
                    tuple(r.number for r in self._history if name in r.guarded),
                )
                for name, p, _ in self._weights.items()
            ),
            rounds=tuple(self._history),
            left_whole=tuple(
                name
                for name, parameter in self.model.named_parameters()
                if parameter.ndim >= 2 and id(parameter) not in parameters
            ),
            cost=self.ledger.state_dict(),
        )

    def sparse_state_dict(self) -> dict[str, Tensor]:
        """Give the network's state with pruned weights as sparse tensors.

        Returns:
            As `finalize` and `state_dict` would give it, but with sparse COO tensors
            for pruned layers.
        """
        self._check_open("sparse_state_dict")
        state: dict[str, Tensor] = dict(self.model.state_dict())
        for name in self._weights.layers:
            prefix = f"{name}." if name else ""
            original = state.pop(f"{prefix}weight_orig")
            mask = state.pop(f"{prefix}weight_mask")
            state[f"{prefix}weight"] = (mask * original).to_sparse()
        return state

    def finalize(self) -> nn.Module:
        """Leave a dense network with zeros, its former keys, and no masks.

        Nothing keeps the zeros from then on.

        Returns:
            The network.
        """
        self._check_open("finalize")
        self._weights.remove()
        self._finalized = True
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """Give all that resuming needs besides the network and its optimizer.

        Returns:
            Tensors, numbers, texts, lists and dicts: masks, position, T', rewind
            point, ledger and history.
        """
        self._check_open("state_dict")
        return {
            "format": _FORMAT,
            "plan": list(self._plan),
            "settings": dict(self._settings),
            "masks": self._weights.masks,
            "steps": self._steps,
            "trained_short": self._trained_short,
            "point": None if self._point is None else self._point.state_dict(),
            "ledger": self.ledger.state_dict(),
            "operations": None if self.operations is None else list(self.operations),
            "history": [
                dict(vars(one), guarded=list(one.guarded)) for one in self._history
            ],
            "choices": [
                {"steps": one.steps, "evidence": one.evidence} for one in self._choices
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state` was given; the network's state is loaded apart.

        In either order: the network's own state dict has the same keys in all rounds.

        Args:
            state: From a scheduler with the same arguments.

        Raises:
            ValueError: If it is from another version, another search or other layers.
        """
        self._check_open("load_state_dict")
        if state["format"] != _FORMAT:
            raise ValueError(
                f"Expected a state of format {_FORMAT}, got {state['format']}."
            )
        if list(state["plan"]) != list(self._plan):
            raise ValueError(
                f"Expected the state of a search that leaves {list(self._plan)} "
                f"weights round by round, got {list(state['plan'])}."
            )
        for name, value in self._settings.items():
            if state["settings"][name] != value:
                raise ValueError(
                    f"Expected the state of a search with {name} {value!r}, got "
                    f"{state['settings'][name]!r}."
                )
        self._weights.restore(state["masks"])
        self._steps = state["steps"]
        self._trained_short = state["trained_short"]
        point = state["point"]
        self._point = None if point is None else RewindPoint.from_state(point)
        self.ledger.load_state_dict(state["ledger"])
        operations = state["operations"]
        self.operations = None if operations is None else SparseOperations(*operations)
        self._history = [
            RoundReport(**{**one, "guarded": tuple(one["guarded"])})
            for one in state["history"]
        ]
        self._choices = [TimeChoice(**one) for one in state["choices"]]

    def _charge(
        self, purpose: Purpose, forward: int, backward: int, seconds: float = 0.0
    ) -> None:
        self.ledger.charge(
            purpose,
            forward=forward,
            backward=backward,
            seconds=seconds,
            operations=self.operations,
        )

    def _checked(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, parameter, _ in self._weights.items():
            score = scores.get(name)
            if score is None or score.shape != parameter.shape:
                got = "none" if score is None else list(score.shape)
                raise ValueError(
                    f"Expected `scores` {list(parameter.shape)} for {name!r}, got "
                    f"{got}."
                )
            # Scores from elsewhere may lie on another device than the weights.
            found[name] = score.to(parameter.device)
        return found

    def _rewind(self) -> bool:
        if self._point is None:
            return False
        self._point.restore(self.model, self._readout)
        self._trained_short = self._point.trained_short
        if self._optimizer is not None:
            # What it remembers belongs to weights that are no more.
            self._optimizer.state.clear()
        self._weights.clean()
        return True

    def _remaining(self) -> int:
        self._check_open("sparsity")
        return sum(int(mask.sum()) for mask in self._weights.masks.values())

    def _check_open(self, what: str) -> None:
        if self._finalized:
            raise RuntimeError(
                f"Expected `{what}` before `finalize`, which took the masks away."
            )


def _name_of(component: object) -> str:
    """Give the name of a function, or of the class of anything else."""
    name: str = getattr(component, "__name__", type(component).__name__)
    return name


def _of_first_process(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the masks of the first process in all: rounding may differ between them."""
    if is_distributed():
        for mask in masks.values():
            dist.broadcast(mask, src=0)
    return masks
