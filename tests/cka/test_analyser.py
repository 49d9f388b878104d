"""`CKA` runs two networks on the same samples and compares what their layers make."""

import math
import warnings

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.nn.functional import dropout

from sj_ext.cka import CKA, Side, analyser, linear_cka
from sj_ext.cka.spool import FeatureSpool
from tests.taps.models import QKFormerLike, SpikeDrivenLike, SpikformerLike

T, N = 4, 12


def spiking(seed=0, seconds=neuron.LIFNode):
    """Frames `[T, N, 1, 6, 6]` to logits; named so that its twin has the names too."""
    torch.manual_seed(seed)
    net = nn.Sequential()
    net.add_module("conv", layer.Conv2d(1, 4, 3, padding=1))
    net.add_module("norm", layer.BatchNorm2d(4))
    net.add_module("act1", seconds(v_threshold=0.3))
    net.add_module("flat", layer.Flatten())
    net.add_module("fc1", layer.Linear(144, 20))
    net.add_module("act2", seconds(v_threshold=0.2))
    net.add_module("fc2", layer.Linear(20, 5))
    functional.set_step_mode(net, "m")
    return net


def ordinary(seed=0):
    """Images `[N, 1, 6, 6]` to logits, with the same layers."""
    torch.manual_seed(seed)
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(1, 4, 3, padding=1))
    net.add_module("norm", nn.BatchNorm2d(4))
    net.add_module("act1", nn.ReLU())
    net.add_module("flat", nn.Flatten())
    net.add_module("fc1", nn.Linear(144, 20))
    net.add_module("act2", nn.ReLU())
    net.add_module("fc2", nn.Linear(20, 5))
    return net


def frames(*sizes, seed=1):
    """Batches of frames with targets and an index."""
    generator = torch.Generator().manual_seed(seed)
    batches, first = [], 0
    for n in sizes:
        x = torch.randn(T, n, 1, 6, 6, generator=generator)
        index = torch.arange(first, first + n)
        batches.append((x, index % 3, index))
        first += n
    return batches


def hsic_1(x, y):
    """HSIC_1 as it is written, in float64."""
    x, y = x.flatten(1).double(), y.flatten(1).double()
    n = len(x)
    k, l = (a @ a.T for a in (x, y))  # noqa: E741
    k.fill_diagonal_(0)
    l.fill_diagonal_(0)
    cross = 2 * (k @ l).sum() / (n - 2)
    rest = k.sum() * l.sum() / ((n - 1) * (n - 2))
    return ((k @ l).trace() + rest - cross) / (n * (n - 3))


def recorded(net, x):
    """Outputs of all leaf layers, `[T, N, ...]`, by hooks of our own."""
    net.eval()
    functional.reset_net(net)
    found, handles = {}, []
    for name, module in net.named_children():
        handles.append(
            module.register_forward_hook(
                lambda module, args, y, name=name: found.update({name: y.detach()})
            )
        )
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    functional.reset_net(net)
    return found


def by_sample(features):
    """`[T, N, ...]` to `[N, T D]`."""
    return features.transpose(0, 1).flatten(1)


