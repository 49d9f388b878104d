import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.data import DamagedDataError, EventFrames
from benchmarks.data.frames import read_frames, write_frames


def some_frames(seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    parts = {
        "frames": torch.randint(
            0, 256, (3, 2, 2, 4, 5), dtype=torch.uint8, generator=generator
        ),
        "labels": torch.tensor([0, 1, 1]),
        "names": ("cat/1.bin", "dog/1.bin", "dog/2.bin"),
        "classes": ("cat", "dog"),
    }
    return EventFrames(**(parts | changes))


def assert_same_frames(got, expected):
    assert torch.equal(got.frames, expected.frames)
    assert torch.equal(got.labels, expected.labels)
    assert (got.names, got.classes) == (expected.names, expected.classes)
    assert got.checksum == expected.checksum


def test_written_frames_are_read_back_with_their_header(tmp_path):
    write_frames(tmp_path / "a.npz", some_frames(), {"seed": 5})
    frames, header = read_frames(tmp_path / "a.npz")
    assert_same_frames(frames, some_frames())
    assert header == {"seed": 5, "checksum": some_frames().checksum}
    assert (len(frames), frames.time_steps) == (3, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": torch.tensor([0, 0, 1])},
        {"names": ("cat/1.bin", "dog/1.bin", "dog/3.bin")},
        {"classes": ("cat", "cow")},
        {"frames": some_frames().frames.transpose(3, 4).contiguous()},
        {"frames": some_frames().frames.flip(0)},
        {"frames": some_frames().frames.reshape(3, 2, 2, 5, 4)},
    ],
)
def test_every_part_enters_the_checksum(changes):
    assert some_frames(**changes).checksum != some_frames().checksum


def test_the_checksum_does_not_depend_on_strides():
    frames = some_frames().frames
    strided = frames.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    assert not strided.is_contiguous()
    assert some_frames(frames=strided).checksum == some_frames().checksum


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"frames": torch.zeros(3, 2, 2, 4, 5)},
            r"`frames` uint8 or int16 .*, got torch.float32 \[3, 2, 2, 4, 5\]",
        ),
        (
            {"frames": torch.zeros(3, 2, 4, 5, dtype=torch.uint8)},
            r"`frames` uint8 .* got torch.uint8 \[3, 2, 4, 5\]",
        ),
        (
            {"labels": torch.tensor([0, 1])},
            r"`labels` int64 \[3\], got torch.int64 \[2\]",
        ),
        ({"labels": torch.tensor([0, 1, 2])}, r"`labels` in 0\.\.1 .* got 0\.\.2"),
        ({"labels": torch.tensor([-1, 1, 1])}, r"`labels` in 0\.\.1 .* got -1\.\.1"),
        ({"names": ("cat/1.bin",)}, "`names` of 3 different recordings, got 1"),
        (
            {"names": ("cat/1.bin", "dog/1.bin", "dog/1.bin")},
            "got 3 of which 2 differ",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        some_frames(**changes)


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_does_no_harm(tmp_path_factory, where, bit):
    path = tmp_path_factory.mktemp("flip") / "a.npz"
    write_frames(path, some_frames(), {"seed": 5})
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    path.write_bytes(data)
    harmless = False
    with contextlib.suppress(DamagedDataError):
        assert_same_frames(read_frames(path)[0], some_frames())
        harmless = True
    if not harmless:
        with pytest.raises(DamagedDataError) as caught:
            read_frames(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_file_is_refused_by_name(tmp_path, share):
    path = tmp_path / "a.npz"
    write_frames(path, some_frames(), {})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DamagedDataError, match="is damaged") as caught:
        read_frames(path)
    assert str(path) in str(caught.value)


def test_content_that_does_not_match_its_checksum_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_frames(path, some_frames(), {})
    with np.load(path) as arrays:
        parts = dict(arrays)
    parts["frames"][0, 0, 0, 0, 0] ^= 1
    np.savez(path, **parts)
    with pytest.raises(DamagedDataError, match=r"expected checksum \w{64}, got \w{64}"):
        read_frames(path)


def test_a_write_that_fails_half_way_leaves_the_former_file_whole(tmp_path):
    path = tmp_path / "a.npz"
    write_frames(path, some_frames(), {})
    limit = 100_000
    script = f"""
        import resource
        import torch
        from benchmarks.data.frames import EventFrames, write_frames

        frames = torch.randint(0, 256, (1, 4, 2, 256, 256), dtype=torch.uint8)
        data = EventFrames(frames, torch.tensor([0]), ("cat/1.bin",), ("cat",))
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        write_frames({str(path)!r}, data, {{}})
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert_same_frames(read_frames(path)[0], some_frames())
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
