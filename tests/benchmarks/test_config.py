"""A configuration is typed, checked, named by its content, and explains mistakes."""

import pytest

from benchmarks.models.neurons import neuron_factory
from benchmarks.runs.config import (
    CalibrationConfig,
    ConfigError,
    NeuronConfig,
    ScheduleConfig,
    SurrogateConfig,
    TrainConfig,
    read,
)
from sj_ext.registry import UnknownNameError

BERNOULLI = ["--surrogate.mask", '{"name": "bernoulli", "p": 0.5}']
RISING = ["--surrogate.schedule", '{"attribute": "p", "end": 0.9}']
CONSTANT = ["--surrogate.schedule", '{"attribute": "p", "shape": "constant"}']
WINDOW = ["--surrogate.mask.name", "window"]
CALIBRATED = ["--surrogate.calibrate_window.density", "0.3"]


def test_a_file_is_read_and_the_command_line_wins(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("name: mine\noptimization: {epochs: 3, lr: 0.5}\n")
    config = read(["--config", str(file), "--optimization.lr", "0.25"])
    assert (config.name, config.optimization.epochs) == ("mine", 3)
    assert config.optimization.lr == 0.25
    assert config.readout.name == "rate"


@pytest.mark.parametrize("more", [[*BERNOULLI, *RISING], [*WINDOW, *CALIBRATED]])
def test_what_is_written_is_read_back_the_same(tmp_path, more):
    config = read(["--readout.kwargs.start_epoch", "2", *more])
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    again = read(["--config", str(file)])
    assert again == config
    assert again.digest() == config.digest()


def test_schedule_and_calibration_are_read_as_nested_keys(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "surrogate:\n"
        "  mask: {name: bernoulli, p: 0.5}\n"
        "  schedule: {attribute: p, end: 0.99, begin_epoch: 5}\n"
    )
    words = ["--config", str(file)]
    schedule = read([*words, "--surrogate.schedule.shape", "cosine"]).surrogate.schedule
    assert schedule == ScheduleConfig("p", 0.99, shape="cosine", begin_epoch=5)
    assert read([*words, "--surrogate.schedule", "null"]).surrogate.schedule is None
    calibration = read([*WINDOW, *CALIBRATED]).surrogate.calibrate_window
    assert calibration == CalibrationConfig(density=0.3, batches=None)


def test_configurations_share_nothing():
    first, second = read([]), read([])
    first.surrogate.base_kwargs["alpha"] = 4.0
    first.model.kwargs["channels"] = [4]
    first.optimization.lr = 9.0
    assert second == read([]) == TrainConfig()


def test_the_digest_follows_what_determines_the_result():
    digests = {
        read([]).digest(),
        read(["--seed", "1"]).digest(),
        read(["--readout.kwargs.momentum", "0.5"]).digest(),
        read(["--device.precision", "bf16-mixed"]).digest(),
        read([*BERNOULLI, *RISING]).digest(),
        read([*WINDOW, *CALIBRATED]).digest(),
    }
    assert len(digests) == 6


def test_the_digest_does_not_follow_where_things_lie():
    moved = read(["--output", "elsewhere", "--data.root", "/other/disk"])
    assert moved.digest() == TrainConfig().digest()


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("optimiser: {lr: 0.1}", "optimiser.lr", "optimization.lr"),
        ("data: {time_step: 4}", "data.time_step", "data.time_steps"),
        ("sed: 3", "sed", "seed"),
        (
            "surrogate: {schedule: {attribute: p, ende: 0.9}}",
            "surrogate.schedule.ende",
            "surrogate.schedule.end",
        ),
        (
            "surrogate: {calibrate_window: {density: 0.3, batch: 1}}",
            "surrogate.calibrate_window.batch",
            "surrogate.calibrate_window.batches",
        ),
        (
            "surrogate: {calibrate: {density: 0.3}}",
            "surrogate.calibrate.density",
            "surrogate.calibrate_window.density",
        ),
    ],
)
def test_an_unknown_key_of_a_file_is_answered_with_the_nearest(
    tmp_path, text, unknown, nearest
):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read(["--config", str(file)])
    assert f"Unknown key `{unknown}`. Did you mean `{nearest}`?" in str(error.value)


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"`optimization.lrr`. Did you mean `opt.*lr`"
    ):
        read(["--optimization.lrr", "3"])


@pytest.mark.parametrize("word", ["--optimization.epoch", "--see", "--data.time"])
def test_a_shortened_option_is_no_option(word):
    with pytest.raises(ConfigError, match="Unknown key"):
        read([word, "3"])


