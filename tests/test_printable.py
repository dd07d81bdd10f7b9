"""Foreign text is harmless wherever it is printed, and bounded."""

from __future__ import annotations

import json
import re
import traceback
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from results import make_result
from rich.console import Console

from dlsys_bench.cli import main
from dlsys_bench.cli.terminal import say
from dlsys_bench.report import page
from dlsys_bench.report.github import workflow_commands
from dlsys_bench.report.junit import junit
from dlsys_bench.report.table import Table
from dlsys_bench.strict_json import dumps, loads
from dlsys_bench.text import describe, one_line, place_of, printable

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07\r\n::error::x\r##[group]\n \t::set-output name=a::b\u202e\ud800\x9b\0"
)
"""What a terminal or a CI service would execute, if it got it."""

PIECES = st.sampled_from(
    ["::error::", "##[", "##vso[", "#", "\r", "\n", "\x1b[31m", "  ", "::", "a"]
)
TEXTS = st.text(st.characters(), max_size=60) | st.lists(PIECES, max_size=40).map("".join)


def is_harmless(text: str) -> bool:
    """Return True if no character is executed and no line is a command."""
    return (
        all(character.isprintable() or character in "\n\t" for character in text)
        and not any(word.startswith("::") for word in text.split())
        and re.search(r"##\w*\[", text) is None
    )


@given(TEXTS, st.integers(0, 200))
@example(HOSTILE, 4000)
@example("##" * 30 + "[", 50)
@example("\n::" * 40, 60)
@example("\r\n" * 300, 50)
def test_printable_text_is_harmless_bounded_and_stays_as_it_is(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert is_harmless(shown)
    assert len(shown) <= limit
    assert printable(shown, limit) == shown
    assert is_harmless(one_line(text, limit))
    assert "\n" not in one_line(text, limit)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters=":#")))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text, 10_000) == text


def test_a_long_text_keeps_its_ends_and_states_how_much_is_left_out() -> None:
    shown = printable("begin " + "x" * 20_000_000 + " end", 1000)
    assert shown.startswith("begin xxx")
    assert shown.endswith("xxx end")
    found = re.search(r"(\d[\d,]*) characters left out", shown)
    assert found is not None
    kept = len(shown) - len(" ... " + found.group() + " ...")
    assert int(found.group(1).replace(",", "")) + kept == 20_000_010


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Odd(str):
    def __format__(self, spec: str) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("x\x1b"), "ValueError: x\\x1b"),
        (ValueError(), "ValueError"),
        (Unspeakable(), "Unspeakable (and its __str__ raised KeyboardInterrupt)"),
        (ValueError(Odd("x")), "ValueError: x"),
    ],
)
def test_every_exception_can_be_described(error: Exception, text: str) -> None:
    assert describe(error) == text


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/venv/lib/site-packages/numpy/core.py", "numpy/core.py:3"),
        ("/venv/lib/os.py", "os.py:3"),
        ("/elsewhere/mine.py", "/elsewhere/mine.py:3"),
        ("<string>", "<string>:3"),
    ],
)
def test_a_place_does_not_name_where_packages_are_installed(
    path: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", ["", "/venv/lib", "/venv/lib/site-packages"])
    assert place_of(traceback.FrameSummary(path, 3, "call")) == place


MARKDOWN = (
    "<script>x</script>",
    '"><img src="x" onerror="x">',
    "![x](https://example.org/x.png)",
    "[x](javascript:x)",
    "[x][y]",
    "&lt;b&gt;&#x3c;",
    "a|b\\|c",
)
"""Texts that Markdown would turn into HTML, a link, an image or further cells."""


@pytest.mark.parametrize("text", MARKDOWN)
def test_markdown_of_foreign_text_is_that_text(text: str, tmp_path: Path) -> None:
    markdown_it = pytest.importorskip("markdown_it", reason="pip install 'dlsys-bench[docs]'")
    reader = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).disable("linkify")
    run = make_result(0, study=text, arm=text, provenance={"machine": {"processor": text}})
    report, *_ = page.write([run], tmp_path)
    for source in (Table(text, (text, f">{text}"), [(text, text)]).markdown(), report.read_text()):
        tokens = [child for token in reader.parse(source) for child in (token.children or [token])]
        kinds = [token.type for token in tokens if ".png" not in token.attrs.get("src", "")]
        assert {"html_inline", "html_block", "link_open", "image"}.isdisjoint(kinds)
        assert text in "".join(token.content for token in tokens)


ARGUMENT = HOSTILE.replace("\ud800", "").replace("\0", "")
"""A text that a shell can pass to a command."""


@pytest.mark.parametrize("arguments", [("list", ARGUMENT), ("report", ARGUMENT), (ARGUMENT,)])
def test_mistakes_quote_arguments_harmlessly(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["dlsys-bench", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    shown = capsys.readouterr().err
    assert is_harmless(shown)
    assert "error" in shown


def test_no_number_sign_of_json_begins_a_command() -> None:
    for text in ("##[error]x", "###vso[x]"):
        assert is_harmless(dumps({"reason": text}))
        assert loads(dumps({"reason": text})) == {"reason": text}


def test_every_output_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    heads = (HOSTILE, ">::error::b")
    table = Table(HOSTILE, heads, [(HOSTILE, "x" * 20_000_000)])
    for width in (10, 20):
        click.echo("\n".join(Table(HOSTILE, heads, [(HOSTILE, "::a")] * 2).lines(width)))
    Console(width=100).print(table.rich(100))
    click.echo(table.markdown())
    say(HOSTILE)
    output = capsys.readouterr()
    for text in (output.out, output.err):
        assert is_harmless(text)
        assert len(text) < 100_000
    verdict = dict.fromkeys(("study", "arm", "dataset", "tier", "reason", "replay"), HOSTILE)
    found = [{**verdict, "engine": HOSTILE, "seconds": 1.0, "outcome": "FAIL"}]
    ElementTree.fromstring(junit(found))
    assert is_harmless("".join(ElementTree.fromstring(junit(found)).itertext()))
    (command,) = workflow_commands(found)
    assert is_harmless(command.replace("::", "", 2).replace("%0A", "\n"))
    assert json.loads(json.dumps(HOSTILE)) == HOSTILE
