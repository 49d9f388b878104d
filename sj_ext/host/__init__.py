"""The one door to what differs between SpikingJelly releases or is private there.

One module a release holds the same few functions; which of them runs is chosen at
import. What is private but the same in all releases stands in modules of its own.
"""

# Selected before anything of the host is imported, so that a host that is missing or
# too old gets a message and no other error.
from sj_ext.host._nodes import (
    memories,
    set_memories,
    set_step_mode,
    set_store_v_seq,
    twin,
)
from sj_ext.host._selection import RELEASE, SUPPORTED, UnsupportedHostError, module
from sj_ext.host._surrogates import surrogate_arguments, surrogate_classes

nodes_without_gradient_in_eval = module.nodes_without_gradient_in_eval
multi_step_backends = module.multi_step_backends
set_kernel = module.set_kernel
enter_registry = module.enter_registry
surrogate_refusal = module.surrogate_refusal
fused_refusal = module.fused_refusal
fused_forward = module.fused_forward
fused_backward = module.fused_backward

__all__ = [
    "RELEASE",
    "SUPPORTED",
    "UnsupportedHostError",
    "enter_registry",
    "fused_backward",
    "fused_forward",
    "fused_refusal",
    "memories",
    "multi_step_backends",
    "nodes_without_gradient_in_eval",
    "set_kernel",
    "set_memories",
    "set_step_mode",
    "set_store_v_seq",
    "surrogate_arguments",
    "surrogate_classes",
    "surrogate_refusal",
    "twin",
]
