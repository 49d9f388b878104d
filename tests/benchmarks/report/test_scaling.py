"""Times on many devices follow from one measured figure by the documented formulas."""

import json
from dataclasses import replace

import pytest

from benchmarks.report.scaling import (
    Workload,
    estimated,
    main,
    measured_by,
    measured_in,
    report,
)
from benchmarks.runs.command_line import ConfigError
from benchmarks.speed.masked.neurons import HOST, OURS

WORK = Workload(
    seconds_per_sample={1: 0.01},
    epochs=10,
    batch=256,
    samples=25_600,
    validation_samples=800,
    forward_share=0.5,
    parameters=25_000_000,
    bandwidth=1e9,
)


def test_one_device_takes_samples_times_seconds():
    found = estimated(WORK, 1)
    assert found.steps == 100
    assert found.exchange == 0
    assert found.epoch == pytest.approx(25_600 * 0.01 + 800 * 0.5 * 0.01)
    assert found.training == pytest.approx(10 * found.epoch)


def test_eight_devices_are_as_computed_by_hand():
    found = estimated(WORK, 8)
    assert found.compute == pytest.approx(0.32)
    assert found.exchange == pytest.approx(2 * 7 / 8 * 4 * 25e6 / 1e9)  # 0.175
    assert found.epoch == pytest.approx(100 * 0.495 + 100 * 0.5 * 0.01)
    assert found.efficiency == pytest.approx(0.32 / 0.495)
    assert found.device_hours == pytest.approx(8 * 10 * 50.0 / 3600)


def test_without_a_bandwidth_devices_share_the_work_evenly():
    free = replace(WORK, bandwidth=None)
    one, many = estimated(free, 1), estimated(free, 64)
    assert many.efficiency == 1
    assert one.epoch / many.epoch == pytest.approx(64, rel=0.01)
    assert "lower bounds" in report(free, [64])


def test_overlap_hides_a_share_of_the_exchange():
    half = estimated(replace(WORK, overlap=0.5), 8)
    assert half.exchange == pytest.approx(estimated(WORK, 8).exchange / 2)
    assert estimated(replace(WORK, overlap=1.0), 8).efficiency == 1


def test_uneven_batches_wait_for_the_largest_part():
    found = estimated(replace(WORK, batch=250, samples=1001), 8)
    assert found.steps == 5
    assert found.compute == pytest.approx(32 * 0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds_per_sample": {1: 0.0}}, "`seconds_per_sample` to be positive"),
        ({"seconds_per_sample": {}}, "`seconds_per_sample` of some batch"),
        ({"epochs": 0}, "epochs"),
        ({"overlap": 1.5}, "overlap"),
        ({"bandwidth": -1.0}, "bandwidth"),
    ],
)
def test_impossible_workloads_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(WORK, **change)


def test_small_batches_of_many_devices_are_as_slow_as_they_were_measured():
    curve = {2: 0.04, 16: 0.02, 64: 0.01}
    work = replace(WORK, seconds_per_sample=curve, bandwidth=None)
    seconds = {n: estimated(work, n).compute for n in (1, 8, 64, 256)}
    assert seconds == pytest.approx(
        {1: 256 * 0.01, 8: 32 * 0.02, 64: 4 * 0.04, 256: 0.04}
    )


def test_a_file_of_the_speed_benchmark_says_what_a_sample_takes(tmp_path, capsys):
    rows = [
        {"neuron": name, "batch": batch, "seconds_per_sample": s, "forward_share": f}
        for name, batch, s, f in (
            (OURS, 1, 2.0, 0.3),
            (OURS, 4, 1.0, 0.4),
            (HOST, 1, 3.0, 0.3),
        )
    ]
    found = measured_by({"parameters": 11, "rows": rows}, OURS)
    curve = {1: 2.0, 4: 1.0}
    assert found == {
        "seconds_per_sample": curve,
        "forward_share": 0.4,
        "parameters": 11,
    }
    file = tmp_path / "speed.json"
    file.write_text(json.dumps({"parameters": 11, "rows": rows}))
    words = ["--epochs", "1", "--batch", "64", "--bandwidth", "1e9"]
    main(["--speed", str(file), *words])
    work = Workload(epochs=1, batch=64, bandwidth=1e9, **found)
    assert capsys.readouterr().out == report(work, [1, 8, 64])
    with pytest.raises(ConfigError, match="Expected `neuron` to be one of"):
        main(["--speed", str(file), *words, "--neuron", "other"])


def test_more_devices_than_samples_of_a_batch_are_refused():
    with pytest.raises(ValueError, match="from 1 to the batch of 256"):
        estimated(WORK, 257)


def test_the_command_prints_rows_and_assumptions(capsys):
    main(["--seconds-per-sample", "0.02", "--epochs", "5", "--batch", "512"])
    said = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in said.splitlines()[2:5]] == [
        "| 1",
        "| 8",
        "| 64",
    ]
    # 2,503 batches of 512, and 50,000 forward passes of a third, five times.
    hours = 5 * (2503 * 512 + 50_000 / 3) * 0.02 / 3600
    assert f"| {hours:.4g} |" in said
    assert "A sample takes 0.02 s in a batch of 1 on one device, as measured" in said
    with pytest.raises(ConfigError, match="one of `--seconds-per-sample`"):
        main(["--epochs", "5", "--batch", "512"])


def test_a_run_on_one_device_says_what_a_sample_takes(made_run):
    run = made_run([True, False])
    rows = "epoch,samples_per_second\n1,10\n2,100\n3,300\n4,200\n"
    (run / "metrics.csv").write_text(rows)
    environment = run / "environment.json"
    environment.write_text('{"processes": 1}')
    assert measured_in(run) == pytest.approx(1 / 200)
    environment.write_text('{"processes": 2}')
    with pytest.raises(ConfigError, match="one device"):
        measured_in(run)
