"""The main job ends with a table and a report that opens without a network."""

import html.parser
import re

import pytest

from benchmarks.__main__ import main


class Page(html.parser.HTMLParser):
    """Collects what a browser would fetch, and the cells of tables."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.cells, self._in_cell = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [v for k, v in attributes if k in ("src", "href")]
        self._in_cell = tag in ("td", "th")

    def handle_data(self, text):
        if self._in_cell and text.strip():
            self.cells.append(text.strip())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    root, output = folder / "data", folder / "runs"
    words = ["--root", root, "--output", output, "--epochs", 3, "--per-class", 6]
    assert main(["quickstart", *map(str, words)]) == 0
    return output, [str(word) for word in words]


def test_the_report_holds_the_table_and_fetches_nothing(finished):
    output, _ = finished
    page = Page((output / "report.html").read_text())
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for cell in ("network", "base", "masked", "masked + weighted", "firing rate"):
        assert cell in page.cells
    assert sum(bool(re.fullmatch(r"\d+\.\d+%", cell)) for cell in page.cells) == 9


def test_the_data_are_called_what_they_are(finished):
    text = (finished[0] / "report.html").read_text()
    assert "Simulated events from real digits" in text
    assert "DVS" not in text.replace("CIFAR10-DVS", "")


def test_pictures_lie_beside_the_report(finished):
    names = {file.name for file in (finished[0] / "plots").iterdir()}
    assert names == {
        "event_frames.png",
        "gradient_density.png",
        "learning_curves.png",
        "readout_weights.png",
    }


def test_a_second_call_trains_nothing_again(finished, capsys):
    assert main(["quickstart", *finished[1]]) == 0
    printed = capsys.readouterr().out
    assert printed.count("already complete") == 3
    assert "masked + weighted" in printed
    assert "report:" in printed
