"""A configuration is typed, checked, named by its content, and explains mistakes."""

import pytest

from benchmarks.runs.config import ConfigError, TrainConfig, read


def test_a_file_is_read_and_the_command_line_wins(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("name: mine\noptimization: {epochs: 3, lr: 0.5}\n")
    config = read(["--config", str(file), "--optimization.lr", "0.25"])
    assert (config.name, config.optimization.epochs) == ("mine", 3)
    assert config.optimization.lr == 0.25
    assert config.readout.name == "rate"


def test_what_is_written_is_read_back_the_same(tmp_path):
    config = read(
        ["--readout.kwargs.start_epoch", "2", "--surrogate.mask.name", "bernoulli"]
    )
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    again = read(["--config", str(file)])
    assert again == config
    assert again.digest() == config.digest()


def test_the_digest_follows_what_determines_the_result():
    digests = {
        read([]).digest(),
        read(["--seed", "1"]).digest(),
        read(["--readout.kwargs.momentum", "0.5"]).digest(),
        read(["--device.precision", "bf16-mixed"]).digest(),
    }
    assert len(digests) == 4


def test_the_digest_does_not_follow_where_things_lie():
    moved = read(["--output", "elsewhere", "--data.root", "/other/disk"])
    assert moved.digest() == TrainConfig().digest()


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("optimiser: {lr: 0.1}", "optimiser.lr", "optimization.lr"),
        ("data: {time_step: 4}", "data.time_step", "data.time_steps"),
        ("sed: 3", "sed", "seed"),
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
