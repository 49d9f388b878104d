"""What a search costs, on three accounts that are never mixed.

Dense sample-steps: one time step of one sample through the whole network, forward or
backward. Seconds: of the wall clock. Sparse operations: the synaptic operations in
theory, without pruned weights and absent spikes; no dense hardware saves them.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

Purpose = Literal["training", "scoring", "probing", "rewinding", "final"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


class SparseOperations(NamedTuple):
    """Synaptic operations.

    Attributes:
        accumulates: Additions of a weight, caused by a spike.
        multiply_accumulates: Additions of a weight times a number.
    """

    accumulates: float = 0.0
    multiply_accumulates: float = 0.0

    def times(self, factor: float) -> "SparseOperations":
        """Multiply both."""
        return SparseOperations(*(factor * count for count in self))


@dataclass
class Cost:
    """What has been spent on one purpose.

    Attributes:
        forward: Dense sample-steps of forward passes.
        backward: Dense sample-steps of backward passes.
        seconds: Of the wall clock.
        accumulates: In theory.
        multiply_accumulates: In theory.
    """

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0
    accumulates: float = 0.0
    multiply_accumulates: float = 0.0

    @property
    def sample_steps(self) -> int:
        """Dense sample-steps, forward and backward."""
        return self.forward + self.backward

    def add(self, other: "Cost") -> None:
        """Add another cost, account by account."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class CostLedger:
    """The cost of a search, by purpose.

    `"training"` is that of the rounds, `"final"` that of the training after the last
    one; `"scoring"`, `"probing"` and `"rewinding"` are charged by the scheduler.

        ledger.charge("training", forward=n * T, backward=n * T, seconds=s)
        ledger.total().sample_steps
        print(ledger)

    The theoretical operations of a backward pass are counted as twice those of the
    forward pass over the same steps, once for the gradients of the inputs and once
    for those of the weights: a convention, as kernels that skip zeros in both would
    need.
    """

    def __init__(self) -> None:
        self.costs: dict[Purpose, Cost] = {purpose: Cost() for purpose in PURPOSES}

    def charge(
        self,
        purpose: Purpose,
        *,
        forward: int = 0,
        backward: int = 0,
        seconds: float = 0.0,
        operations: SparseOperations | None = None,
    ) -> None:
        """Enter what something cost.

        Args:
            purpose: What it was for.
            forward: Sample-steps forward: samples times time steps.
            backward: Sample-steps backward.
            seconds: Of the wall clock.
            operations: Synaptic operations of one sample-step forward; None where
                they are not followed.

        Raises:
            ValueError: If the purpose is unknown or a number is negative.
        """
        if purpose not in self.costs:
            raise ValueError(
                f"Expected `purpose` to be one of {', '.join(PURPOSES)}, got "
                f"{purpose!r}."
            )
        for name, value in (
            ("forward", forward),
            ("backward", backward),
            ("seconds", seconds),
        ):
            if not value >= 0:
                raise ValueError(f"Expected `{name}` of at least 0, got {value!r}.")
        each = (operations or SparseOperations()).times(forward + 2 * backward)
        self.costs[purpose].add(Cost(forward, backward, seconds, *each))

    @contextmanager
    def timed(self, purpose: Purpose) -> Iterator[None]:
        """Charge the seconds that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.charge(purpose, seconds=time.perf_counter() - start)

    def total(self) -> Cost:
        """Add up all purposes, each account by itself."""
        found = Cost()
        for cost in self.costs.values():
            found.add(cost)
        return found

    def merge(self, other: "CostLedger") -> None:
        """Add the costs of another search, or of another part of this one."""
        for purpose, cost in other.costs.items():
            self.costs[purpose].add(cost)

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Give all costs as numbers."""
        return {purpose: asdict(cost) for purpose, cost in self.costs.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what `state_dict` gave.

        Args:
            state: For every purpose.

        Raises:
            ValueError: If the purposes are others.
        """
        if set(state) != set(PURPOSES):
            raise ValueError(
                f"Expected costs of {', '.join(PURPOSES)}, got those of "
                f"{', '.join(state)}."
            )
        self.costs = {purpose: Cost(**state[purpose]) for purpose in PURPOSES}

    def __str__(self) -> str:
        """Show a table with a line for each purpose."""
        lines = [
            f"{'purpose':<10} {'forward':>12} {'backward':>12} {'seconds':>9} "
            f"{'accumulates':>12} {'multiply-acc.':>13}"
        ]
        for name, cost in [*self.costs.items(), ("total", self.total())]:
            lines.append(
                f"{name:<10} {cost.forward:>12} {cost.backward:>12} "
                f"{cost.seconds:>9.1f} {cost.accumulates:>12.3g} "
                f"{cost.multiply_accumulates:>13.3g}"
            )
        return "\n".join(lines)
