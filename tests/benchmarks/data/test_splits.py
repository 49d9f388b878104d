import json
from collections import Counter

import pytest
from sklearn.datasets import load_digits

from benchmarks.data import DamagedDataError, event_digits
from benchmarks.data.splits import (
    Split,
    make_split,
    read_split,
    split_file,
    write_split,
)

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def split():
    return read_split("event_digits")


@pytest.fixture(scope="module")
def identities():
    return {f"{label}/{k}.bin": f"{label}{k}" for label in "ab" for k in range(100)}


def every(split):
    return [name for part in PARTS for name in getattr(split, part)]


def test_the_file_equals_the_lists_drawn_anew(split, tmp_path):
    write_split(event_digits.new_split(), tmp_path / "anew.json")
    anew = (tmp_path / "anew.json").read_bytes()
    assert split_file("event_digits").read_bytes() == anew
    assert len(anew) < 300_000


def test_every_digit_stands_in_one_list_once(split):
    assert len(every(split)) == len(set(every(split))) == 1797


def test_each_class_is_split_60_15_25(split):
    for label in split.classes:
        counts = [
            sum(name.startswith(f"{label}/") for name in getattr(split, part))
            for part in PARTS
        ]
        for count, share in zip(counts, (0.60, 0.15, 0.25), strict=True):
            assert abs(count - share * sum(counts)) <= 1


def test_no_image_is_on_two_sides(split):
    side = {name: part for part in PARTS for name in getattr(split, part)}
    digits, count, sides = load_digits(), Counter(), {}
    for image, label in zip(digits.images, digits.target, strict=True):
        count[label] += 1
        part = side[f"{label}/image_{count[label]:04d}.bin"]
        sides.setdefault(image.tobytes(), set()).add(part)
    assert all(len(parts) == 1 for parts in sides.values())


def test_indices_point_at_the_files_of_each_list(split):
    names = sorted(every(split), reverse=True)
    indices = split.indices(names)
    assert list(indices) == list(PARTS)
    for part in PARTS:
        assert [names[i] for i in indices[part]] == list(getattr(split, part))


def test_a_file_missing_in_the_data_is_named(split):
    names = every(split)[1:]
    with pytest.raises(ValueError, match=r"1 are missing, such as 0/image_0001\.bin"):
        split.indices(names)


def test_a_file_missing_in_the_lists_is_named(split):
    with pytest.raises(ValueError, match=r"1 stand in no list, such as 9/new\.bin"):
        split.indices([*every(split), "9/new.bin"])


def test_restricted_lists_fit_a_reduced_set(split):
    names = [name for name in every(split) if name.endswith("1.bin")]
    reduced = split.restricted(names)
    assert sorted(every(reduced)) == sorted(names)
    assert sum(map(len, reduced.indices(names).values())) == len(names)
    assert reduced.checksum != split.checksum


def test_a_draw_repeats_and_follows_the_seed(identities):
    assert make_split("x", identities) == make_split("x", identities)
    other = make_split("x", identities, seed=1)
    assert other.test != make_split("x", identities).test
    assert len(other.test) == len(make_split("x", identities).test) == 50


def test_copies_of_one_scene_stay_on_one_side(identities):
    copies = {f"a/copy_{name[2:]}": scene for name, scene in identities.items()}
    split = make_split("x", identities | copies)
    side = {name: part for part in PARTS for name in getattr(split, part)}
    scenes = Counter()
    for scene in set(identities.values()):
        files = [name for name, s in (identities | copies).items() if s == scene]
        scenes[len({side[name] for name in files})] += 1
    assert scenes.keys() == {1}
    assert len(every(split)) == len(identities | copies)


def test_shares_that_do_not_add_up_are_refused(identities):
    with pytest.raises(ValueError, match=r"add up to 100, got \(60, 20, 25\)"):
        make_split("x", identities, shares=(60, 20, 25))


def test_a_split_survives_writing_and_reading(identities, tmp_path):
    split = make_split("x", identities, description="letters", seed=3)
    write_split(split, tmp_path / "x.json")
    assert read_split(tmp_path / "x.json") == split
    assert read_split(tmp_path / "x.json").checksum == split.checksum


def test_a_file_in_two_lists_is_refused():
    with pytest.raises(ValueError, match=r"got a/1\.bin twice"):
        Split("x", "", 0, ("a",), ("a/1.bin",), (), ("a/1.bin",))


def test_a_file_of_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match=r"of the classes a, b, got c/1\.bin"):
        Split("x", "", 0, ("a", "b"), ("c/1.bin",), (), ())


def test_an_unknown_split_error_lists_what_exists():
    with pytest.raises(FileNotFoundError, match=r"Known: .*event_digits"):
        read_split("letters")


def test_a_split_beside_the_data_is_named_where_it_lies_or_will_lie(tmp_path):
    place = str(tmp_path / "shd.json")
    with pytest.raises(FileNotFoundError, match="once `data prepare`") as caught:
        read_split("shd", tmp_path)
    assert place in str(caught.value)
    write_split(Split("shd", "", 0, ("a",), ("a/1",), (), ()), place)
    with pytest.raises(FileNotFoundError, match=r"shd\.json\.$") as caught:
        read_split("shd", tmp_path)
    assert read_split(place).train == ("a/1",)


def altered(content):
    content["test"][0], content["train"][0] = content["train"][0], content["test"][0]


def repeated(content):
    content["test"].append(content["train"][0])


def unsigned(content):
    del content["checksum"]


def widened(content):
    content["more"] = 1


@pytest.mark.parametrize("damage", [altered, repeated, unsigned, widened])
def test_an_altered_file_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "event_digits.json"
    content = json.loads(split_file("event_digits").read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedDataError, match=r"is damaged|was altered") as caught:
        read_split(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "[1, 2]", "null", '{"name": "x"'])
def test_a_file_of_something_else_is_refused_by_name(tmp_path, content):
    path = tmp_path / "event_digits.json"
    path.write_text(content)
    with pytest.raises(DamagedDataError, match="is damaged") as caught:
        read_split(path)
    assert str(path) in str(caught.value)
