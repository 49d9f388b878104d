"""Reading tensors while a pass still runs, so that they need not be kept to its end.

What is foreseen is compared at the end with what `read` and `group` find.
"""

from sj_ext.taps.layout import (
    Call,
    Kind,
    Layout,
    Reading,
    Seen,
    TimeAxisError,
)
from sj_ext.taps.time_axis import fits_input


def foresee(
    call: Call | None, network: Call, T: int | None, batch_first: bool
) -> Reading | None:
    """Conclude T and N from the first module that shows them.

    Args:
        call: Of a module; None where the network has none with steps.
        network: The call of the network as a whole, which has begun.
        T: As declared.
        batch_first: As declared.

    Returns:
        The reading that the pass will have, None while nothing tells.
    """
    shape = network.inputs[0].shape if network.inputs else ()
    if not shape:
        return None
    if call is None:
        return Reading(1, shape[0]) if T is None and not batch_first else None
    if call.kind is not Kind.MULTI_STEP or not call.inputs:
        return None
    if len(call.inputs[0].shape) < 2:
        return None
    steps, samples = call.inputs[0].shape[:2]
    if T not in (None, steps) or not fits_input(steps, samples, shape, batch_first):
        return None
    return Reading(steps, samples, multi_step=True, batch_first=batch_first)


def foreseen_layout(reading: Reading, call: Call, seen: Seen) -> Layout | None:
    """Say where the axes of an output stand, if nothing later can change it.

    Args:
        reading: What was foreseen.
        call: That gave the output.
        seen: The output.

    Returns:
        Its layout; None where that is uncertain, or where it can be one of several
        steps that belong together.
    """
    try:
        layout = reading.layout(call.name, seen, call.kind)
    except TimeAxisError:
        return None
    is_step = layout is Layout.STATIC and reading.T > 1
    return None if is_step else layout
