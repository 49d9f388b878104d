"""Weights follow each step's training accuracy, with the timing of the paper's code."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import cross_entropy

import sj_ext
from sj_ext.readout import RateReadout, TemporallyWeightedOutput


def logits_right_at(steps, T, N=4, K=3):
    """Logits whose argmax is class 1 at the given steps, class 0 elsewhere."""
    logits = torch.zeros(T, N, K)
    logits[:, :, 0] = 1.0
    for t in steps:
        logits[t, :, 1] = 2.0
    return logits


TARGET = torch.ones(4, dtype=torch.int64)


def test_the_output_is_the_mean_over_time_weighted_by_w():
    head = TemporallyWeightedOutput(T=3)
    head.weight.copy_(torch.tensor([0.5, 1.0, 1.5]))
    logits = torch.randn(3, 2, 5, requires_grad=True)
    out = head(logits)
    expected = sum(w * o for w, o in zip([0.5, 1.0, 1.5], logits, strict=True)) / 3
    torch.testing.assert_close(out, expected)
    gradient = torch.autograd.grad(out.sum(), logits)[0]
    torch.testing.assert_close(gradient[2], torch.full((2, 5), 0.5))


def test_a_fresh_head_is_the_plain_mean():
    logits = torch.randn(4, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(TemporallyWeightedOutput(T=4)(logits), logits.mean(0))
    torch.testing.assert_close(RateReadout(T=4)(logits), logits.mean(0))


def test_one_update_is_the_formula():
    head = TemporallyWeightedOutput(T=2, momentum=0.7, start_epoch=1)
    head.update(logits_right_at([1], T=2), TARGET)
    head.update(logits_right_at([0, 1], T=2), TARGET)
    accuracy = torch.tensor([0.5, 1.0])
    torch.testing.assert_close(head.accuracy(), accuracy.double())
    head.end_epoch()
    expected = 0.7 + 0.3 * accuracy / accuracy.mean()
    torch.testing.assert_close(head.weight, expected)


def test_weights_first_move_before_the_start_epoch_and_after_its_forerunner():
    head = TemporallyWeightedOutput(T=2, start_epoch=6)
    moved = []
    for _ in range(8):
        head.update(logits_right_at([1], T=2), TARGET)
        used_in_validation = head.weight.clone()
        head.end_epoch()
        moved.append(not torch.equal(used_in_validation, torch.ones(2)))
    assert moved == [False] * 6 + [True] * 2


def test_accuracies_of_one_epoch_do_not_leak_into_the_next():
    head = TemporallyWeightedOutput(T=2, momentum=0.0, start_epoch=1)
    head.update(logits_right_at([0], T=2), TARGET)
    head.end_epoch()
    head.update(logits_right_at([0, 1], T=2), TARGET)
    head.end_epoch()
    torch.testing.assert_close(head.weight, torch.ones(2))


def test_the_mean_of_the_weights_stays_1():
    head = TemporallyWeightedOutput(T=7, start_epoch=1)
    for _ in range(200):
        head.update(torch.randn(7, 16, 4), torch.randint(4, (16,)))
        head.end_epoch()
        assert abs(head.weight.double().mean() - 1) < 1e-6
    assert (head.weight != 1).any()


def test_weights_stay_when_no_step_was_right_or_nothing_was_counted():
    head = TemporallyWeightedOutput(T=2, start_epoch=1)
    head.end_epoch()
    head.update(logits_right_at([], T=2), TARGET)
    head.end_epoch()
    assert torch.equal(head.weight, torch.ones(2))


def test_accuracy_of_the_prefix_counts_cumulated_logits():
    logits = torch.zeros(2, 1, 2)
    logits[0, 0] = torch.tensor([0.0, 3.0])  # alone and as prefix: class 1
    logits[1, 0] = torch.tensor([1.0, 0.0])  # alone class 0, as prefix class 1
    target = torch.tensor([1])
    by_step = TemporallyWeightedOutput(T=2)
    by_prefix = TemporallyWeightedOutput(T=2, accuracy_of="prefix")
    for head in (by_step, by_prefix):
        head.update(logits, target)
    assert by_step.correct.tolist() == [1, 0]
    assert by_prefix.correct.tolist() == [1, 1]


@pytest.mark.parametrize("accuracy_from", ["train", "heldout"])
def test_only_batches_of_the_chosen_mode_are_counted(accuracy_from):
    head = TemporallyWeightedOutput(T=2, accuracy_from=accuracy_from)
    head.train(accuracy_from != "train")
    head.update(logits_right_at([0, 1], T=2), TARGET)
    assert head.seen.tolist() == [0, 0]
    head.train(accuracy_from == "train")
    head.update(logits_right_at([1], T=2), TARGET)
    assert head.seen.tolist() == [4, 4]
    assert head.correct.tolist() == [0, 4]


def test_fewer_steps_are_read_out_with_their_weights_scaled_to_mean_1():
    head = TemporallyWeightedOutput(T=3)
    head.weight.copy_(torch.tensor([0.25, 0.5, 2.25]))
    logits = torch.randn(2, 4, 5)
    torch.testing.assert_close(head(logits), logits[0] / 3 + 2 * logits[1] / 3)


def test_each_step_has_its_accuracy_over_the_samples_it_has_seen():
    head = TemporallyWeightedOutput(T=3, momentum=0.5, start_epoch=1)
    head.weight.copy_(torch.tensor([0.5, 1.0, 1.5]))
    head.update(logits_right_at([1], T=2), TARGET)
    head.update(logits_right_at([0, 1], T=2), TARGET)
    assert head.seen.tolist() == [8, 8, 0]
    assert head.accuracy()[:2].tolist() == [0.5, 1.0]
    assert head.accuracy()[2].isnan()
    head.end_epoch()
    # The two steps have the accuracies 1/2 and 1, their weights 0.75 on average.
    new = 0.75 * torch.tensor([0.5, 1.0]) / 0.75
    expected = 0.5 * torch.tensor([0.5, 1.0]) + 0.5 * new
    torch.testing.assert_close(head.weight, torch.cat([expected, torch.tensor([1.5])]))


def test_batches_of_different_lengths_count_for_the_steps_they_have():
    head = TemporallyWeightedOutput(T=2, start_epoch=1, momentum=0.0)
    head.update(logits_right_at([0], T=1), TARGET)
    head.update(logits_right_at([1], T=2), TARGET)
    assert head.seen.tolist() == [8, 4]
    assert head.accuracy().tolist() == [0.5, 1.0]
    head.end_epoch()
    torch.testing.assert_close(head.weight, torch.tensor([2 / 3, 4 / 3]))


def test_a_prefix_of_steps_that_are_never_right_is_their_plain_mean():
    head = TemporallyWeightedOutput(T=3, momentum=0.0, start_epoch=1)
    head.update(logits_right_at([2], T=3), TARGET)
    head.end_epoch()
    torch.testing.assert_close(head.weight, torch.tensor([0.0, 0.0, 3.0]))
    logits = torch.randn(3, 4, 3)
    torch.testing.assert_close(head(logits[:2]), logits[:2].mean(0))
    torch.testing.assert_close(head.prefixes(logits)[1], logits[:2].mean(0))


def test_a_soft_target_counts_by_its_most_probable_class_or_not_at_all():
    soft = torch.tensor([[0.3, 0.7, 0.0]] * 3 + [[0.9, 0.1, 0.0]])
    logits = logits_right_at([1], T=2)
    by_argmax = TemporallyWeightedOutput(T=2)
    by_argmax.update(logits, soft)
    assert by_argmax.correct.tolist() == [1, 3]
    assert by_argmax.seen.tolist() == [4, 4]
    skipping = TemporallyWeightedOutput(T=2, soft_targets="skip")
    skipping.update(logits, soft)
    skipping.update(logits, TARGET)
    assert skipping.correct.tolist() == [0, 4]
    assert skipping.seen.tolist() == [4, 4]


def test_without_weights_it_is_the_plain_mean_for_the_time_being():
    head = TemporallyWeightedOutput(T=3)
    head.weight.copy_(torch.tensor([0.25, 0.5, 2.25]))
    logits = torch.randn(3, 4, 5)
    weighted = head(logits)
    with head.unweighted():
        torch.testing.assert_close(head(logits), logits.mean(0))
        torch.testing.assert_close(head.prefixes(logits)[1], logits[:2].mean(0))
        assert head.shares(2).tolist() == [0.5, 0.5]
        with head.unweighted():
            pass
        torch.testing.assert_close(head(logits), logits.mean(0))
    assert torch.equal(head(logits), weighted)


def test_the_deviation_is_the_largest_distance_of_a_weight_from_1():
    head = TemporallyWeightedOutput(T=3, start_epoch=1)
    assert head.deviation == 0
    head.weight.copy_(torch.tensor([0.25, 0.5, 2.25]))
    assert head.deviation == 1.25
    for _ in range(100):
        head.update(logits_right_at([0, 1, 2], T=3), TARGET)
        head.end_epoch()
    assert head.deviation < 1e-6, "weights vanish as every step is always right"


def test_a_state_dict_with_one_count_for_all_steps_is_still_read():
    head = TemporallyWeightedOutput(T=2)
    state = {**head.state_dict(), "seen": torch.tensor(7)}
    head.load_state_dict(state)
    assert head.seen.tolist() == [7, 7]
    nested = torch.nn.Sequential(TemporallyWeightedOutput(T=2))
    nested.load_state_dict({f"0.{key}": value for key, value in state.items()})
    assert nested[0].seen.tolist() == [7, 7]


def test_a_head_resumed_in_mid_epoch_goes_on_as_if_never_stopped():
    torch.manual_seed(0)
    batches = [(torch.randn(3, 8, 4), torch.randint(4, (8,))) for _ in range(6)]
    head = TemporallyWeightedOutput(T=3, start_epoch=1)
    resumed = TemporallyWeightedOutput(T=3, start_epoch=1)
    for number, (logits, target) in enumerate(batches):
        head.update(logits, target)
        if number == 1:
            resumed.load_state_dict(copy.deepcopy(head.state_dict()))
        if number > 1:
            resumed.update(logits, target)
        if number == 3:
            head.end_epoch()
            resumed.end_epoch()
    head.end_epoch()
    resumed.end_epoch()
    assert all(
        torch.equal(value, resumed.state_dict()[key])
        for key, value in head.state_dict().items()
    )
    assert resumed.epoch == 2


def test_it_learns_in_a_loop_as_documented():
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 3)
    head = TemporallyWeightedOutput(T=4, start_epoch=1)
    optimizer = torch.optim.SGD(linear.parameters(), 0.5)
    x, target = torch.randn(4, 30, 5), torch.randint(3, (30,))
    x[2:, range(30), target] += 4.0  # the evidence comes late
    for _ in range(20):
        head.train()
        logits = linear(x)
        loss = cross_entropy(head(logits), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        head.update(logits, target)
        head.eval()
        head.end_epoch()
    assert head.weight[2:].min() > 1 > head.weight[:2].max()


def test_half_precision_logits_keep_their_dtype():
    head = TemporallyWeightedOutput(T=2)
    assert head(torch.randn(2, 3, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((4, 8, 10), r"\[4, 8, 10\]"),
        ((2, 10), r"\[2, 10\]"),
        ((0, 2, 10), r"\[0, 2, 10\]"),
    ],
)
@pytest.mark.parametrize("head", [TemporallyWeightedOutput(T=2), RateReadout(T=2)])
def test_a_wrong_number_of_steps_is_refused_with_the_shape(head, shape, shown):
    with pytest.raises(ValueError, match=rf"t from 1 to T=2, got {shown}"):
        head(torch.zeros(shape))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, 1, 2, 3]), r"Expected `target` in \[0, 3\), got labels.* 3"),
        (torch.tensor([0, 1, 2, -1]), r"got labels from -1 to 2"),
        (torch.tensor([0, 1]), r"Expected `target` of shape \[N=4\], got \[2\]"),
        (torch.rand(4), r"class indices, got dtype torch.float32"),
        (torch.full((4, 3), 0.5), r"probabilities that sum to 1, got .* from 1.5 to"),
        (torch.tensor([[-1.0, 1.0, 1.0]] * 4), r"probabilities .* got -1.0 as the le"),
        (torch.rand(4, 2), r"shape \[N=4\], got \[4, 2\]"),
    ],
)
def test_targets_that_are_no_labels_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        TemporallyWeightedOutput(T=2).update(torch.zeros(2, 4, 3), target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"T": 0}, "Expected `T` to be a positive integer, got 0"),
        ({"T": 2.0}, "Expected `T` to be a positive integer, got 2.0"),
        ({"T": 2, "momentum": 1.0}, r"Expected `momentum` in \[0, 1\), got 1.0"),
        ({"T": 2, "start_epoch": 0}, "Expected `start_epoch` to be an integer"),
        ({"T": 2, "accuracy_of": "steps"}, "Expected `accuracy_of` to be one of step"),
        ({"T": 2, "accuracy_from": "test"}, "`accuracy_from` to be one of train, held"),
        ({"T": 2, "soft_targets": "mean"}, "`soft_targets` to be one of argmax, skip"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        TemporallyWeightedOutput(**arguments)


def test_one_configuration_key_chooses_the_readout():
    names = ["last", "max", "rate", "temporally_weighted"]
    assert sj_ext.available("readout") == names
    for name in names:
        assert sj_ext.create("readout", name, T=3)(torch.zeros(2, 4, 5)).shape == (4, 5)
    head = sj_ext.create("readout", "temporally_weighted", T=3, momentum=0.5)
    assert head.momentum == 0.5


COUNT_IN_TWO = """
import json, os, sys, torch, torch.distributed as dist
from sj_ext.readout import TemporallyWeightedOutput
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
)
logits, target = torch.load(f"{folder}/batch.pt")
head = TemporallyWeightedOutput(T=3, start_epoch=1)
for t, start in ((3, rank * 4), (2 + rank, 8 + rank * 4)):
    head.update(logits[:t, start : start + 4], target[start : start + 4])
counts = head.correct.tolist() + head.seen.tolist()
head.end_epoch()
print(json.dumps([counts, head.weight.tolist()]))
dist.barrier()
sys.stdout.flush()
os._exit(0)  # gloo's threads can abort a process that leaves in the usual way
"""


def test_two_processes_count_what_one_counts(tmp_path):
    logits, target = torch.randn(3, 16, 4), torch.randint(4, (16,))
    torch.save((logits, target), tmp_path / "batch.pt")
    alone = TemporallyWeightedOutput(T=3, start_epoch=1)
    alone.update(logits[:, :8], target[:8])
    alone.update(logits[:2, 8:12], target[8:12])
    alone.update(logits[:, 12:], target[12:])
    counts = alone.correct.tolist() + alone.seen.tolist()
    assert alone.seen.tolist() == [16, 16, 12]
    alone.end_epoch()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT_IN_TWO, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        printed, _ = process.communicate(timeout=120)
        assert json.loads(printed) == [counts, alone.weight.tolist()]
