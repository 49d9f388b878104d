import copy
import io

import pytest
import torch
from spikingjelly.activation_based import functional, layer
from torch import nn

from sj_ext import available
from sj_ext.fisher import TemporalFisher
from sj_ext.pruning import (
    ConstantTimeRule,
    CubicSparsity,
    EarlyTimeRule,
    FisherPruningScheduler,
    KLTimeRule,
    Limits,
    SparseOperations,
)
from sj_ext.readout import RateReadout
from sj_ext.surrogate import dense
from tests.fisher import reference
from tests.pruning.networks import OPTIMIZERS, K, N, T, batches, network, train
from tests.surrogate.conftest import in_two_processes

__all__ = ["in_two_processes"]

CONV = "0", "3"


def scheduler_of(net, optimizer=None, **arguments):
    settings = {"rounds": 3, "fraction": 0.5, "scores": "magnitude", "T": T}
    return FisherPruningScheduler(net, optimizer, **(settings | arguments))


def pruned_places(scheduler):
    return {name: ~mask for name, mask in scheduler.masks.items()}


def test_every_round_is_exact_to_one_weight_and_masks_never_grow_back():
    net = network()
    scheduler = scheduler_of(net, rounds=4, fraction=0.3)
    weights = sum(mask.numel() for mask in scheduler.masks.values())
    assert weights == 4 * 2 * 9 + 6 * 2 * 9
    before = scheduler.masks
    for _ in range(4):
        weights -= round(0.3 * weights)
        report = scheduler.step()
        after = scheduler.masks
        assert report.remaining == sum(int(m.sum()) for m in after.values()) == weights
        assert not any(bool((after[n] & ~before[n]).any()) for n in after)
        before = after
    assert scheduler.finished
    with pytest.raises(RuntimeError, match="at most 4 times"):
        scheduler.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_and_their_memory_are_zero_after_every_step(name):
    net, loader = network(), batches()
    optimizer = OPTIMIZERS[name](net.parameters())
    scheduler = scheduler_of(net, optimizer, rewind=None)
    train(net, optimizer, loader)
    scheduler.step()
    for _ in range(2):
        train(net, optimizer, loader)
        for layer_name, places in pruned_places(scheduler).items():
            module = net.get_submodule(layer_name)
            assert bool((module.weight_orig[places] == 0).all())
            assert bool((module.weight[places] == 0).all())
            for value in optimizer.state[module.weight_orig].values():
                if value.shape == places.shape:
                    assert bool((value[places] == 0).all())
                    assert bool((value[~places] != 0).any())


def test_gradients_accumulated_over_a_pruning_leave_pruned_weights_alone():
    net, loader = network(), batches()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    scheduler = scheduler_of(net, optimizer, rewind=None)
    for number, (x, target) in enumerate(loader):
        nn.functional.cross_entropy(net(x).mean(0), target).backward()
        functional.reset_net(net)
        if number == 0:
            scheduler.step()
    optimizer.step()
    for name, places in pruned_places(scheduler).items():
        assert bool((net.get_submodule(name).weight_orig[places] == 0).all())


def test_autocast_trains_a_masked_network():
    net, ((x, target),) = network(), batches(1)
    optimizer = OPTIMIZERS["adamw"](net.parameters())
    scheduler = scheduler_of(net, optimizer)
    scheduler.step()
    with torch.autocast("cpu", torch.bfloat16):
        loss = nn.functional.cross_entropy(net(x).float().mean(0), target)
    loss.backward()
    optimizer.step()
    for name, places in pruned_places(scheduler).items():
        assert bool((net.get_submodule(name).weight[places] == 0).all())


def test_a_masked_network_can_be_copied_between_steps():
    net, loader = network(), batches()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    scheduler = scheduler_of(net, optimizer)
    scheduler.step()
    train(net, optimizer, loader)
    x = loader[0][0]
    # Also right after a pass whose graph is still there.
    logits = net(x)
    functional.reset_net(net)
    copied = copy.deepcopy(net)
    logits.sum().backward()
    assert bool((net[0].weight_orig.grad != 0).any())
    with torch.no_grad():
        assert torch.equal(copied.eval()(x), net.eval()(x))


