"""What the data sets are: classes, sensor, source, place of the files, licence, splits.

Check sums of the archives are those that SpikingJelly's loaders carry.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.data.caltech101 import COUNTS
from benchmarks.data.splits import SEEDS, Split, make_split

__all__ = [
    "CIFAR10_DVS",
    "DVS128_GESTURE",
    "DVS128_OBJECTS",
    "N_CALTECH101",
    "SETS",
    "SHD",
    "DataSet",
    "new_splits",
]


@dataclass(frozen=True)
class DataSet:
    """A set of event recordings that the user brings.

    Attributes:
        name: As commands and configurations have it.
        title: As papers have it.
        classes: Names of the classes.
        sensor: Height and width.
        recordings: How many there are.
        suffix: Of the original files.
        folder: Where they lie under `root`, classes below.
        source: Where to get them.
        archives: MD5 by name of file, to be put in `root/download`.
        licence: As far as the source states one.
        pattern: Of file names, with `{label}` and `{number}`, where they are regular.
        counts: Recordings of each class, where names are regular.
        first: Number of the first file of a class.
        split: `"random"`, or `"official"` where the set brings its test part.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    sensor: tuple[int, int]
    recordings: int
    suffix: str
    folder: str
    source: str
    archives: Mapping[str, str] = field(default_factory=dict)
    licence: str = "none stated"
    pattern: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    first: int = 0
    split: str = "random"

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self.title}, {self.source}"

    @property
    def files(self) -> list[str]:
        """All `class/file`, in order of number; none where names are not regular."""
        return [
            f"{label}/{self.pattern.format(label=label, number=number)}"
            for label, count in self.counts.items()
            for number in range(self.first, self.first + count)
        ]


CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""Of CIFAR-10, in the order of its labels, and of CIFAR10-DVS."""

CIFAR10_DVS = DataSet(
    name="cifar10_dvs",
    title="CIFAR10-DVS",
    classes=CIFAR10_CLASSES,
    sensor=(128, 128),
    recordings=10_000,
    suffix=".aedat",
    folder="extract",
    source="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
    archives={
        "airplane.zip": "0afd5c4bf9ae06af762a77b180354fdd",
        "automobile.zip": "8438dfeba3bc970c94962d995b1b9bdd",
        "bird.zip": "a9c207c91c55b9dc2002dc21c684d785",
        "cat.zip": "52c63c677c2b15fa5146a8daf4d56687",
        "deer.zip": "b6bf21f6c04d21ba4e23fc3e36c8a4a3",
        "dog.zip": "f379ebdf6703d16e0a690782e62639c3",
        "frog.zip": "cad6ed91214b1c7388a5f6ee56d08803",
        "horse.zip": "e7cbbf77bec584ffbf913f00e682782a",
        "ship.zip": "41c7bd7d6b251be82557c6cce9a7d5c9",
        "truck.zip": "89f3922fd147d9aeff89e76a2b0b70a7",
    },
    licence="as the source states",
    pattern="cifar10_{label}_{number}.aedat",
    counts=dict.fromkeys(CIFAR10_CLASSES, 1000),
)
N_CALTECH101 = DataSet(
    name="n_caltech101",
    title="N-Caltech101",
    classes=tuple(COUNTS),
    sensor=(180, 240),
    recordings=8_709,
    suffix=".bin",
    folder="extract/Caltech101",
    source="https://www.garrickorchard.com/datasets/n-caltech101 (files: "
    "https://data.mendeley.com/datasets/cy6cvx3ryv/1)",
    archives={"Caltech101.zip": "66201824eabb0239c7ab992480b50ba3"},
    licence="CC BY 4.0",
    pattern="image_{number:04d}.bin",
    counts=COUNTS,
    first=1,
)
DVS128_GESTURE = DataSet(
    name="dvs128_gesture",
    title="DVS128 Gesture",
    classes=tuple(str(number) for number in range(11)),
    sensor=(128, 128),
    recordings=1_464,
    suffix=".aedat",
    folder="extract/DvsGesture",
    source="https://research.ibm.com/interactive/dvsgesture (files: "
    "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8)",
    archives={"DvsGesture.tar.gz": "8a5c71fb11e24e5ca5b11866ca6c00a1"},
    licence="CC BY 4.0",
    split="official",
)
SHD = DataSet(
    name="shd",
    title="Spiking Heidelberg Digits",
    classes=tuple(str(number) for number in range(20)),
    sensor=(1, 700),
    recordings=10_420,
    suffix=".h5",
    folder="extract",
    source="https://zenkelab.org/resources/spiking-heidelberg-datasets-shd (files: "
    "https://zenkelab.org/datasets)",
    archives={
        "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
        "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
    },
    licence="CC BY 4.0",
    split="official",
)
DVS128_OBJECTS = DataSet(
    name="dvs128_objects",
    title="DVS128 object recordings (local check, not CIFAR10-DVS)",
    classes=("Caixa", "Caneca", "Estilete", "Lapiseira", "Tesoura"),
    sensor=(128, 128),
    recordings=10,
    suffix=".aedat",
    folder="extract",
    source="recordings of one's own: extract/session1/Caixa.aedat and so on, one a "
    "class, the same in extract/session2",
    split="official",
)
SETS = {
    one.name: one
    for one in (CIFAR10_DVS, N_CALTECH101, DVS128_GESTURE, SHD, DVS128_OBJECTS)
}
"""All by name."""


def new_splits(
    data: DataSet, names: Sequence[str] = (), official: Mapping[str, str] | None = None
) -> dict[str, Split]:
    """Draw the splits of a set, the same on every machine.

    Args:
        data: The set.
        names: Files `class/file`; may be left out where all follow from the pattern.
        official: With an official test part: for each file its part, `"train"` or
            `"test"`, and after a colon what was recorded (`"train:user01"`): files of
            one recording stay together.

    Returns:
        Five by name, `NAME`, `NAME_1` ... `NAME_4`: 60, 15 and 25 % of each class;
        with an official test part a fifth of the training recordings validates. With a
        pattern also `NAME_index90`: the first tenth of each class tests and the others
        train, files 0..99 of 1,000 in CIFAR10-DVS, as in TEBN and after it, so that
        no validation part is left.
    """
    names = names or data.files
    found = {}
    for seed in range(SEEDS):
        name = data.name + (f"_{seed}" if seed else "")
        about = data.description
        if official is None:
            identities = {file: file for file in names}
            found[name] = make_split(name, identities, seed=seed, description=about)
            continue
        train = {file: official[file] for file in names if _part(official, file)}
        drawn = make_split(
            name, train, seed=seed, shares=(80, 20, 0), description=about
        )
        test = tuple(sorted(set(names) - train.keys()))
        found[name] = Split(
            name,
            about,
            seed,
            tuple(sorted({file.partition("/")[0] for file in names})),
            drawn.train,
            drawn.validation,
            test,
        )
    if data.pattern:
        seen: Counter[str] = Counter()
        parts: dict[str, list[str]] = {"train": [], "test": []}
        for file in names:
            label = file.partition("/")[0]
            tenth = data.counts[label] // 10
            parts["test" if seen[label] < tenth else "train"].append(file)
            seen[label] += 1
        found[f"{data.name}_index90"] = Split(
            f"{data.name}_index90",
            data.description,
            0,
            tuple(sorted(seen)),
            tuple(sorted(parts["train"])),
            (),
            tuple(sorted(parts["test"])),
        )
    return found


def _part(official: Mapping[str, str], file: str) -> bool:
    return official[file].partition(":")[0] == "train"
