"""Experiments are read with their mistakes named; those of the package are whole."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from benchmarks import data
from benchmarks.data.frames import EventFrames
from benchmarks.experiments.description import (
    CONFIGS,
    PAPERS,
    SIZES,
    available,
    read_experiment,
)
from benchmarks.experiments.kinds import kind_of
from benchmarks.experiments.queue import Options, jobs
from benchmarks.experiments.work import PREPARED
from benchmarks.models.build import build_network
from benchmarks.report.experiments.outline import outline_of
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import ModelConfig, SurrogateConfig
from benchmarks.tasks.train import build_loss, build_readout
from sj_ext.registry import UnknownNameError


def test_a_grid_runs_every_arm_in_every_combination(tiny):
    experiment = tiny(
        grid={"optimization.lr": [0.1, 0.2], "data.time_steps": [4]}, reported=[]
    )
    labels = [cell.label for cell in experiment.cells("full")]
    assert labels == [
        "base, lr 0.1, T = 4",
        "base, lr 0.2, T = 4",
        "MSG, lr 0.1, T = 4",
        "MSG, lr 0.2, T = 4",
    ]
    assert experiment.cells("full")[3].settings == {
        "surrogate.mask": {"name": "bernoulli", "p": 0.5},
        "optimization.lr": 0.2,
        "data.time_steps": 4,
    }


def test_a_demo_is_smaller_where_it_says_so_and_else_the_same(tiny):
    experiment = tiny()
    full, demo = (jobs(experiment, Options(size=size)) for size in ("full", "demo"))
    assert [job.config.seed for job in full] == [0, 0, 1, 1]
    assert [job.config.seed for job in demo] == [0, 0]
    assert {job.config.optimization.epochs for job in full} == {2}
    assert {job.config.optimization.epochs for job in demo} == {1}
    assert demo[1].config.surrogate.mask == {"name": "bernoulli", "p": 0.5}


def test_seeds_and_splits_are_crossed(tiny, small_data):
    other = "event_digits_1"
    experiment = tiny(splits=[str(small_data.split), other])
    found = [(j.config.seed, j.config.data.split) for j in jobs(experiment, Options())]
    crossed = itertools.product([0, 1], [str(small_data.split), other])
    assert sorted(found) == sorted(2 * list(crossed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paper": "1234.5678"}, "Expected `paper` to be one of 2406.19645"),
        ({"seeds": [0, 0]}, r"Expected `seeds` to be different .*, got \[0, 0\]"),
        ({"demo": {"minutes": 0}}, "Expected `demo.minutes` to be positive, got 0"),
        (
            {"demo": {"minutes": 1, "arms": ["MSGs"]}},
            "Expected `demo.arms` to be of base, MSG, got MSGs",
        ),
        (
            {"demo": {"minutes": 1, "by_arm": {"MSGs": {}}}},
            "Expected `demo.by_arm` to be of base, MSG, got MSGs",
        ),
        (
            {"tuning": {"candidates": [{}], "by_arm": {"MSG": [{}, {"seed": 1}]}}},
            r"as many settings for each arm, got \{'base': 1, 'MSG': 2\}",
        ),
        (
            {"tuning": {"candidates": [{}], "seed": 1}},
            "`tuning.seed` to be none of the study's seeds, got 1",
        ),
        (
            {"task": "fisher", "tuning": {"candidates": [{}]}},
            "Expected no `tuning` with the task fisher",
        ),
        (
            {"arms": {"base": {}}},
            "Expected `reported.arm` to be one of base, got MSG",
        ),
        (
            {"reference": "bose"},
            "Expected `reference` to be one of base; MSG, .* got bose",
        ),
        (
            {"primary": "centroid_network_after"},
            r"`primary` to be a metric of the task train \(test_accuracy, .*"
            "got centroid_network_after",
        ),
        (
            {"demo": {"minutes": 1, "primary": "acuracy"}},
            "`demo.primary` to be a metric of the task train .*got acuracy",
        ),
        ({"titel": "x"}, r"Unknown key `titel`. Did you mean `title`\?"),
        ({"task": "sleep"}, "task"),
    ],
)
def test_a_mistake_is_named_by_its_key(tiny, changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)


def test_an_unknown_experiment_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="attribution"):
        read_experiment("atribution")


def test_a_setting_that_no_run_can_have_is_named_with_its_arm(tiny):
    experiment = tiny(arms={"MSG": {"optimization.lr": -1}})
    with pytest.raises(ConfigError, match=r"tiny, MSG, seed 0: .*`optimization.lr`"):
        jobs(experiment, Options())


def test_a_file_is_called_as_its_experiment(tiny, write):
    path = write("tiny")
    path.rename(path.with_name("other.yaml"))
    with pytest.raises(ConfigError, match=r"of other.yaml to be other, got tiny"):
        read_experiment(str(path.with_name("other.yaml")))


@pytest.mark.parametrize("name", available())
def test_experiments_of_the_package_are_valid_at_both_sizes(name):
    experiment = read_experiment(name)
    kind = kind_of(experiment.task)
    for size in SIZES:
        seeds = experiment.seeds_of(size)
        if not kind.all_seeds_at_once:
            seeds = seeds[:1]  # others differ in their number alone
        options = Options(size=size, seeds=tuple(seeds))
        found = [
            training
            for job in jobs(experiment, options)
            for training in kind.trainings(job.config)
        ]
        known = data.available() if size == "full" else PREPARED
        assert {training.data.name for training in found} <= {*known}
        if size == "demo":
            assert {training.device.accelerator for training in found} == {"cpu"}
    assert experiment.demo.note, "a demo says what it is not"


SHAPES = {
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "cifar10_dvs": (2, 128, 128),
    "n_caltech101": (2, 180, 240),
    "event_digits": (2, 32, 32),
    "planted_digits": (2, 32, 32),
}


_built: set[str] = set()


@pytest.mark.parametrize("name", available())
def test_networks_masks_readouts_and_losses_can_be_built(name):
    experiment = read_experiment(name)
    kind = kind_of(experiment.task)
    for size in SIZES:
        seeds = tuple(experiment.seeds_of(size))
        seeds = seeds if kind.all_seeds_at_once else seeds[:1]
        for job in jobs(experiment, Options(size=size, seeds=seeds)):
            for training in kind.trainings(job.config):
                build_readout(training)
                build_loss(training)
                # Once in all files: a large network, and its neurons in a small one.
                small = ModelConfig(kwargs={"channels": [4]})
                plain = replace(training, surrogate=SurrogateConfig())
                for which in (plain, replace(training, model=small)):
                    build_once(which)


def build_once(training):
    parts = (training.data.name, training.model, training.neuron, training.surrogate)
    if repr(parts) in _built or training.model.kwargs.get("depth", 0) > 56:
        return  # very deep ones take seconds; the description is that of the others
    _built.add(repr(parts))
    frames = EventFrames(
        torch.zeros(1, 1, *SHAPES[training.data.name], dtype=torch.uint8),
        torch.zeros(1, dtype=torch.int64),
        ("0/one",),
        tuple(map(str, range(10))),
    )
    with torch.device("meta"):
        build_network(training, frames)


@pytest.mark.parametrize("name", available())
def test_every_figure_says_how_sure_it_is(name):
    for figure in read_experiment(name).reported:
        assert figure.source
        assert figure.said.startswith(f"reported ({figure.confidence}), ")


@pytest.mark.parametrize("name", [n for n in available() if n.startswith("msg_two")])
def test_weights_of_steps_move_within_every_demo(name):
    for job in jobs(read_experiment(name), Options(size="demo", seeds=(0,))):
        readout = job.config.readout
        if readout.name == "temporally_weighted":
            assert readout.kwargs["start_epoch"] < job.config.optimization.epochs


@pytest.mark.parametrize("name", available())
def test_every_file_says_what_its_arms_are_compared_with(name):
    experiment = read_experiment(name)
    assert experiment.reference
    if experiment.task == "train":
        for size in SIZES:
            labels = [cell.label for cell in experiment.cells(size)]
            references = outline_of(name, size, labels).references
            of = {*labels} - {*references}
            assert {*references.values()} == of, "each arm is one, or has one"


@pytest.mark.parametrize("name", available())
def test_arms_are_compared_by_what_the_experiment_asks_about(name):
    experiment = read_experiment(name)
    for size in SIZES:
        primary = experiment.primary_of(size)
        if experiment.task in ("fisher", "cka", "robustness"):
            assert primary != "test_accuracy"
        if experiment.task == "robustness":
            attacked = {
                f"worst_case_{attack}_{budget}"
                for job in jobs(experiment, Options(size=size))
                for attack, settings in job.config.attacks.items()
                for budget in settings.budgets
            }
            assert primary in attacked
        if any("data.time_steps" in key for key in experiment.config.get("sweep", {})):
            assert primary.startswith("relative_"), "a centroid in steps grows with T"


@pytest.mark.parametrize("name", available())
def test_figures_that_were_selected_on_test_are_set_beside_such(name):
    experiment = read_experiment(name)
    for figure in experiment.reported:
        assert figure.metric == "best_on_test_accuracy"
    if experiment.reported:
        for job in jobs(experiment, Options(seeds=(0,))):
            assert job.config.test_every_epoch, "else no such figure is measured"


def test_no_two_experiments_train_the_same_for_different_reported_figures():
    found = {}
    for name in available():
        experiment = read_experiment(name)
        for figure in experiment.reported:
            for job in jobs(experiment, Options(seeds=(0,))):
                if job.arm == figure.arm:
                    other = found.setdefault(job.config.digest(), figure.value)
                    assert other == figure.value, name


def test_all_demos_take_40_minutes_at_most():
    minutes = [read_experiment(name).demo.minutes for name in available()]
    assert sum(minutes) <= 40


def test_every_paper_has_its_experiments():
    found = {read_experiment(name).paper for name in available()}
    assert found == set(PAPERS)


def test_bases_are_files_of_the_package():
    for name in available():
        experiment = read_experiment(name)
        for base in filter(None, (experiment.base, experiment.demo.base)):
            assert (CONFIGS / base).exists(), base


def test_a_number_in_quotes_stays_text(write):
    assert json.dumps(read_experiment(str(write())).paper) == '"2406.19645"'


@pytest.mark.parametrize(
    ("task", "primary"), [("train", "test_accuracy"), ("cka", "cka_snn_and_ann")]
)
def test_an_experiment_that_names_no_metric_is_compared_by_that_of_its_task(
    tiny, task, primary
):
    experiment = tiny(task=task, config={})
    assert [experiment.primary_of(size) for size in SIZES] == [primary, primary]
    other = tiny(primary="last_epoch_accuracy", config={})
    assert other.primary_of("demo") == "last_epoch_accuracy"