def test_rewound_weights_and_statistics_are_the_stored_ones_bit_for_bit():
    net, loader = network(), batches()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    readout = RateReadout(T)
    scheduler = scheduler_of(net, optimizer, readout=readout)
    train(net, optimizer, loader)
    scheduler.set_rewind_point()
    stored = {name: value.clone() for name, value in net.state_dict().items()}
    train(net, optimizer, loader)
    assert not torch.equal(net[1].running_mean, stored["1.running_mean"])
    assert scheduler.step().rewound
    masks = scheduler.masks
    for name, value in net.state_dict().items():
        if name.endswith("weight_mask"):
            continue
        expected = stored[name]
        if name.endswith("weight_orig"):
            expected = expected * masks[name.removesuffix(".weight_orig")]
        assert torch.equal(value, expected), name
    assert not optimizer.state
    # Training on leaves the copies alone.
    train(net, optimizer, loader)
    scheduler.step()
    assert torch.equal(net[6].weight, stored["6.weight"])
    assert torch.equal(net[1].running_var, stored["1.running_var"])


def test_without_a_rewind_point_weights_go_on():
    net, loader = network(), batches()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    scheduler = scheduler_of(net, optimizer, rewind=None)
    train(net, optimizer, loader)
    trained = net[6].weight.clone()
    assert not scheduler.step().rewound
    assert torch.equal(net[6].weight, trained)
    assert optimizer.state
    with pytest.raises(ValueError, match="`rewind`"):
        scheduler.set_rewind_point()


def fisher_by_loop(net, loader, steps):
    """F w^2 / 2 with the labels of the data, one sample at a time."""
    sums, samples = {}, 0
    with dense(net):
        for x, target in loader:
            for i in range(x.shape[1]):
                found = reference.gradients(net, x[:, i : i + 1], target[i], steps)
                samples += 1
                for name, gradient in found.items():
                    sums[name] = sums.get(name, 0) + gradient.double().square()
    functional.reset_net(net)
    return {
        name: sums[f"{name}.weight_orig"]
        / samples
        * net.get_submodule(name).weight_orig.detach().square()
        / 2
        for name in CONV
    }


@pytest.mark.parametrize("steps", [1, 2, T])
def test_fisher_scores_are_those_of_a_loop_over_samples(steps):
    from sj_ext.pruning import FisherMagnitudeScore, FisherScore

    net = network().double()
    loader = [(x.double(), target) for x, target in batches()]
    scheduler = scheduler_of(net)
    scheduler.step()
    expected = fisher_by_loop(net, loader, steps)
    found = FisherScore(labels="empirical")(net, loader, steps)
    product = FisherMagnitudeScore(labels="empirical")(net, loader, steps)
    for name, score in expected.items():
        torch.testing.assert_close(found[name], score, rtol=1e-9, atol=1e-15)
        magnitude = net.get_submodule(name).weight_orig.detach().abs()
        torch.testing.assert_close(product[name], score * magnitude)
        assert bool((found[name][~scheduler.masks[name]] == 0).all())


def test_scores_take_a_callable_of_ones_own():
    net = network()
    seen = []

    def by_place(model, loader, steps):
        seen.append((model, loader, steps))
        return {
            n: torch.arange(model.get_submodule(n).weight.numel()).reshape(
                model.get_submodule(n).weight.shape
            )
            for n in CONV
        }

    scheduler = scheduler_of(net, scores=by_place, scope="layer", rounds=1)
    scheduler.step("loader")
    assert seen == [(net, "loader", T)]
    first = scheduler.masks["0"].flatten()
    assert not bool(first[:36].any())
    assert bool(first[36:].all())


def test_random_weights_remain_by_the_seed():
    first, same, other = (
        scheduler_of(network(), scores="random", seed=seed) for seed in (3, 3, 4)
    )
    for one in (first, same, other):
        one.step()
    assert all(torch.equal(first.masks[n], same.masks[n]) for n in CONV)
    assert not all(torch.equal(first.masks[n], other.masks[n]) for n in CONV)


