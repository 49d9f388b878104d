"""Finding the time axis: what T and N are, from the shapes that a pass has shown.

Evidence counts in this order: the step mode of the module that took or gave a tensor,
the counts of elements against N and T, the declared T.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sj_ext.taps.layout import (
    Call,
    Kind,
    Layout,
    Reading,
    TimeAxisError,
    is_repeated,
)


def read(
    calls: Sequence[Call],
    selected: set[str],
    network: Call,
    T: int | None,
    batch_first: bool,
    earlier: dict[tuple[str, int], Layout | None] | None = None,
) -> Reading:
    """Find T and N of a pass.

    Args:
        calls: All calls of the pass, in the order in which they ended.
        selected: The layers that must be readable.
        network: The call of the network as a whole.
        T: As declared.
        batch_first: As declared.
        earlier: What `learn` has found in earlier passes.

    Returns:
        The only reading under which the evidence holds.

    Raises:
        TimeAxisError: If there is none, or several.
    """
    shape = network.inputs[0].shape if network.inputs else None
    if batch_first and shape is not None and len(shape) < 2:
        raise TimeAxisError(
            f"Expected an input [N, T, ...] with `batch_first`, got {list(shape)}."
        )
    if any(call.kind in (Kind.MULTI_STEP, Kind.TIME_LAST) for call in calls):
        T_N = _of_multi_step(calls, shape, T, batch_first)
        reading = Reading(*T_N, multi_step=True, batch_first=batch_first)
    elif any(call.kind is Kind.SINGLE_STEP for call in calls):
        reading = _of_single_step(calls, shape, T, batch_first)
    else:
        reading = _without_neurons(calls, selected, network, T, batch_first)
    known = _known(calls, network, reading)
    return replace(reading, known=known, earlier=earlier or {})


def learn(
    calls: Sequence[Call],
    selected: set[str],
    reading: Reading,
    earlier: dict[tuple[str, int], Layout | None],
) -> None:
    """Remember layouts for a batch, often the last, that has as many samples as steps.

    Args:
        calls: Of a pass.
        selected: The layers that are wanted.
        reading: Of the pass; nothing is learned where T = N.
        earlier: Filled; None for a layer that has had several layouts.
    """
    if reading.T == reading.N:
        return
    for call in calls:
        if call.name in selected:
            for seen in call.outputs:
                layout = reading.layout(call.name, seen, call.kind)
                place = call.name, len(seen.shape)
                same = earlier.setdefault(place, layout) is layout
                earlier[place] = layout if same else None


def _of_multi_step(
    calls: Sequence[Call],
    shape: tuple[int, ...] | None,
    T: int | None,
    batch_first: bool,
) -> tuple[int, int]:
    pairs = list(
        dict.fromkeys(
            (call.inputs[0].shape[0], call.inputs[0].shape[1])
            if call.kind is Kind.MULTI_STEP
            else (call.inputs[0].shape[-1], call.inputs[0].shape[0])
            for call in calls
            if call.kind in (Kind.MULTI_STEP, Kind.TIME_LAST)
            and call.inputs
            and len(call.inputs[0].shape) > 1
        )
    )
    candidates = list(pairs)
    if T is not None and shape:
        candidates += [(T, N) for N in shape[:2] if (T, N) not in pairs]
    fitting = [
        (t, n)
        for t, n in candidates
        if T in (None, t)
        and (shape is None or fits_input(t, n, shape, batch_first))
        and all((p == t and q == n) or p == t * n or q == n for p, q in pairs)
    ]
    if len(fitting) > 1:
        # What a module has said by itself counts before what was concluded.
        fitting = [pair for pair in fitting if pair in pairs] or fitting
    if len(fitting) == 1:
        return fitting[0]
    said = ", ".join(f"[{p}, {q}, ...]" for p, q in pairs)
    raise TimeAxisError(
        f"Expected the modules in step mode m to agree on [T, N, ...], got {said} with "
        f"an input {list(shape or ())}, T = {T} declared and batch_first = "
        f"{batch_first}. Declare `T`, or `batch_first` for an input [N, T, ...]."
    )


def fits_input(T: int, N: int, shape: tuple[int, ...], batch_first: bool) -> bool:
    """Tell whether T and N go with the shape of the network's input."""
    if batch_first:
        return shape[:2] == (N, T)
    return shape[:2] == (T, N) or shape[:1] == (N,)


def _of_single_step(
    calls: Sequence[Call],
    shape: tuple[int, ...] | None,
    T: int | None,
    batch_first: bool,
) -> Reading:
    neurons = [call for call in calls if call.kind is Kind.SINGLE_STEP and call.inputs]
    counts = Counter(call.name for call in neurons)
    N = neurons[0].inputs[0].shape[0]
    if set(counts.values()) == {1}:
        if shape is None or shape[:1] == (N,):
            return Reading(1, N, is_step=True)
        looped = (shape[1], shape[0]) if batch_first else shape[:2]
        if tuple(looped) == (1, N):
            return Reading(1, N, batch_first=batch_first)
        raise TimeAxisError(
            "Expected neurons in step mode s to take one step [N, ...] of the input, "
            f"got [{N}, ...] from an input {list(shape)}. Set step mode m for an input "
            "[T, N, ...], or call the network once a step."
        )
    steps = T if T is not None else _looped_steps(calls, counts, shape, N, batch_first)
    uneven = [name for name, count in counts.items() if count % steps]
    if uneven:
        raise TimeAxisError(
            f"Expected neurons in step mode s to be called T = {steps} times in a pass "
            f"of the network, got {counts[uneven[0]]} calls of {uneven[0]!r}. `T` "
            "decides."
        )
    return Reading(steps, N, batch_first=batch_first)


