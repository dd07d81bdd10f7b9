"""The records of a page, and how it is written."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.extras import optional_module
from dlsys_bench.report.html.svg import Html
from dlsys_bench.report.layout import without_empty_columns
from dlsys_bench.report.table import COLOURS, Table
from dlsys_bench.text import one_line, printable

TONES = {"green": "good", "bold red": "bad", "yellow": "open", "dim": "dim"}
"""The classes of the style sheet for the colours of a terminal."""

SELECTED = "conforms in the selected checks"
WORDS = {
    **{word: TONES[colour] for word, colour in COLOURS.items()},
    **dict.fromkeys(("passed", "reproduced", "conforms", "found", "reached", SELECTED), "good"),
    **dict.fromkeys(("failed", "does not conform", "not reproduced", "survived"), "bad"),
    **dict.fromkeys(("undecided", "inconclusive", "timed out", "unsound", "declared"), "open"),
    **dict.fromkeys(("not testable", "not reached", "unmeasured"), "dim"),
}
"""The classes of the cells that hold one of these words."""


@dataclass(frozen=True)
class Sheet:
    """A table that readers may sort and filter. A cell is text, or Html such as a strip.

    `axis` is a picture below the head of the column named `drawn`.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    axis: Html | None = None
    drawn: str = ""

    @property
    def shown(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """The columns that have content in some row, and the rows without the others."""
        return without_empty_columns(self.columns, self.rows)

    @classmethod
    def of(cls, table: Table) -> Sheet:
        """Return the sheet of a table."""
        return cls(table.title, table.columns, table.rows)


@dataclass(frozen=True)
class Graphic:
    """A picture with its caption: Html, or a PNG file that is copied into the page."""

    caption: str
    image: Html | Path


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, then tables, pictures below a legend, and lines to copy."""

    title: str
    text: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()
    legend: Html | None = None
    panels: Sequence[Graphic] = ()
    commands: Sequence[tuple[str, str]] = ()
    closed: bool = False


@dataclass(frozen=True)
class Page:
    """A page: its title, the outcome in a word, a summary, the sections, and its provenance."""

    title: str
    outcome: str
    summary: Sequence[str]
    sections: Sequence[Section]
    provenance: Mapping[str, Any] = field(default_factory=dict)


def write_page(page: Page, path: Path) -> Path:
    """Write a page, atomically. Raises UserError if the file cannot be written, and
    MissingExtraError if Jinja is not installed."""
    text = render(page)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(f"cannot write the page to {path}: {error.strerror}") from error
    return path


def render(page: Page) -> str:
    """Return a page as HTML."""
    jinja2 = optional_module("report", "jinja2")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"line": _line, "tone": _tone, "source": _source, "plain": printable}
    folder = files("dlsys_bench.report.html")
    template, style, script = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("page.html.jinja", "page.css", "page.js")
    )
    text: str = environment.from_string(template).render(
        page=page,
        style=Html(style),
        script=Html(script),
        policy=_policy(style, script),
        provenance=list(_flat(page.provenance)),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("dlsys-bench"),
    )
    return text


def _policy(style: str, script: str) -> str:
    """Return a policy that allows this style and script and embedded images, and nothing else."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _line(text: str) -> str:
    return text if isinstance(text, Html) else one_line(text)


def _tone(text: str) -> str:
    return WORDS.get(text, "")


def _source(image: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(image.read_bytes()).decode()}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the values of nested mappings as lines of a name and a text."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}: ")
        elif value is not None:
            found.append((f"{prefix}{name}", str(value)))
    return found