def test_the_early_time_rule_needs_share_and_loss():
    net, loader = network(), batches()
    train(net, OPTIMIZERS["adamw"](net.parameters()), loader * 10)
    found = TemporalFisher(net, "sampled_label").measure(loader, progress=False)
    held = found.total.cumsum(0) / found.total.sum()
    for share in (0.05, 0.8):
        free = EarlyTimeRule(share, float("inf")).choose(net, loader, T)
        assert free.steps == next(
            t for t in range(1, T + 1) if held[t - 1] >= share or t == T
        )
        for gap in (0.02,):
            guarded = EarlyTimeRule(share, gap).choose(net, loader, T)
            near = found.prefix_loss <= found.prefix_loss[-1] + gap
            assert guarded.steps >= free.steps
            assert bool(near[guarded.steps - 1])
            assert not any(bool(near[t - 1]) for t in range(free.steps, guarded.steps))
    assert EarlyTimeRule(1.0, float("inf")).choose(net, loader, T).steps == T


def test_the_kl_rule_is_the_mean_divergence_of_the_answers():
    net, loader = network(), batches()
    train(net, OPTIMIZERS["adamw"](net.parameters()), loader * 10)
    net.eval()
    divergences = torch.zeros(T)
    with torch.no_grad():
        for x, _ in loader:
            logits = net(x)
            functional.reset_net(net)
            full = logits.mean(0).softmax(-1)
            for t in range(1, T + 1):
                answer = logits[:t].mean(0).softmax(-1)
                divergences[t - 1] += (full * (full / answer).log()).sum()
    divergences /= 2 * N
    net.train()
    found = KLTimeRule(0.0).choose(net, loader, T)
    assert found.evidence["divergence"] == pytest.approx(divergences.tolist(), abs=1e-6)
    between = (divergences[1] + divergences[0]) / 2
    assert KLTimeRule(float(between)).choose(net, loader, T).steps == 2
    assert net.training


def test_time_steps_follow_the_probe_until_the_last_round_has_ended():
    net, loader = network(), batches()
    scheduler = scheduler_of(net, rounds=2, early_time=ConstantTimeRule(2))
    assert scheduler.time_steps == T
    assert scheduler.probe(loader) == scheduler.time_steps == 2
    assert scheduler.step().steps == 2
    assert scheduler.time_steps == 2
    scheduler.step()
    assert scheduler.time_steps == T


def test_a_network_trained_short_is_not_probed():
    net, loader = network(), batches()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    scheduler = scheduler_of(net, optimizer, early_time=ConstantTimeRule(2))
    scheduler.probe(loader)
    train(net, optimizer, loader, scheduler.time_steps, scheduler)
    with pytest.raises(RuntimeError, match=r"trained at full T=4 to probe, got .* 2"):
        scheduler.probe(loader)
    scheduler.step()
    scheduler.probe(loader)


def search(early_time, scores="fisher", stop=None):
    """A whole search; `stop` saves and restores everything after that round."""
    net, loader = network(), batches()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    scheduler = scheduler_of(net, optimizer, scores=scores, early_time=early_time)
    train(net, optimizer, loader)
    scheduler.set_rewind_point()
    scheduler.probe(loader)
    while not scheduler.finished:
        train(net, optimizer, loader, scheduler.time_steps, scheduler)
        if scheduler.round == stop:
            saved = io.BytesIO()
            torch.save(
                [net.state_dict(), optimizer.state_dict(), scheduler.state_dict()],
                saved,
            )
            saved.seek(0)
            states = torch.load(saved, weights_only=True)
            net = network(seed=9)
            optimizer = OPTIMIZERS["sgd"](net.parameters())
            scheduler = scheduler_of(
                net, optimizer, scores=scores, early_time=early_time
            )
            scheduler.load_state_dict(states[2])
            net.load_state_dict(states[0])
            optimizer.load_state_dict(states[1])
        scheduler.step(loader)
    train(net, optimizer, loader, scheduler.time_steps, scheduler)
    return net, scheduler


