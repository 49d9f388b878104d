"""One HTML file that holds its pictures, so that it opens anywhere, offline."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from sj_ext.files import replace_file, write_text


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        name: Its file's name without ending.
        figure: What is shown.
        caption: What a reader should see in it.
    """

    name: str
    figure: Figure
    caption: str

    def png(self) -> bytes:
        """Render it at 150 dots per inch."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=150)
        return file.getvalue()


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        columns: Their headings.
        rows: As many texts a row as there are columns.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_page(
    path: Path,
    *,
    title: str,
    introduction: Sequence[str],
    table: Table,
    pictures: Sequence[Picture],
    facts: Mapping[str, Any],
) -> None:
    """Write a report and, beside it in `plots/`, its pictures as files.

    Args:
        path: The HTML file.
        title: Its heading.
        introduction: Paragraphs above the table.
        table: The figures.
        pictures: In the order of the page.
        facts: Where the figures come from, shown at the foot.
    """
    embedded = []
    for picture in pictures:
        png = picture.png()
        with replace_file(path.parent / "plots" / f"{picture.name}.png") as temporary:
            temporary.write_bytes(png)
        embedded.append(
            {
                "data": base64.b64encode(png).decode("ascii"),
                "caption": picture.caption,
            }
        )
    environment = Environment(
        loader=PackageLoader("benchmarks.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        introduction=introduction,
        table=table,
        pictures=embedded,
        facts=facts,
    )
    write_text(path, page)
