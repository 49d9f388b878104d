"""Which batch norms can be folded into the layer before them."""

from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class FoldedNorms:
    """Watches passes inside a `with` block for norms right behind a layer.

    A norm is folded where its input is what a layer gave, in whatever shape, with
    nothing computed between the two. The hooks are removed at the end.

    Args:
        net: The network.
        layers: Types that a norm can be folded into.

    Attributes:
        folded: Names of the norms that were right behind a layer in each call.
    """

    def __init__(self, net: nn.Module, layers: tuple[type[nn.Module], ...]) -> None:
        self._net, self._layers = net, layers
        self._given: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._apart: set[str] = set()
        self._behind: set[str] = set()

    @property
    def folded(self) -> set[str]:
        """Names of the norms that were right behind a layer in each call."""
        return self._behind - self._apart

    def __enter__(self) -> "FoldedNorms":
        for name, module in self._net.named_modules():
            if isinstance(module, self._layers):
                self._handles.append(module.register_forward_hook(self._note))
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                self._handles.append(
                    module.register_forward_pre_hook(self._judge(name))
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._given.clear()

    def _note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            # Kept until the end, so that no other tensor can come to its address.
            self._given[output.data_ptr()] = output

    def _judge(self, name: str) -> Any:
        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0]
            given = self._given.get(x.data_ptr())
            behind = given is not None and given.numel() == x.numel()
            (self._behind if behind else self._apart).add(name)

        return before