def test_with_the_whole_share_the_search_equals_the_one_at_full_t():
    net, scheduler = search(EarlyTimeRule(1.0))
    full, _ = search(None)
    for name, value in net.state_dict().items():
        assert torch.equal(value, full.state_dict()[name]), name
    assert scheduler.ledger.costs["probing"].backward > 0


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_resumed_search_equals_one_that_was_not_interrupted(stop):
    rule = EarlyTimeRule(0.7, float("inf"))
    net, scheduler = search(rule)
    resumed, again = search(rule, stop=stop)
    for name, value in net.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for purpose, cost in scheduler.ledger.costs.items():
        other = again.ledger.costs[purpose]
        assert (cost.forward, cost.backward) == (other.forward, other.backward)
    assert [one.steps for one in scheduler.choices] == [
        one.steps for one in again.choices
    ]


def test_a_state_of_another_search_is_refused():
    state = scheduler_of(network()).state_dict()
    with pytest.raises(ValueError, match=r"got \[90, 45, 23\]"):
        scheduler_of(network(), fraction=0.25).load_state_dict(state)
    for argument, message in (
        ({"scores": "random"}, "with scores 'random', got 'magnitude'"),
        ({"T": 3}, "with T 3, got 4"),
        ({"rewind": None}, "with rewinding False, got True"),
    ):
        with pytest.raises(ValueError, match=message):
            scheduler_of(network(), **argument).load_state_dict(state)


class TestLedger:
    def test_training_is_samples_times_steps_and_the_last_is_final(self):
        net, loader = network(), batches()
        optimizer = OPTIMIZERS["sgd"](net.parameters())
        scheduler = scheduler_of(
            net, optimizer, rounds=1, early_time=ConstantTimeRule(2)
        )
        scheduler.probe(loader)
        scheduler.operations = SparseOperations(10.0, 1.0)
        train(net, optimizer, loader, 2, scheduler)
        scheduler.step(loader)
        train(net, optimizer, loader, T, scheduler)
        costs = scheduler.ledger.costs
        assert costs["training"].forward == costs["training"].backward == 2 * N * 2
        assert costs["final"].sample_steps == 2 * (2 * N * T)
        assert costs["training"].seconds == pytest.approx(1.0)
        assert costs["training"].accumulates == 3 * 2 * N * 2 * 10
        assert costs["training"].multiply_accumulates == 3 * 2 * N * 2 * 1
        total = scheduler.ledger.total()
        assert total.sample_steps == sum(cost.sample_steps for cost in costs.values())

    def test_magnitude_scores_cost_no_pass(self):
        scheduler = scheduler_of(network())
        scheduler.step()
        assert scheduler.ledger.costs["scoring"].sample_steps == 0
        assert scheduler.ledger.costs["scoring"].seconds > 0

    def test_probing_pays_for_every_prefix(self):
        net, loader = network(), batches(3)
        scheduler = scheduler_of(net, early_time=EarlyTimeRule())
        scheduler.probe(loader)
        cost = scheduler.ledger.costs["probing"]
        # One forward pass and a backward pass for each prefix; the first batch is
        # evaluated twice besides.
        assert cost.forward == 3 * N * T + 2 * N * T
        assert cost.backward == 3 * N * T * (T + 1) // 2 + 2 * N * T

    def test_scores_pay_for_one_prefix(self):
        net, loader = network(), batches(3)
        scheduler = scheduler_of(net, scores="fisher", early_time=ConstantTimeRule(2))
        scheduler.probe(loader)
        scheduler.step(loader)
        cost = scheduler.ledger.costs["scoring"]
        assert cost.forward == 3 * N * 2 + 2 * N * T
        # The rules are checked on the first batch: one more pass for two gradients.
        assert cost.backward == 3 * N * 2 + 2 * N * T + 2 * N * 2

    def test_purposes_that_do_not_exist_are_refused(self):
        ledger = scheduler_of(network()).ledger
        with pytest.raises(ValueError, match="Expected `purpose` to be one of"):
            ledger.charge("fun", seconds=1)
        with pytest.raises(ValueError, match="Expected `forward` of at least 0"):
            ledger.charge("training", forward=-1)
        assert "training" in str(ledger)