def _looped_steps(
    calls: Sequence[Call],
    counts: Counter[str],
    shape: tuple[int, ...] | None,
    N: int,
    batch_first: bool,
) -> int:
    if shape is not None and len(shape) > 1:
        n, steps = shape[:2] if batch_first else (shape[1], shape[0])
        if n == N and all(count % steps == 0 for count in counts.values()):
            return steps
    values = set(counts.values())
    if len(values) == 1 and len(counts) > 1:
        steps = values.pop()
        order = [call.name for call in calls if call.name in counts]
        if is_repeated(order, steps):
            return steps
    raise TimeAxisError(
        f"Expected to see T from the input or from the calls, got an input "
        f"{list(shape or ())} and neurons in step mode s called "
        f"{dict(counts)} times: declare `T`."
    )


def _without_neurons(
    calls: Sequence[Call],
    selected: set[str],
    network: Call,
    T: int | None,
    batch_first: bool,
) -> Reading:
    shape = network.inputs[0].shape if network.inputs else None
    if shape is None or not shape:
        raise TimeAxisError(
            "Expected the network to take a tensor or to hold neurons of the host, got "
            "neither: its samples cannot be told."
        )
    if T is None and not batch_first:
        return Reading(1, shape[0])
    if batch_first:
        if T not in (None, shape[1]):
            raise TimeAxisError(
                f"Expected an input [N, T={T}, ...] with `batch_first`, got "
                f"{list(shape)}."
            )
        return Reading(shape[1], shape[0], batch_first=True)
    assert T is not None
    candidates = {shape[0]}
    if shape[0] == T and len(shape) > 1:
        candidates.add(shape[1])
    readings = [Reading(T, N) for N in sorted(candidates)]
    if T > 1 and not any(_shows_anywhere(one, calls, network) for one in readings):
        raise TimeAxisError(
            f"Expected the declared T = {T} to show in the input or in a layer, got an "
            f"input {list(shape)} and {len(calls)} calls without it. Leave `T` out of "
            "a network without steps; give one that takes [T*N, ...] an input "
            "[T, N, ...] through `spikingjelly.activation_based.layer."
            "SeqToANNContainer`."
        )
    fitting = [one for one in readings if _reads(one, calls, selected)]
    if len(fitting) > 1:
        # A T that shows nowhere would not have been declared.
        fitting = [one for one in fitting if _shows_time(one, calls, selected)]
    if len(fitting) == 1:
        return fitting[0]
    raise TimeAxisError(
        f"Expected the layers to fit T = {T} and an input {list(shape)} in one way, "
        f"got {len(fitting)} ways. A batch of another size, one that is no other axis, "
        "decides, or `batch_first`, or another `T`."
    )


def _reads(reading: Reading, calls: Sequence[Call], selected: set[str]) -> bool:
    try:
        list(_layouts(reading, calls, selected))
    except TimeAxisError:
        return False
    return True


def _shows_time(reading: Reading, calls: Sequence[Call], selected: set[str]) -> bool:
    if any(one is not Layout.STATIC for one in _layouts(reading, calls, selected)):
        return True
    return reading.T > 1 and any(
        count == reading.T for count in Counter(call.name for call in calls).values()
    )


def _shows_anywhere(reading: Reading, calls: Sequence[Call], network: Call) -> bool:
    T, N = reading.T, reading.N
    if any(count % T == 0 for count in Counter(call.name for call in calls).values()):
        return True
    tensors = [
        seen.shape
        for call in (*calls, network)
        for seen in (*call.inputs, *call.outputs)
    ]
    return any(shape[:1] == (T * N,) or shape[:2] == (T, N) for shape in tensors)


def _layouts(
    reading: Reading, calls: Sequence[Call], selected: set[str]
) -> Iterable[Layout]:
    for call in calls:
        if call.name in selected:
            for seen in call.outputs:
                yield reading.layout(call.name, seen, call.kind)


def _known(calls: Sequence[Call], network: Call, reading: Reading) -> dict[int, Layout]:
    """Follow tensors from modules that know their layout to modules that keep it."""
    known: dict[int, Layout] = {}
    if reading.batch_first:
        for seen in (*network.inputs[:1], *network.outputs):
            if len(seen.shape) > 2 and seen.shape[:2] == (reading.N, reading.T):
                known[seen.tag] = Layout.BATCH_FIRST
    for call in calls:
        for seen in (*call.inputs, *call.outputs):
            if call.kind is Kind.MULTI_STEP and seen.shape[:2] == (
                reading.T,
                reading.N,
            ):
                known[seen.tag] = Layout.TIME_FIRST
            elif call.kind is Kind.CHANNELS and seen.shape[:1] == (reading.N,):
                known.setdefault(seen.tag, Layout.STATIC)
    for ordered in (calls, calls[::-1]):
        for call in ordered:
            if call.kind not in (Kind.FEATURES, Kind.ELEMENTWISE):
                continue
            if not call.inputs or len(call.outputs) != 1:
                continue
            given, made = call.inputs[0], call.outputs[0]
            if (
                len(given.shape) == len(made.shape)
                and given.shape[:2] == made.shape[:2]
            ):
                for one, other in ((given, made), (made, given)):
                    if one.tag in known:
                        known.setdefault(other.tag, known[one.tag])
    return known