def same(result, other, tolerance=1e-9):
    for name in ("cka", "per_step", "rsa"):
        ours, theirs = getattr(result, name), getattr(other, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(
                ours, theirs, atol=tolerance, rtol=0, equal_nan=True
            )
    assert result.x == other.x
    assert result.y == other.y
    assert (result.samples, result.batches) == (other.samples, other.batches)


def test_a_network_against_itself_is_symmetric_with_a_diagonal_of_one():
    result = CKA(spiking()).measure(frames(N, N), progress=False)
    assert result.layers_x == (
        "conv",
        "norm",
        "act1",
        "flat",
        "fc1",
        "act2",
        "fc2",
    )
    assert result.layers_y == result.layers_x
    torch.testing.assert_close(
        result.cka.diagonal(), torch.ones(7, dtype=torch.float64)
    )
    torch.testing.assert_close(result.cka, result.cka.T)
    assert result.itself
    assert (result.samples, result.batches) == (2 * N, 2)


def test_values_are_those_of_the_formula_summed_over_batches_by_their_samples():
    snn, ann = spiking(), ordinary(1)
    batches = frames(N, 7)
    result = CKA(snn, Side(ann, inputs=lambda batch: batch[0].mean(0))).measure(
        batches, progress=False
    )
    sums = torch.zeros(3, 7, 7, dtype=torch.float64)
    for x, *_ in batches:
        ours = [by_sample(f) for f in recorded(snn, x).values()]
        theirs = list(recorded(ann, x.mean(0)).values())
        for i, a in enumerate(ours):
            for j, b in enumerate(theirs):
                parts = (hsic_1(a, b), hsic_1(a, a), hsic_1(b, b))
                sums[:, i, j] += x.shape[1] * torch.stack(parts)
    expected = sums[0] / (sums[1] * sums[2]).sqrt()
    torch.testing.assert_close(result.cka, expected, atol=1e-5, rtol=0)
    assert result.x.steps == (T,) * 7
    assert result.y.steps == (1,) * 7
    assert not result.itself


def test_both_networks_can_take_event_frames():
    twin = spiking()
    twin.act1, twin.act2 = nn.ReLU(), nn.ReLU()
    result = CKA(spiking(), twin).measure(frames(N), progress=False)
    assert result.x.steps == result.y.steps == (T,) * 7
    assert (result.x.label, result.y.label) == ("Sequential (x)", "Sequential (y)")
    # What comes before the first neuron is the same.
    torch.testing.assert_close(result.cka[0, 0], torch.tensor(1.0, dtype=torch.float64))
    assert result.cka[2, 2] < 0.999


def test_steps_are_those_of_each_layer_alone_and_sum_to_the_concatenated_result():
    net, other = spiking(), spiking(3)
    batches = frames(N)
    options = {"layers_x": "act*", "layers_y": ["fc1", "act2"]}
    steps = CKA(net, other, time="per_step", **options).measure(batches, progress=False)
    whole = CKA(net, other, time="concat", **options).measure(batches, progress=False)
    torch.testing.assert_close(steps.cka, whole.cka, atol=1e-6, rtol=0)
    assert whole.per_step is None
    a = recorded(net, batches[0][0])["act1"]
    b = recorded(other, batches[0][0])["fc1"]
    expected = torch.stack(
        [torch.stack([linear_cka(a[t], b[s]) for s in range(T)]) for t in range(T)]
    )
    torch.testing.assert_close(steps.steps("act1", "fc1"), expected, atol=1e-5, rtol=0)


def test_the_mean_over_time_is_another_question():
    batches = frames(N)
    net = spiking()
    result = CKA(net, layers_x="act*", time="mean").measure(batches, progress=False)
    found = recorded(net, batches[0][0])
    expected = linear_cka(found["act1"].mean(0), found["act2"].mean(0))
    torch.testing.assert_close(result.cka[0, 1], expected, atol=1e-6, rtol=0)


def test_potentials_are_compared_on_request():
    net = spiking(seconds=neuron.IFNode)
    x = frames(N)[0][0]
    current = recorded(net, x)["norm"].double()
    v = torch.zeros_like(current[0])
    before, after = [], []
    for step in current:
        h = v + step
        v = torch.where(h >= 0.3, torch.zeros_like(h), h)
        before.append(h)
        after.append(v)
    for record, expected in (("pre_reset", before), ("post_reset", after)):
        potentials = Side(net, layers="act1", record=record)
        result = CKA(potentials, Side(net, layers="norm")).measure([x], progress=False)
        torch.testing.assert_close(
            result.cka[0, 0],
            linear_cka(by_sample(torch.stack(expected)), by_sample(current)),
            atol=1e-5,
            rtol=0,
        )
        assert result.x.record == record
    short = CKA(net, layers_x="act*", record="pre_reset").measure([x], progress=False)
    assert short.layers_x == ("act1", "act2")


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "exact"])
@pytest.mark.parametrize("time", ["concat", "per_step", "mean"])
def test_merging_and_resuming_give_what_one_go_gives(estimator, time, tmp_path):
    def new():
        return CKA(
            spiking(),
            spiking(3),
            "act*",
            ["fc1", "act2"],
            time,
            estimator=estimator,
            rsa=estimator != "exact",
            folder=tmp_path,
        )

    batches = frames(N, 6, 8)
    whole = new().measure(batches, progress=False)
    first, second = new(), new()
    first.update(batches[0])
    saved = tmp_path / "state.pt"
    torch.save(first.state_dict(), saved)
    for batch in batches[1:]:
        second.update(batch)
    first.merge(second)
    same(first.compute(), whole)
    assert (second.samples, second.batches) == (14, 2)
    resumed = new()
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    same(resumed.measure(batches[1:], progress=False), whole)
    empty = new()
    empty.merge(new())
    empty.merge(first)
    same(empty.compute(), whole)
    first.reset()
    assert first.samples == 0
    with pytest.raises(ValueError, match="Expected `update` before `compute`"):
        first.compute()