def test_exclusion_is_by_name_pattern_and_type():
    def pruned(**arguments):
        return list(scheduler_of(network(), **arguments).masks)

    assert pruned() == ["0", "3"]
    assert pruned(prune_readout=True) == ["0", "3", "6"]
    assert pruned(exclude=["0"]) == ["3"]
    assert pruned(exclude=["[0-2]"]) == ["3"]
    assert pruned(exclude=[layer.Conv2d], prune_readout=True) == ["6"]
    with pytest.raises(ValueError, match="'9', which matches none"):
        pruned(exclude=["9"])
    with pytest.raises(TypeError, match="names, patterns or classes"):
        pruned(exclude=[3])
    with pytest.raises(ValueError, match="that `exclude` does not leave out"):
        pruned(exclude=[nn.Conv2d])


def test_a_weight_of_two_layers_is_refused():
    net = network()
    net.append(layer.Linear(24, K, step_mode="m"))
    twice = nn.Sequential(net[0], nn.Sequential(net[0]), net[6])
    twice[1][0] = layer.Conv2d(2, 4, 3, bias=False)
    twice[1][0].weight = net[0].weight
    with pytest.raises(ValueError, match=r"'0' and '1\.0' share"):
        scheduler_of(twice)


@pytest.mark.parametrize(
    "computed",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.spectral_norm,
        lambda _: layer.WSConv2d(4, 6, 3, stride=2, groups=2, step_mode="m"),
    ],
)
def test_a_weight_computed_from_others_is_refused_unless_excluded(computed):
    net = network()
    net[3] = computed(net[3])
    with pytest.raises(ValueError, match=r"'3' .* computed from other parameters"):
        scheduler_of(net)
    assert list(scheduler_of(net, exclude=["3"]).masks) == ["0"]


def test_limits_hold_in_every_round_and_sparsity_stays_exact():
    limits = {"0": Limits(maximum=0.5), "3": Limits(minimum=0.5)}
    scheduler = scheduler_of(
        network(), schedule=CubicSparsity(0.7, 4), rounds=None, limits=limits
    )
    for _ in range(4):
        scheduler.step()
        assert int(scheduler.masks["0"].sum()) >= 36
    assert scheduler.sparsity == pytest.approx(0.7, abs=0.5 / 180)
    assert scheduler.report().layers[1].sparsity >= 0.5
    report = scheduler.report()
    assert any("0" in one.guarded for one in report.rounds)
    assert report.layers[0].guarded == tuple(
        one.number for one in report.rounds if "0" in one.guarded
    )
    assert "guarded in" in str(report)


def test_the_report_says_what_went_and_what_was_left():
    scheduler = scheduler_of(network())
    scheduler.step()
    report = scheduler.report()
    assert [one.name for one in report.layers] == ["0", "3"]
    assert report.sparsity == scheduler.sparsity == 0.5
    assert report.left_whole == ("6.weight",)
    assert "no faster" in str(report)
    assert report.to_csv().splitlines()[0] == (
        "name,shape,weights,remaining,guarded,sparsity"
    )
    assert report.to_csv().splitlines()[1].startswith("0,4x2x3x3,72,")
    assert report.as_dict()["rounds"][0]["remaining"] == 90
    assert report.rounds[0].scores == "magnitude"
    assert report.layers[0].guarded == ()


def test_finalize_gives_dense_weights_with_zeros_under_their_former_keys():
    net, loader = network(), batches()
    keys = list(net.state_dict())
    places = [name for name, _ in net.named_parameters()]
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    parameter = net[0].weight
    scheduler = scheduler_of(net, optimizer)
    scheduler.step()
    masks, sparse = scheduler.masks, scheduler.sparse_state_dict()
    assert scheduler.finalize() is net
    assert set(net.state_dict()) == set(keys) == set(sparse)
    assert [name for name, _ in net.named_parameters()] == places
    assert net[0].weight is parameter
    assert not any(module._forward_hooks for module in net.modules())
    for name in CONV:
        weight = net.get_submodule(name).weight
        assert torch.equal(weight != 0, masks[name])
        assert torch.equal(sparse[f"{name}.weight"].to_dense(), weight)
    train(net, optimizer, loader)
    assert bool((net[0].weight[~masks["0"]] != 0).any())
    for use in (scheduler.step, scheduler.state_dict, scheduler.report):
        with pytest.raises(RuntimeError, match="before `finalize`"):
            use()


