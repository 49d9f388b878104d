"""The weights and statistics that a search goes back to, in copies of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RewindPoint:
    """A network and its readout at one time.

    Attributes:
        network: Parameters and buffers but masks, by name: batch statistics too. What
            neurons remember within a sequence is in no state dict, so not here.
        readout: Of the readout, where there is one.
        trained_short: Whether it had been trained at fewer than all time steps.
    """

    network: dict[str, Tensor]
    readout: dict[str, Tensor] | None
    trained_short: bool

    @classmethod
    def of(
        cls, model: nn.Module, readout: nn.Module | None, trained_short: bool
    ) -> "RewindPoint":
        """Copy a network and its readout as they are now."""
        return cls(
            _copy(model), None if readout is None else _copy(readout), trained_short
        )

    @torch.no_grad()
    def restore(self, model: nn.Module, readout: nn.Module | None) -> None:
        """Write the copies back, bit for bit.

        Args:
            model: Whose masks stay as they are.
            readout: Where one was copied.
        """
        present = dict(model.state_dict(keep_vars=True))
        for name, value in self.network.items():
            present[name].copy_(value)
        if readout is not None and self.readout is not None:
            readout.load_state_dict(self.readout)

    def state_dict(self) -> dict[str, Any]:
        """Give the copies; they are not to be changed."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "RewindPoint":
        """Take over what `state_dict` gave."""
        return cls(**state)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().clone()
        for name, value in module.state_dict().items()
        if not name.endswith("weight_mask")
    }