def test_the_exact_estimator_compares_all_samples_at_once(tmp_path):
    batches = frames(N, 2, 6)
    together = [torch.cat([batch[0] for batch in batches], dim=1)]
    nets = (spiking(), spiking(3))
    options = {"layers_x": "act*", "time": "per_step"}
    exact = CKA(*nets, estimator="exact", folder=tmp_path, **options)
    result = exact.measure(batches, progress=False)
    expected = CKA(*nets, **options).measure(together, progress=False)
    torch.testing.assert_close(result.cka, expected.cka, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        result.per_step, expected.per_step, atol=1e-6, rtol=0, equal_nan=True
    )
    assert result.x == expected.x
    assert result.samples == 20
    assert len(list(tmp_path.glob("*/*"))) == 2 + 7
    exact.reset()
    assert not list(tmp_path.iterdir())
    exact.update(batches[0])
    assert list(tmp_path.iterdir())
    del exact
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict"])
def test_a_short_last_batch_joins_the_one_before(form):
    def batches(*sizes):
        whole, target, index = frames(sum(sizes))[0]
        parts = [p.split(sizes, dim=d) for p, d in ((whole, 1), (target, 0))]
        names = [[str(int(i)) for i in part] for part in index.split(sizes)]
        for x, y, name in zip(*parts, names, strict=True):
            yield {
                "tensor": x,
                "tuple": (x, y),
                "dict": {"frames": x, "label": y, "name": name, "note": "same"},
            }[form]

    def measured(*sizes):
        return CKA(spiking(), layers_x="act*").measure(batches(*sizes), progress=False)

    result = measured(8, 8, 3)
    same(result, measured(8, 11))
    assert (result.samples, result.batches) == (19, 2)
    assert measured(8, 8, 4).batches == 3
    assert measured(8).batches == 1


def test_fewer_than_four_samples_are_refused():
    cka = CKA(spiking())
    with pytest.raises(ValueError, match="4"):
        cka.update(frames(3)[0])
    assert cka.samples == 0
    with pytest.raises(ValueError, match="Expected `loader` to give at least one"):
        cka.measure([], progress=False)


def test_two_loaders_are_checked_for_the_order_of_their_samples():
    nets = (spiking(), spiking(3))
    batches = frames(N, N)
    result = CKA(*nets).measure(batches, frames(N, N, seed=2), progress=False)
    assert result.order_checked == "targets and index"
    assert CKA(*nets).measure(batches, progress=False).order_checked == "one loader"

    x, y, index = batches[1]
    moved = [batches[0], (x.roll(3, 1), y.roll(3), index.roll(3))]
    with pytest.raises(ValueError, match="got batch 1 with different index"):
        CKA(*nets).measure(batches, moved, progress=False)
    by_target = [(x, y.flip(0) if n else y) for n, (x, y, _) in enumerate(batches)]
    with pytest.raises(ValueError, match="got batch 1 with different targets"):
        CKA(*nets).measure(batches, by_target, progress=False)
    with pytest.raises(ValueError, match="got batch 1 of the first and none"):
        CKA(*nets).measure(batches, batches[:1], progress=False)
    with pytest.raises(ValueError, match="got batch 1 of the second and none"):
        CKA(*nets).measure(batches[:1], batches, progress=False)


