from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.datasets.utils import load_ATIS_bin

from benchmarks.data.atis import (
    decode_events,
    encode_events,
    read_events,
    write_events,
)

REAL_FILES = [
    "nmnist/sample_nmnist.bin",
    "nmnist/Train/0/00002.bin",
    "ncaltech101/Caltech101/Faces_easy/image_0001.bin",
]

events_strategy = st.lists(
    st.tuples(
        st.integers(0, 2**23 - 1),
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 1),
    ),
    max_size=50,
).map(
    lambda rows: dict(
        zip("txyp", np.array(sorted(rows), int).reshape(-1, 4).T, strict=True)
    )
)


def some_events(**changes):
    events = {"t": [0, 5, 5], "x": [1, 2, 255], "y": [0, 3, 4], "p": [0, 1, 1]}
    return {name: np.array(v) for name, v in (events | changes).items()}


def assert_same_events(got, expected):
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


@given(events_strategy)
def test_decoding_gives_back_what_was_encoded(events):
    assert_same_events(decode_events(encode_events(events)), events)


@given(events_strategy)
def test_encoding_a_structured_array_equals_encoding_a_mapping(events):
    table = np.empty(len(events["t"]), [(name, np.int64) for name in "txyp"])
    for name in "txyp":
        table[name] = events[name]
    assert encode_events(table) == encode_events(events)


def test_an_event_takes_the_five_bytes_of_the_format():
    events = some_events(t=[0x654321] * 3)
    assert encode_events(events)[5:10] == bytes([2, 3, 0x80 | 0x65, 0x43, 0x21])


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_are_read_as_the_host_reads_them(real_data: Path, name):
    assert_same_events(read_events(real_data / name), load_ATIS_bin(real_data / name))


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_are_encoded_to_their_own_bytes(real_data: Path, name):
    data = (real_data / name).read_bytes()
    assert encode_events(load_ATIS_bin(real_data / name)) == data


def test_written_events_are_read_by_the_host(tmp_path):
    path = tmp_path / "new folder" / "image_0001.bin"
    write_events(path, some_events())
    assert_same_events(load_ATIS_bin(path), some_events())
    assert_same_events(read_events(path), some_events())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": [1, 2, 256]}, r"Expected `x` in 0\.\.255, got 1\.\.256\."),
        ({"y": [-1, 3, 4]}, r"Expected `y` in 0\.\.255, got -1\.\.4\."),
        ({"p": [0, 1, 2]}, r"Expected `p` in 0\.\.1, got 0\.\.2\."),
        ({"t": [0, 5, 2**23]}, r"Expected `t` in 0\.\.8388607, got 0\.\.8388608\."),
        ({"t": [0, 5, 4]}, r"Expected `t` never to fall, got 4 after 5 at event 2\."),
        ({"t": [0, 5]}, r"arrays of one length, got \{'t': \(2,\), 'x': \(3,\)"),
        ({"t": [0.0, 5.0, 5.5]}, r"Expected `t` of integers, got float64\."),
    ],
)
def test_events_that_do_not_fit_are_refused_and_the_former_file_stays(
    tmp_path, changes, message
):
    path = tmp_path / "image_0001.bin"
    write_events(path, some_events())
    with pytest.raises(ValueError, match=message) as caught:
        write_events(path, some_events(**changes))
    assert str(path) in str(caught.value)
    assert_same_events(read_events(path), some_events())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_file_cut_inside_an_event_is_refused_by_name(tmp_path):
    path = tmp_path / "image_0001.bin"
    path.write_bytes(encode_events(some_events())[:-1])
    with pytest.raises(ValueError, match="five bytes an event, got 14 bytes") as caught:
        read_events(path)
    assert str(path) in str(caught.value)
