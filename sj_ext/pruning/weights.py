"""Which weights are pruned, and the masks on them, by `torch.nn.utils.prune`.

A pruned weight is exactly zero in the parameter itself too, and so is all that the
optimizer remembers of it: nothing can bring it back.
"""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim import Optimizer

from sj_ext.taps.selection import unwrap

_KINDS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
# Their weights pass through a standardisation, after which zeros are zero no more.
_STANDARDISED = (layer.WSConv2d, layer.WSLinear)
_MASK, _ORIGINAL = "weight_mask", "weight_orig"


def prunable(
    model: nn.Module,
    exclude: Sequence[str | type[nn.Module]] = (),
    prune_readout: bool = False,
) -> dict[str, nn.Module]:
    """Find the layers whose weights may be pruned.

    These are the linear and convolutional layers, torch's and the host's. Biases, the
    parameters of batch norm and of neurons are never pruned, and the last layer, which
    gives the logits, only on request.

    Args:
        model: The network.
        exclude: Layers to leave whole: names, patterns as of `fnmatch` (such as
            `"features.0*"`) or classes. The name of a module leaves out all that it
            holds.
        prune_readout: Whether the last of the layers (in the order in which the
            network registers them) is pruned too.

    Returns:
        The layers by name, in the network's order.

    Raises:
        TypeError: If an entry of `exclude` is neither text nor a class of modules.
        ValueError: If an entry of `exclude` matches nothing, nothing is left, two
            layers share a weight, or a weight is computed from other parameters
            (weight normalisation or standardisation, other parametrisations).
    """
    layers = dict(_layers(model))
    kept = set(layers)
    if not prune_readout and layers:
        kept.discard(list(layers)[-1])
    for entry in exclude:
        found = {name for name in layers if _matches(name, layers[name], entry)}
        if not found:
            raise ValueError(
                "Expected each entry of `exclude` to match one of "
                f"{', '.join(layers)}, got {entry!r}, which matches none."
            )
        kept -= found
    chosen = {name: module for name, module in layers.items() if name in kept}
    if not chosen:
        raise ValueError(
            "Expected `model` to have linear or convolutional layers besides the last "
            f"that `exclude` does not leave out, got layers {', '.join(layers)}."
        )
    owners: dict[int, str] = {}
    for name, module in chosen.items():
        if not _is_plain(module):
            raise ValueError(
                "Expected weights that layers use as they are, got those of "
                f"{name!r} ({type(module).__name__}), computed from other parameters: "
                "a zero there is none in the layer. Exclude it."
            )
        weight = parameter_of(module)
        first = owners.setdefault(id(weight), name)
        if first != name:
            raise ValueError(
                f"Expected each weight to belong to one layer, got one that {first!r} "
                f"and {name!r} share: exclude both."
            )
    return chosen