def test_two_loaders_that_tell_nothing_of_the_order_are_told_of():
    cka = CKA(spiking(), spiking(3))
    x = frames(N)[0][0]
    with pytest.warns(UserWarning, match="Neither targets nor an index"):
        cka.update(x, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cka.update(x, x)
    assert cka.compute().order_checked == "nothing"


def test_sides_that_saw_other_numbers_of_samples_are_refused():
    x = frames(N)[0][0]
    cka = CKA(spiking(), Side(spiking(3), inputs=lambda x: x[:, :-1]))
    with pytest.raises(ValueError, match="samples"):
        cka.update(x)


@pytest.mark.parametrize("failing", [False, True])
def test_networks_are_left_as_they_were_found(failing):
    snn, ann = spiking(), ordinary()
    x = frames(N)[0][0]
    snn.act1.train(False)
    snn(x).sum().backward()
    v = snn.act2.v.detach().clone()
    grad = snn.fc2.weight.grad.clone()
    modes = [module.training for module in (*snn.modules(), *ann.modules())]
    state = {k: t.clone() for k, t in snn.state_dict().items()}
    statistics = {k: t.clone() for k, t in ann.state_dict().items()}
    random = torch.get_rng_state()

    def inputs(batch):
        return batch.mean(0) if not failing else batch.mean(0)[..., :5]

    cka = CKA(snn, Side(ann, inputs=inputs))
    if failing:
        with pytest.raises(RuntimeError):
            cka.update(x)
        assert cka.samples == 0
    else:
        cka.measure([x, x], progress=False)
    assert modes == [m.training for m in (*snn.modules(), *ann.modules())]
    for net, before in ((snn, state), (ann, statistics)):
        for key, tensor in net.state_dict().items():
            assert torch.equal(tensor, before[key]), key
    assert torch.equal(snn.act2.v, v)
    assert torch.equal(snn.fc2.weight.grad, grad)
    assert torch.equal(torch.get_rng_state(), random)
    for module in (*snn.modules(), *ann.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_network_is_evaluated_from_reset_states():
    x = frames(N)[0][0]
    used = spiking()
    expected = CKA(used.eval()).measure([x, x], progress=False)
    used(x)
    torch.testing.assert_close(
        CKA(used.eval()).measure([x, x], progress=False).cka, expected.cka
    )


class Noisy(nn.Sequential):
    """Drops also in evaluation."""

    def forward(self, x):
        return super().forward(dropout(x, 0.5, training=True))


class Remembering(nn.Module):
    """Keeps a state that no reset knows."""

    def __init__(self):
        super().__init__()
        self.fc, self.seen = nn.Linear(3, 4), 0.0

    def forward(self, x):
        self.seen = self.seen + x.mean(0)
        return self.fc(x + self.seen)


def test_a_network_that_does_not_compute_the_same_twice_is_refused():
    x = torch.randn(N, 3)
    with pytest.raises(ValueError, match=r"Noisy to compute the same twice.*'0'"):
        CKA(Noisy(nn.Linear(3, 4))).update(x)
    with pytest.raises(ValueError, match="reset_net"):
        CKA(nn.Linear(3, 4), Remembering()).update(x)


def test_a_network_that_draws_on_purpose_is_seeded():
    batches = [torch.randn(N, 3), torch.randn(N, 3)]

    def measured(seed):
        torch.manual_seed(5)
        net = Noisy(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))
        return CKA(Side(net, seed=seed)).measure(batches, progress=False)

    assert torch.equal(measured(0).cka, measured(0).cka)
    assert not torch.equal(measured(0).cka, measured(1).cka)


class Attending(nn.Module):
    """Folds heads into the batch, as attention does."""

    def __init__(self):
        super().__init__()
        self.first, self.heads, self.last = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x):
        y = self.first(x)
        y = self.heads(y.reshape(len(x) * 2, 3)).reshape(len(x), 6)
        return self.last(y)


def test_a_layer_whose_samples_are_not_the_batch_is_refused_until_left_out():
    x = torch.randn(N, 4)
    with pytest.raises(ValueError, match="'heads'"):
        CKA(Attending()).update(x)
    result = CKA(Attending(), layers_x=["first", "last"]).measure([x], progress=False)
    assert result.layers_x == ("first", "last")


