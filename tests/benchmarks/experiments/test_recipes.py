"""What full-size files say of their recipe is what they do."""

from functools import cache

import pytest

from benchmarks.experiments.description import available, read_experiment
from benchmarks.experiments.kinds import kind_of
from benchmarks.experiments.queue import Options, jobs
from benchmarks.studies.pruning.config import PruningConfig

IMAGES = {"cifar10", "cifar100"}
EVENTS = {"cifar10_dvs", "n_caltech101"}
FISHER = [n for n in available() if n.startswith("fisher_") and "pruning" not in n]
ROBUSTNESS = [n for n in available() if n.endswith("robustness")]
TRAINED = [n for n in available() if n.startswith(("msg_", "two_"))]
TRAINED = [n for n in TRAINED if n not in ROBUSTNESS]

read = cache(read_experiment)


def full_size(name):
    """Configurations of an experiment's jobs, those of one seed where it may be one."""
    experiment = read(name)
    at_once = kind_of(experiment.task).all_seeds_at_once
    seeds = tuple(experiment.seeds if at_once else experiment.seeds[:1])
    return [job.config for job in jobs(experiment, Options(seeds=seeds))]


def full_size_trainings(name):
    kind = kind_of(read(name).task)
    return [one for config in full_size(name) for one in kind.trainings(config)]


def said(name):
    return " ".join(read(name).recipe.split())


@pytest.mark.parametrize("name", FISHER)
def test_a_recipe_promises_shuffled_input_where_steps_differ_alone(name):
    (still,) = {one.data.name in IMAGES for one in full_size_trainings(name)}
    assert ("CIFAR's images stand still" in said(name)) == still
    assert ("both nulls" in said(name)) == (not still)


@pytest.mark.parametrize("name", TRAINED)
def test_figures_on_events_stand_beside_runs_on_as_many_recordings(name):
    trainings = full_size_trainings(name)
    if {one.data.name for one in trainings} & EVENTS:
        by_index = {one.split.endswith("_index90") for one in trainings}
        assert by_index in ({True}, {False})
        if by_index == {True}:
            assert "by index, 90 to 10" in said(name)
        else:
            assert not read(name).reported
            assert "60 % of the recordings train, 90 % in the paper" in said(name)


def test_the_papers_split_changes_the_split_alone():
    for name in TRAINED:
        if name.endswith("_index90"):
            ours = read(name.removesuffix("_index90"))
            other = read(name)
            assert (other.arms, other.base, other.reference, other.seeds) == (
                ours.arms,
                ours.base,
                ours.reference,
                ours.seeds,
            )
            assert other.config["model"] == ours.config["model"]
            length, theirs = (
                full_size(one)[0].optimization for one in (ours.name, name)
            )
            assert theirs == length


@pytest.mark.parametrize("name", ROBUSTNESS)
def test_noise_on_images_is_in_pixel_values(name):
    for config in full_size(name):
        assert config.train.data.name in IMAGES
        for noise in config.noise:
            assert noise >= 4, "less cannot be seen among 256 values"
    assert "pixel values of 0 to 255" in said(name)


@pytest.mark.parametrize("name", [*ROBUSTNESS, "fisher_pruning"])
def test_full_size_takes_no_length_from_a_file_for_minutes(name):
    """Files for minutes on two cores warm up for half an epoch."""
    for one in full_size_trainings(name):
        if one.data.name != "event_digits":
            assert one.optimization.warmup_epochs == 0


def test_the_fisher_rule_asks_for_what_its_class_does_and_the_recipe_says():
    name = "fisher_pruning"
    ours, default = full_size(name)[0], PruningConfig()
    rules = ("share", "max_prefix_loss_gap", "kl_threshold", "other_seeds")
    for rule in rules:
        assert getattr(ours, rule) == getattr(default, rule)
    assert f"a share of {ours.share}" in said(name)
    assert ours.other_seeds == 2
    assert "have two seeds" in said(name)


def test_only_autoaugment_sets_the_plain_recipe_apart():
    plain, full = (
        full_size(name)[0].data.augment
        for name in ("msg_two_cifar10_plain", "msg_two_cifar10")
    )
    assert full == f"{plain}_autoaugment"


def test_a_masked_base_has_its_unmasked_like_beside_it():
    """Else base and mask would change at once."""
    settings = [
        (one.surrogate.base, one.surrogate.mask is not None)
        for one in full_size("msg_variants")
    ]
    for base, masked in settings:
        assert not masked or (base, False) in settings