def layer_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Go through the weights of all linear and convolutional layers.

    Args:
        model: The network, with masks or without.

    Yields:
        Name of the layer and its weight, the parameter.
    """
    for name, module in _layers(unwrap(model)):
        yield name, parameter_of(module)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, _KINDS):
            yield name, module


def parameter_of(module: nn.Module) -> Tensor:
    """Give the weight that optimizers know, under a mask or not."""
    original = module._parameters.get(_ORIGINAL)
    found: Tensor = module.weight if original is None else original  # type: ignore[assignment]
    return found


def _is_plain(module: nn.Module) -> bool:
    masked = _ORIGINAL in module._parameters and _MASK in module._buffers
    return (masked or "weight" in module._parameters) and not isinstance(
        module, _STANDARDISED
    )


def _matches(name: str, module: nn.Module, entry: str | type[nn.Module]) -> bool:
    if isinstance(entry, str):
        inside = bool(entry) and name.startswith(f"{entry}.")
        return inside or fnmatch.fnmatchcase(name, entry)
    if isinstance(entry, type) and issubclass(entry, nn.Module):
        return isinstance(module, entry)
    raise TypeError(
        f"Expected `exclude` to hold names, patterns or classes of modules, got "
        f"{entry!r}."
    )


class MaskedWeights:
    """The masks of a network's prunable weights, and what keeps zeros zero.

    While it holds the layers, each has `weight_orig` (the same parameter as before,
    which optimizers know) and `weight_mask` in place of `weight`, as
    `torch.nn.utils.prune` has it, from the beginning on: the keys of the network's
    state dict do not change from round to round. `remove` gives the former keys back.

    Args:
        layers: As from `prunable`.
        optimizer: Whose memory of pruned weights is cleared; None where there is none.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], optimizer: Optimizer | None = None
    ) -> None:
        self.layers = dict(layers)
        self._optimizer = optimizer
        self._orders = {
            name: [
                "weight" if parameter == _ORIGINAL else parameter
                for parameter in module._parameters
            ]
            for name, module in self.layers.items()
        }
        for name, module in self.layers.items():
            if prune.is_pruned(module) and _MASK not in module._buffers:
                raise ValueError(
                    f"Expected {name!r} to be unpruned or to have a mask on its "
                    "weight, got one pruned elsewhere."
                )
            if _MASK not in module._buffers:
                ones = torch.ones_like(parameter_of(module))
                prune.custom_from_mask(module, "weight", ones)
        self._hooks = [
            module.register_forward_hook(_detach) for module in self.layers.values()
        ]
        if optimizer is not None:
            self._hooks.append(optimizer.register_step_post_hook(self._after_step))

    def items(self) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
        """Go through the layers.

        Yields:
            Name, the parameter, and its mask of zeros and ones, in its dtype.
        """
        for name, module in self.layers.items():
            yield name, module._parameters[_ORIGINAL], module._buffers[_MASK]  # type: ignore[misc]

    @property
    def masks(self) -> dict[str, Tensor]:
        """Give a copy of each mask, bool: True where a weight remains."""
        return {name: mask.bool() for name, _, mask in self.items()}

    @torch.no_grad()
    def shrink(self, masks: Mapping[str, Tensor]) -> None:
        """Prune what `masks` leaves out.

        Args:
            masks: By layer, bool, of the shape of the weight.

        Raises:
            ValueError: If a mask would bring a pruned weight back.
        """
        for name, _, mask in self.items():
            new = masks[name].to(mask.device, torch.bool)
            if bool((new & ~mask.bool()).any()):
                raise ValueError(
                    f"Expected masks that never grow back, got one that revives "
                    f"weights of {name!r}."
                )
        self.restore(masks)

    @torch.no_grad()
    def restore(self, masks: Mapping[str, Tensor]) -> None:
        """Put masks of an earlier time back, also larger ones.

        Args:
            masks: By layer, as from `masks`.

        Raises:
            ValueError: If the layers or their shapes are others.
        """
        if set(masks) != set(self.layers):
            raise ValueError(
                f"Expected masks of {', '.join(self.layers)}, got those of "
                f"{', '.join(masks)}."
            )
        for name, _, mask in self.items():
            if masks[name].shape != mask.shape:
                raise ValueError(
                    f"Expected a mask {list(mask.shape)} for {name!r}, got "
                    f"{list(masks[name].shape)}."
                )
            mask.copy_(masks[name])
        self.clean()

    @torch.no_grad()
    def clean(self) -> None:
        """Make pruned weights, their gradients and what is remembered of them zero."""
        for name, parameter, mask in self.items():
            pruned = mask == 0
            parameter.masked_fill_(pruned, 0)
            if parameter.grad is not None:
                parameter.grad.masked_fill_(pruned, 0)
            memory = {} if self._optimizer is None else self._optimizer.state
            for value in memory.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(pruned, 0)
            # What is read between two passes is of the weights as they are now.
            self.layers[name].weight = (mask * parameter).detach()

    def remove(self) -> None:
        """Leave dense weights with zeros, under their former names, and no masks."""
        self.clean()
        for name, module in self.layers.items():
            prune.remove(module, "weight")
            # Optimizers know parameters by their place.
            for parameter in self._orders[name]:
                module._parameters[parameter] = module._parameters.pop(parameter)
        for hook in self._hooks:
            hook.remove()

    def _after_step(self, *_: object) -> None:
        self.clean()


def _detach(module: nn.Module, *_: object) -> None:
    """Take the masked weight out of the graph of the pass, so that it can be copied."""
    weight = module.__dict__.get("weight")
    if weight is not None:
        module.weight = weight.detach()