def test_a_constant_layer_is_undefined_and_listed():
    net = spiking()
    nn.init.constant_(net.fc1.weight, 0)
    nn.init.constant_(net.fc1.bias, -1)
    result = CKA(net).measure(frames(N), progress=False)
    assert result.x.constant == ("fc1", "act2", "fc2")
    undefined = result.cka.isnan()
    assert undefined[4:].all()
    assert undefined[:, 4:].all()
    assert not undefined[:4, :4].any()


class BatchFirst(nn.Module):
    """Takes `[N, T, ...]` and returns the logits among other things."""

    def __init__(self):
        super().__init__()
        self.net = spiking()

    def forward(self, x):
        return self.net(x.transpose(0, 1)).transpose(0, 1), {"hook": None}


def test_batch_first_networks_with_more_than_logits_are_the_same_ones():
    batches = frames(N)
    expected = CKA(spiking()).measure(batches, progress=False)
    side = Side(
        BatchFirst(),
        batch_first=True,
        inputs=lambda batch: batch[0].transpose(0, 1),
        output=lambda y: y[0],
    )
    result = CKA(side).measure(batches, progress=False)
    torch.testing.assert_close(result.cka, expected.cka, equal_nan=True)
    assert result.x.steps == (T,) * 7


IMAGES = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize(
    ("model", "inputs", "one_step", "steps"),
    [
        (SpikformerLike, lambda x: x, {"first", "head"}, 4),
        (QKFormerLike, lambda x: x, {"head"}, 4),
        (SpikeDrivenLike, lambda x: x[:, None].repeat(1, 5, 1, 1, 1), set(), 5),
    ],
)
def test_spiking_transformers_are_compared_step_by_step_with_an_ann(
    model, inputs, one_step, steps
):
    driven = model is SpikeDrivenLike
    side = Side(
        model(),
        inputs=inputs,
        batch_first=driven,
        output=(lambda y: y[0]) if driven else None,
    )
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    result = CKA(side, ann, time="per_step").measure([IMAGES], progress=False)
    expected = [1 if name in one_step else steps for name in result.layers_x]
    assert list(result.x.steps) == expected
    assert one_step <= set(result.layers_x)
    assert set(result.y.steps) == {1}
    assert result.per_step.shape == (sum(expected), 4)
    assert not result.cka[0].isnan().any()


def test_a_single_step_network_is_run_by_a_loop_of_the_users():
    batches = frames(N)
    expected = CKA(spiking()).measure(batches, progress=False)
    net = spiking()
    functional.set_step_mode(net, "s")
    side = Side(net, forward=lambda net, x: [net(step) for step in x])
    result = CKA(side).measure(batches, progress=False)
    torch.testing.assert_close(
        result.cka, expected.cka, atol=1e-6, rtol=0, equal_nan=True
    )
    assert result.x.steps == (T,) * 7


def test_a_loop_over_steps_of_a_network_without_neurons_is_refused():
    looped = Side(ordinary(), forward=lambda net, x: [net(step) for step in x])
    with pytest.raises(ValueError, match=rf"got {T} passes that each begin anew"):
        CKA(spiking(), looped).measure(frames(N), progress=False)


def test_processes_that_measured_otherwise_keep_their_own_batches(monkeypatch):
    one, other = (
        CKA(spiking(), layers_x="act*", record=record)
        for record in ("output", "pre_reset")
    )
    for cka in (one, other):
        cka.update(frames(N)[0])
    states = [one.state_dict(), other.state_dict()]
    monkeypatch.setattr(analyser, "states_of_all", lambda *_: states)
    before = one.compute().cka
    with pytest.raises(ValueError, match="Expected batches measured with record="):
        one.all_reduce()
    assert torch.equal(one.compute().cka, before)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (torch.zeros(2, 5, 4), "the 6 samples of 'a' at 'b', got 5"),
        (torch.zeros(2, 6, 3), r"\[2, 4\] of float32 at 'b' in every batch"),
        (torch.full((2, 6, 4), torch.nan), "finite features of 'b', got NaN"),
    ],
)
def test_a_batch_that_the_exact_form_refuses_leaves_nothing_behind(second, message):
    spool = FeatureSpool(["a", "b"], None, time="concat")
    first = torch.randn(2, 6, 4)
    spool.update([first, first.flip(1)])
    before = spool.compute().concat
    with pytest.raises(ValueError, match=message):
        spool.update([first, second])
    assert (spool.batches, spool.samples) == (1, 6)
    assert torch.equal(spool.compute().concat, before)


