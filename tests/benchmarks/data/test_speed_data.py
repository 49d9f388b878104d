"""The speed of loading: measured on equal frames, cold only where that is certain."""

import json
import os

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.report.readme.__main__ import rendered
from benchmarks.speed.data import benchmark, loading, page_cache

READERS = (benchmark.HOST, benchmark.MAPPED, benchmark.COMPRESSED)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    sizes = {"recordings": 4, "events": 3000, "T": 3, "batch": 2, "repetitions": 1}
    words = [str(word) for key, value in sizes.items() for word in (f"--{key}", value)]
    assert main(["speed", "data", *words, "--output", str(folder)]) == 0
    return json.loads((folder / "speed-data-cpu.json").read_text())


def test_every_reader_is_timed_in_every_state(result):
    found = {(row["reader"], row["state"], row["workers"]) for row in result["rates"]}
    states = [("direct", 0), ("warm", 0), ("warm", 2)]
    if result["not_cold"] is None:
        states += [("cold", 0), ("cold", 2)]
    assert found == {(name, *state) for name in READERS for state in states}
    for row in result["rates"]:
        assert 0 < row["low"] <= row["samples_per_second"] <= row["high"]
    for row in result["waiting"]:
        assert 0 <= row["share"] < 1
        assert row["step_seconds"] > 0
    assert len(result["waiting"]) == 2 * len(READERS)
    assert result["waiting_steps"] >= 20
    assert result["opening_seconds"].keys() == set(READERS)
    assert all(seconds > 0 for seconds in result["opening_seconds"].values())


def test_sizes_and_seconds_of_preparation_are_those_of_each_form(result):
    sizes = result["bytes_per_sample"]
    assert sizes[benchmark.MAPPED] > 3 * 2 * 128 * 128
    assert sizes[benchmark.COMPRESSED] < sizes[benchmark.MAPPED]
    assert all(seconds > 0 for seconds in result["preparation_seconds"].values())
    assert len(result["preparation_seconds"]) == 5


def test_the_readme_shows_rates_beside_the_hosts(result):
    text = rendered("speed-data-cpu", result)
    rates = {
        (row["reader"], row["state"]): row["samples_per_second"]
        for row in result["rates"]
        if row["workers"] == 0
    }
    own, host = rates["cache", "direct"], rates["host", "direct"]
    assert f"{own:.0f} ({own / host:.1f})" in text
    unknown = result | {"not_cold": "this system cannot", "real_recording": None}
    unknown["rates"] = [row for row in result["rates"] if row["state"] != "cold"]
    text = " ".join(rendered("speed-data-cpu", unknown).split())
    assert "Cold reads could not be measured: this system cannot." in text
    known = {"host": 82_000, "cache": 864_000, "cache, compressed": 41_000}
    text = rendered("speed-data-cpu", result | {"real_recording": known})
    assert "2.0 times less" in " ".join(text.split())


def test_real_frames_are_at_least_one_and_a_half_times_smaller(
    real_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("SJ_EXT_DATA", str(real_data))
    sizes = benchmark._real_sizes(10, tmp_path / "real")
    assert sizes["host"] > 1.5 * sizes["cache, compressed"]
    assert sizes["cache"] == 10 * 2 * 180 * 240


def test_dropped_files_are_not_in_memory(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2**22))
    path.read_bytes()
    share = page_cache.resident_share([path])
    if share is None:
        pytest.skip("this system does not tell which pages are in memory")
    assert share == 1
    reason = page_cache.drop([path])
    if reason is None:
        # To ask does not bring them back.
        assert page_cache.resident_share([path]) < 0.05
        with path.open("rb") as file:
            file.read(2**21)
        assert page_cache.resident_share([path]) > 0.4
    else:
        assert "stayed in memory" in reason
    assert path.stat().st_size == 2**22


def test_what_stays_in_memory_is_not_called_cold(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x" * 9000)
    monkeypatch.setattr(page_cache, "resident_share", lambda files: 0.4)
    reader = loading.Reader(lambda: None, [tmp_path / "file"], in_batches=True)
    rates, reason = loading.cold_rates({"a": reader}, [0], 1, 0, 1)
    assert rates == {}
    assert "40% of the pages stayed in memory" in reason
    monkeypatch.setattr(page_cache, "resident_share", lambda files: None)
    assert "does not tell" in page_cache.drop([tmp_path / "file"])


def test_all_readers_go_through_one_random_order(monkeypatch):
    """Watched from inside: who is asked for which sample."""
    asked = {"a": [], "b": []}

    class Watched(torch.utils.data.Dataset):
        def __init__(self, name):
            self.name = name

        def __getitem__(self, index):
            asked[self.name].append(index)
            return torch.zeros(2, 2, 8, 8).numpy(), 0

        def __len__(self):
            return 12

    readers = {
        name: loading.Reader(lambda name=name: Watched(name), [], in_batches=False)
        for name in asked
    }
    order = benchmark._order(12)
    assert sorted(order) == list(range(12)) != order == benchmark._order(12)
    loading.warm_rates(readers, order, 4, 0, 1)
    assert asked["a"] == asked["b"] == order * 2


def test_waiting_is_what_goes_by_before_a_batch_is_there(monkeypatch):
    """With a clock of our own: two seconds of loading, six of computing."""
    now = [0.0]
    monkeypatch.setattr(loading.time, "perf_counter", lambda: now[0])

    def passing(seconds, value=None):
        now[0] += seconds
        return value

    batch = (torch.zeros(1), torch.zeros(1))
    loaded = (passing(2, batch) for _ in range(4))
    found = list(loading._timed(loaded, lambda *_: passing(6)))
    assert found == [(2.0, 8.0)] * 4
