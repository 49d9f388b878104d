"""The page in a real browser: it renders, sorts, says values, and complains of nothing.

Needs a Chromium, as of Debian's package `chromium`, or one that SJ_EXT_CHROMIUM names.
"""

import re

import pytest

from tests.benchmarks.report import example
from tests.browser import NAMES, Browser, chromium

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser with one page."""
    program = chromium()
    if program is None:
        pytest.skip(f"needs a Chromium: none of {', '.join(NAMES)} is on the path")
    found = Browser(program, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def shown(browser, written):
    """The example's page, just opened."""
    browser.show(written.page)
    return browser


FIRST = "#made_up-full"
"""The table with the arms of the example."""


def texts(browser, column):
    """Figures of a column of the first table, from top to bottom."""
    return browser.run(
        f"[...document.querySelectorAll('{FIRST} tbody tr')]"
        f".map(row => row.cells[{column}].firstChild?.textContent ?? '')"
    )


def heading(column):
    return f"{FIRST} thead tr:last-child th:nth-child({column + 1}) button"


def sorted_by(browser):
    return browser.run(
        f"[...document.querySelectorAll('{FIRST} [aria-sort]')]"
        ".map(h => [h.cellIndex, h.getAttribute('aria-sort')])"
    )


def test_it_renders_asks_for_nothing_and_complains_of_nothing(shown, written):
    assert shown.run("document.title") == "Experiments: reported and measured"
    assert shown.run("document.querySelectorAll('table').length") == 3
    assert shown.requests == [written.page.as_uri()]
    assert shown.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_its_window_and_can_be_read(browser, written, width, scheme):
    browser.show(written.page, width, scheme)
    assert browser.run("document.documentElement.scrollWidth") == width
    for selector in ("body", "td.reported", "td.optimistic", "td.measured small"):
        assert contrast(browser, selector) >= 4.5, selector
    assert browser.screenshot().startswith(b"\x89PNG")
    assert browser.complaints == []


def contrast(browser, selector):
    """Contrast of text and ground after WCAG 2.1, 1.4.3."""
    colours = browser.run(
        f"""(() => {{
          let it = document.querySelector("{selector}");
          const text = getComputedStyle(it).color;
          while (getComputedStyle(it).backgroundColor === "rgba(0, 0, 0, 0)") {{
            it = it.parentElement;
          }}
          return [text, getComputedStyle(it).backgroundColor];
        }})()"""
    )
    light, dark = sorted(map(luminance, colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    shares = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
    linear = [
        s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_click_sorts_by_number_and_another_turns_it_around(shown):
    before = [float(x) for x in texts(shown, 2)]
    assert before != sorted(before)
    shown.point(heading(2), click=True)
    assert [float(x) for x in texts(shown, 2)] == sorted(before)
    assert sorted_by(shown) == [[2, "ascending"]]
    shown.point(heading(2), click=True)
    assert [float(x) for x in texts(shown, 2)] == sorted(before, reverse=True)
    assert sorted_by(shown) == [[2, "descending"]]
    assert shown.complaints == []


def test_empty_cells_stay_last_and_rows_stay_whole(shown):
    for first, second in (
        ("82.7 ± 0.34", "83.3 ± 0.34"),
        ("83.3 ± 0.34", "82.7 ± 0.34"),
    ):
        shown.point(heading(1), click=True)
        assert texts(shown, 1) == [first, second, "", "", "", ""]
    assert texts(shown, 0)[:2] == ["MSG", "base"]


def test_names_sort_as_words_and_by_the_keyboard(shown):
    shown.run(f"document.querySelector('{heading(0)}').focus()")
    shown.press("Enter")
    found = texts(shown, 0)
    assert found[1:] == [
        "base",
        "calibrated window",
        "dense noise",
        "MSG",
        "scaled by 1-p",
    ]
    assert found[0] == example.HOSTILE


def test_pointing_at_a_square_says_its_value(shown):
    result = example.comparison()
    square = "svg.squares rect[x='4'][y='6']"
    shown.point(square)
    said = shown.run("document.querySelector('.readout').textContent")
    assert said == f"layer0.0.neuron and layer1.1.relu: {result.cka[0, 4]:.3f}"
    shown.run("document.querySelector('svg.squares').focus()")
    shown.press("ArrowUp")
    shown.press("ArrowRight")
    said = shown.run("document.querySelector('.readout').textContent")
    assert said == f"layer0.1.neuron and layer1.2.relu: {result.cka[1, 5]:.3f}"
    shown.press("ArrowUp")
    said = shown.run("document.querySelector('.readout').textContent")
    assert said.endswith(": undefined")
    assert shown.complaints == []


def test_pointing_at_a_mark_says_its_figure_and_where_it_is_from(shown):
    assert shown.run("document.getElementById('tip').hidden")
    shown.point(f"{FIRST} .point.reported")
    tip = shown.run("document.getElementById('tip').textContent")
    assert example.SECOND_HAND in tip
    shown.point("h1")
    assert shown.run("document.getElementById('tip').hidden")


def test_it_prints(shown):
    assert shown.pdf().startswith(b"%PDF")
    assert shown.complaints == []