def test_the_network_is_left_as_found_by_scores_and_probes():
    net, loader = network(), batches()
    scheduler = scheduler_of(net, scores="fisher", rewind=None)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in net.modules()]
    random = torch.get_rng_state()
    scheduler.probe(loader)
    assert net.training
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [len(module._forward_hooks) for module in net.modules()] == hooks


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"T": None}, ValueError, "Expected `T` to be the number of time steps"),
        ({"T": 0}, ValueError, "`T` to be"),
        ({"rounds": 0}, ValueError, "Expected `rounds` to be a positive integer"),
        ({"rounds": None}, ValueError, "`rounds` or `schedule`, got neither"),
        ({"schedule": [0.5]}, ValueError, "or the 1 of `schedule`, got 3"),
        ({"fraction": 1.5}, ValueError, "Expected `fraction`"),
        ({"scope": "local"}, ValueError, "Expected `scope` to be one of global"),
        ({"rewind": "late"}, ValueError, "Expected `rewind`"),
        ({"scores": "magnitud"}, ValueError, "magnitude"),
        ({"scores": 3}, TypeError, "Expected `scores`"),
        ({"early_time": 3}, TypeError, "Expected `early_time`"),
        ({"limits": {"8": Limits()}}, ValueError, "among 0, 3, got 8"),
        ({"limits": Limits(0.5, 0.2)}, ValueError, "minimum <= maximum"),
    ],
)
def test_what_cannot_be_is_explained(arguments, error, message):
    with pytest.raises((error, LookupError), match=message):
        scheduler_of(network(), **arguments)


def test_scores_without_a_layer_or_of_another_shape_are_refused():
    for scores, message in (
        ({"0": torch.ones(4, 2, 3, 3)}, "for '3', got none"),
        ({"0": torch.ones(4), "3": torch.ones(4)}, r"for '0', got \[4\]"),
    ):
        scheduler = scheduler_of(network(), scores=lambda *_, found=scores: found)
        with pytest.raises(ValueError, match=message):
            scheduler.step()


def test_components_have_names():
    assert available("pruning_score") == [
        "fisher",
        "fisher_magnitude",
        "magnitude",
        "random",
    ]
    assert available("early_time") == ["constant", "fisher", "kl"]
    assert available("sparsity_schedule") == ["cubic", "geometric", "listed"]


def test_two_processes_have_the_masks_of_one(in_two_processes, tmp_path):
    loader = batches(4)
    net = network()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    alone = scheduler_of(net, optimizer, scores="fisher", rounds=1)
    alone._score._options["labels"] = "empirical"
    divergence = KLTimeRule().choose(net, loader, T).evidence["divergence"]
    alone.step(loader)
    in_two_processes(f"""
from torch.nn.parallel import DistributedDataParallel
from tests.pruning.networks import *
from sj_ext.pruning import FisherPruningScheduler, FisherScore, KLTimeRule
net = network()
wrapped = DistributedDataParallel(net)
optimizer = OPTIMIZERS["sgd"](wrapped.parameters())
scheduler = FisherPruningScheduler(
    wrapped, optimizer, rounds=1, fraction=0.5, T=T,
    scores=FisherScore(labels="empirical"),
)
own = batches(4)[rank::2]
probed = KLTimeRule().choose(net, own, T).evidence["divergence"]
scheduler.step(own)
train(wrapped, optimizer, own)
for name, mask in scheduler.masks.items():
    weight = net.get_submodule(name).weight_orig
    assert bool((weight[~mask] == 0).all())
masks = dict(scheduler.masks)
torch.save([masks, net.state_dict(), probed], r"{tmp_path}/" + f"{{rank}}.pt")
""")
    (first, weights, probed), (second, others, again) = (
        torch.load(tmp_path / f"{rank}.pt") for rank in range(2)
    )
    assert probed == again == pytest.approx(divergence)
    for name, mask in alone.masks.items():
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name], mask)
    for name in ("0.weight_orig", "3.weight_orig", "6.weight"):
        assert torch.equal(weights[name], others[name])