def test_a_dict_gives_its_single_tensor_or_asks():
    x, y, _ = frames(N)[0]
    expected = CKA(spiking()).measure([x], progress=False)
    result = CKA(spiking()).measure([{"x": x, "labels": y}], progress=False)
    torch.testing.assert_close(result.cka, expected.cka, equal_nan=True)
    with pytest.raises(ValueError, match=r"got \['x', 'z'\]: say which by"):
        CKA(spiking()).update({"x": x, "z": x, "labels": y})
    with pytest.raises(TypeError, match="Expected `batch` to be a tensor"):
        CKA(spiking()).update("x")


def test_layers_that_never_ran_are_listed():
    net = spiking()
    net.spare = nn.Linear(2, 2)
    net.forward = lambda x: nn.Sequential.forward(net[:-1], x)
    result = CKA(net, layers_x=["act1", "spare"]).measure(frames(N), progress=False)
    assert result.layers_x == ("act1",)
    assert result.x.not_executed == ("spare",)


def test_contradictions_are_refused():
    net = spiking()
    with pytest.raises(ValueError, match="Expected `time` to be one of"):
        CKA(net, time="steps")
    with pytest.raises(ValueError, match="Expected `estimator` to be one of"):
        CKA(net, estimator="debiased")
    with pytest.raises(ValueError, match="Expected `rsa` to be False"):
        CKA(net, estimator="exact", rsa=True)
    with pytest.raises(ValueError, match="Expected no `layers_y`"):
        CKA(net, layers_x="act*", layers_y="fc*")
    with pytest.raises(ValueError, match="got both"):
        CKA(Side(net, layers="act*"), layers_x="fc*")
    with pytest.raises(ValueError, match="Expected `record` to be"):
        CKA(net, record="spikes")
    with pytest.raises(TypeError, match=r"Expected `network` to be a torch\.nn\.Mod"):
        CKA("net")
    with pytest.raises(ValueError, match="Expected one batch for one network"):
        CKA(net).update(*frames(N, N))


def test_batches_of_other_layers_or_options_do_not_merge():
    batch = frames(N)[0]
    ours, layers, options = (
        CKA(spiking(), layers_x="act*"),
        CKA(spiking(), layers_x="fc*"),
        CKA(spiking(), layers_x="act*", time="mean"),
    )
    for cka in (ours, layers, options):
        cka.update(batch)
    with pytest.raises(ValueError, match="same layers"):
        ours.merge(layers)
    with pytest.raises(ValueError, match="time='concat'"):
        ours.load_state_dict(options.state_dict())
    assert ours.batches == 1


@pytest.mark.parametrize(("estimator", "end"), [("biased", "2/2"), ("exact", "24/24")])
def test_progress_is_shown_on_stderr_alone(estimator, end, capsys):
    CKA(spiking(), layers_x="fc2", estimator=estimator).measure(frames(N, N))
    out, err = capsys.readouterr()
    assert not out
    assert end in err


PROCESS = """
from torch import nn
from sj_ext.cka import CKA
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
batches = [torch.randn(6, 3) for _ in range(3)]
whole, part, late = (CKA(net) for _ in range(3))
for batch in batches:
    whole.update(batch)
for batch in batches[:2] if rank == 0 else batches[2:]:
    part.update(batch)
part.all_reduce()
assert torch.equal(part.compute().cka, whole.compute().cka)
assert (part.samples, part.batches) == (18, 3)
if rank:
    late.update(batches[0])
late.all_reduce()
assert late.samples == 6
"""


def test_two_processes_give_what_one_gives(in_two_processes):
    in_two_processes(PROCESS)


