"""Tables for LaTeX hold the page's figures; figures are PDF with embedded fonts."""

import re
import shutil
import subprocess

import pytest

from benchmarks.report.experiments.figures import WIDTHS
from benchmarks.report.experiments.latex import escaped, latex_tables
from benchmarks.report.experiments.summary import summarized
from tests.benchmarks.report import example


@pytest.fixture(scope="module")
def table():
    """The table of the attribution, as LaTeX."""
    (found,) = summarized(example.attribution())
    return found, latex_tables(found)


def test_every_figure_of_an_arm_stands_in_its_row(table):
    experiment, text = table
    for arm in experiment.arms:
        (line,) = (x for x in text.splitlines() if x.startswith(escaped(arm.label)))
        cells = line.removesuffix(r" \\").split(" & ")
        assert len(cells) == 11
        for metric, cell in zip(experiment.metrics, cells[2:6], strict=True):
            found = arm.figures[metric]
            low, high = found.interval
            assert f"{found.mean:.2f}" in cell
            assert f"{low:.2f} to {high:.2f}" in cell
    assert text.count(r"\textit{") == len(experiment.arms)


def test_second_hand_figures_are_marked_where_they_stand(table):
    _, text = table
    (line,) = (x for x in text.splitlines() if x.startswith("MSG"))
    cell = line.split(" & ")[1]
    assert cell == r"\shortstack[r]{83.3 $\pm$ 0.34\\{\scriptsize second-hand}}"
    assert example.SECOND_HAND in text


def test_the_table_is_balanced_and_of_booktabs(table):
    _, text = table
    begun = re.findall(r"\\begin\{([\w*]+)\}", text)
    assert begun == re.findall(r"\\end\{([\w*]+)\}", text)[::-1]
    plain = re.sub(r"\\[\\{}]", "", text)
    assert plain.count("{") == plain.count("}")
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1
    assert "hline" not in text
    assert text.startswith(r"% needs \usepackage{booktabs}")
    assert not re.search(r"(?<!\\)[#~^<>]|(?<![\w$])-\d", text.partition("midrule")[2])


def test_special_characters_are_escaped():
    assert escaped(r"50% a_b {x} \n #1 $&") == (
        r"50\% a\_b \{x\} \textbackslash{}n \#1 \$\&"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_table_compiles(table, tmp_path):
    _, text = table
    document = "\n".join(
        [
            r"\documentclass[twocolumn]{article}\usepackage{booktabs}",
            r"\begin{document}",
            text,
            r"\end{document}",
        ]
    )
    (tmp_path / "table.tex").write_text(document)
    words = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["made_up-full", "made_up_sweep-full"])
def test_figures_have_their_width_and_embedded_fonts(written, name, width):
    content = (written.folder / "latex" / f"{name}-{width}.pdf").read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", content)
    assert float(box[0]) == pytest.approx(72 * WIDTHS[width], abs=0.01)
    fonts = content.count(b"/Type /FontDescriptor")
    assert fonts >= 1
    # TrueType inside the file, none of Type 3.
    assert content.count(b"/FontFile2") == fonts
    assert b"/Subtype /Type3" not in content
    assert b"/CreationDate" not in content


def test_each_experiment_has_a_table_and_two_figures(written):
    names = {file.name for file in (written.folder / "latex").iterdir()}
    assert names == {
        f"{label}{ending}"
        for label in ("made_up-full", "made_up_study-demo", "made_up_sweep-full")
        for ending in (".tex", "-one-column.pdf", "-two-columns.pdf")
    }
    assert "latex:  9 files" in written.said