def test_the_digest_follows_the_host(monkeypatch):
    here = TrainConfig().digest()
    monkeypatch.setattr("sj_ext.host.RELEASE", "another")
    assert TrainConfig().digest() != here


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimization.lr", "fast"], '"optimization.lr": Expected a .*float.*fast'),
        (["--seed", "-1"], "Expected `seed` of at least 0, got -1"),
        (["--optimization.lr", ".nan"], "Expected `optimization.lr` to be positive"),
        (
            ["--optimization.weight_decay", ".nan"],
            "weight_decay` of at least 0, got nan",
        ),
        (["--optimization.lr", "-1"], "Expected `optimization.lr` to be positive"),
        (
            ["--optimization.epochs", "0"],
            "Expected `optimization.epochs` of at least 1",
        ),
        (["--optimization.batch_size", "1"], "batch_size` of at least 2, got 1"),
        (["--optimization.warmup_epochs", "11"], "at most the 10 epochs, got 11"),
        (["--data.time_steps", "0"], "Expected `data.time_steps` of at least 1"),
        (["--device.precision", "8"], "device.precision.*32-true"),
        (["--name", "a/b"], "Expected `name` to be a folder's name"),
        (
            ["--surrogate.schedule.end", "0.9"],
            "required: surrogate.schedule.attribute",
        ),
        (
            [*BERNOULLI, *RISING, "--surrogate.schedule.end", "high"],
            'Parser key "surrogate.schedule.end".*high',
        ),
        (
            [*BERNOULLI, *RISING, "--surrogate.schedule.shape", "square"],
            'Parser key "surrogate.schedule.shape".*square',
        ),
        (RISING, "Expected `surrogate.mask` to be a rule .* got null"),
        (
            [*BERNOULLI, "--surrogate.schedule.attribute", "p"],
            "Expected `surrogate.schedule.end` .* got None with linear",
        ),
        (
            [*BERNOULLI, *RISING, "--surrogate.schedule.begin_epoch", "-1"],
            "Expected `surrogate.schedule.begin_epoch` of at least 0, got -1",
        ),
        (
            [*BERNOULLI, *RISING, "--surrogate.schedule.epochs", "-1"],
            "Expected `surrogate.schedule.epochs` of at least 0, got -1",
        ),
        (
            [*BERNOULLI, *RISING, "--surrogate.schedule.begin_epoch", "10"],
            "`surrogate.schedule.begin_epoch` below the 10 epochs, got 10",
        ),
        (
            [*BERNOULLI, *CONSTANT, "--surrogate.schedule.begin_epoch", "3"],
            "no `surrogate.schedule.begin_epoch` with the constant shape, .* got 3",
        ),
        (
            [*BERNOULLI, *CONSTANT, "--surrogate.schedule.epochs", "2"],
            "no `surrogate.schedule.epochs` with the constant shape, .* got 2",
        ),
        (
            [*BERNOULLI, "--surrogate.schedule", "p"],
            "`surrogate.schedule` to be a mapping with keys from attribute, end, .* p.",
        ),
        (
            ["--surrogate.calibrate_window", "0.3"],
            "`surrogate.calibrate_window` to be a mapping .* share_of_base, got 0.3",
        ),
        (
            [*WINDOW, *CALIBRATED, "--surrogate.calibrate_window.share_of_base", "0.5"],
            "Expected one of `density` and `share_of_base` .* got {'density': 0.3",
        ),
        (
            [*WINDOW, "--surrogate.calibrate_window.batches", "2"],
            "Expected one of `density` and `share_of_base` .* got neither",
        ),
        (
            [*WINDOW, "--surrogate.calibrate_window.share_of_base", "1"],
            r"`surrogate.calibrate_window.share_of_base` in \(0, 1\), got 1",
        ),
        (
            [*BERNOULLI, *CALIBRATED],
            "Expected `surrogate.mask` to be {name: window}, .* got .*bernoulli",
        ),
        (
            [*WINDOW, *CALIBRATED, "--surrogate.mask.half_width", "0.2"],
            "Expected `surrogate.mask` to be {name: window}, .* got .*half_width",
        ),
        (
            [*WINDOW, "--surrogate.calibrate_window.density", "1.5"],
            r"`surrogate.calibrate_window.density` in \(0, 1\), got 1.5",
        ),
        (
            [*WINDOW, *CALIBRATED, "--surrogate.calibrate_window.batches", "0"],
            "`surrogate.calibrate_window.batches` of at least 1, got 0",
        ),
        (
            [*WINDOW, *CALIBRATED, *RISING],
            "`surrogate.schedule` or `surrogate.calibrate_window`, got both",
        ),
        (["--config", "nowhere.yaml"], "File does not exist: .*nowhere.yaml'"),
    ],
)
def test_a_wrong_value_is_refused_by_key(words, message):
    with pytest.raises(ConfigError, match=message):
        read(words)


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    file = tmp_path / "list.yaml"
    file.write_text("- 1\n")
    with pytest.raises(ConfigError):
        read(["--config", str(file)])


@pytest.mark.parametrize("name", ["BaseNode", "AdaptBaseNode", "PSN"])
def test_only_neurons_that_can_be_trained_are_offered(name):
    with pytest.raises(UnknownNameError) as error:
        neuron_factory(NeuronConfig(name), SurrogateConfig())
    offered = error.value.args[2]
    assert name not in offered
    assert {"LIFNode", "QIFNode", "ReLU"} <= set(offered)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.time_steps", "1", "`data.time_steps` of at least 2 with the loss temp"),
        ("device.precision", "16-mixed", "`device.precision` to be .* got '16-mixed'"),
    ],
)
def test_a_loss_over_pairs_of_prefixes_is_refused_where_there_can_be_none(
    key, value, message
):
    words = [f"--{key}", value]
    with pytest.raises(ConfigError, match=message):
        read([*words, "--loss.name", "temporal_concentration"])
    assert read(words).loss.name == "cross_entropy"


def test_runs_with_the_former_formula_of_a_loss_are_other_runs(monkeypatch):
    concentrated = read(["--loss.name", "temporal_concentration"])
    now = concentrated.digest()
    monkeypatch.setattr("benchmarks.runs.config._CONCENTRATION", "none")
    assert concentrated.digest() != now


@pytest.mark.parametrize("key", ["device.devices", "optimization.accumulate"])
def test_a_loss_that_is_no_mean_over_samples_takes_whole_batches(key):
    words = [f"--{key}", "2"]
    concentrated = ["--loss.name", "temporal_concentration"]
    with pytest.raises(ConfigError, match=f"`{key}` to be 1 with the loss temporal_"):
        read([*words, *concentrated])
    assert read(words).loss.name == "cross_entropy"
    assert read(concentrated).device.devices == 1