def test_in_one_process_there_is_nothing_to_reduce():
    cka = CKA(ordinary())
    cka.update(torch.randn(N, 1, 6, 6))
    cka.all_reduce()
    assert cka.samples == N
    assert math.isclose(cka.compute().cka[0, 0], 1.0)


def test_steps_taken_for_samples_are_told_by_the_targets():
    x, targets = torch.rand(8, 16, 6), torch.arange(16)
    forgotten = nn.Sequential(nn.Linear(6, 12), neuron.LIFNode(), nn.Linear(12, 5))
    ordinary = nn.Sequential(nn.Linear(6, 12), nn.ReLU())
    for net in (forgotten, ordinary):
        for batch in ((x, targets), {"x": x, "index": targets}):
            with pytest.raises(ValueError, match=r"the 16 samples of the .* got 8 of"):
                CKA(net).update(batch)
    CKA(Side(ordinary, T=8)).update((x, targets))
    CKA(Side(ordinary, inputs=lambda batch: batch[0][0])).update((x, targets))


def test_a_side_says_its_own_record_and_t():
    net = spiking()
    for option in ({"record": "pre_reset"}, {"T": 7}, {"record": "output"}):
        name = next(iter(option))
        with pytest.raises(ValueError, match=f"Expected no `{name}` beside a Side"):
            CKA(Side(net), **option)
        with pytest.raises(ValueError, match=f"Expected no `{name}` beside a Side"):
            CKA(Side(net), Side(spiking(3)), **option)
    mixed = CKA(Side(net, layers="act*"), spiking(3), None, "act*", record="pre_reset")
    result = mixed.measure(frames(N), progress=False)
    assert (result.x.record, result.y.record) == ("output", "pre_reset")


def test_a_declared_t_that_shows_nowhere_is_not_ignored():
    ann = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    with pytest.raises(ValueError, match="declared T = 4 to show"):
        CKA(Side(ann, T=4)).update(torch.rand(32, 2, 6, 6))


def test_networks_that_saw_other_numbers_of_samples_are_named():
    x = torch.rand(N, 3)
    fewer = Side(nn.Linear(3, 4), label="fewer", inputs=lambda x: x[:-2])
    with pytest.raises(ValueError, match=r"got 12 of Linear and 10 of fewer\."):
        CKA(nn.Linear(3, 4), fewer).update(x)


def test_a_bare_layer_has_the_name_of_its_class():
    node = neuron.LIFNode(step_mode="m")
    result = CKA(node).measure([torch.rand(T, N, 6) * 3], progress=False)
    assert result.layers_x == ("LIFNode",)


def test_the_state_of_other_layers_is_refused_and_nothing_is_lost():
    ours, other = CKA(spiking(), layers_x="act*"), CKA(ordinary(), layers_x="conv")
    images = torch.randn(N, 1, 6, 6)
    other.update(images)
    with pytest.raises(ValueError, match="of the layers of Sequential"):
        ours.load_state_dict(other.state_dict())
    ours.update(frames(N)[0])
    before = ours.compute()
    with pytest.raises(ValueError, match="same layers"):
        ours.load_state_dict(other.state_dict())
    same(ours.compute(), before)


def test_names_and_types_of_targets_are_compared_by_value():
    nets = nn.Linear(3, 4), nn.Linear(3, 4)
    x = torch.rand(8, 3)
    number = torch.arange(8)
    cka = CKA(*nets)
    for one, other in ((number, number.int()), (number, number.float())):
        cka.update((x, one), (x, other))
    cka.update((x, list("abcdefgh")), (x, tuple("abcdefgh")))
    assert cka.compute().order_checked == "targets"
    with pytest.raises(ValueError, match=r"different targets: .* at entry 0"):
        cka.update((x, list("abcdefgh")), (x, list("bacdefgh")))
    with pytest.raises(ValueError, match="numbers and strings"):
        cka.update((x, list("abcdefgh")), (x, number))


def test_progress_ends_at_the_batches_that_there_were(capsys):
    CKA(spiking(), layers_x="fc2").measure(frames(N, N, 2))
    assert "2/2" in capsys.readouterr().err
