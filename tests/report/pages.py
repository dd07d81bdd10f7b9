"""Pages for tests: synthetic runs, names that are attacks, and a parser that finds what they do."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from results import make_result

from dlsys_bench.engines.history import Epoch
from dlsys_bench.report.html.page import Page, Section, Sheet
from dlsys_bench.report.html.runs import run_sections
from dlsys_bench.report.html.stacks import stack_section
from dlsys_bench.report.html.strips import Strip, axis, draw, scale_of
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.bands import Band
from dlsys_bench.verdicts.verdict import Outcome, Verdict

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"><img src="https://example.org/x" onerror="window.hacked = 1">',
    "' onmouseover='window.hacked = 1",
    "</style></title></svg><svg onload=window.hacked=1>",
    "{{ 7 * 7 }}{% include 'x' %}",
    "javascript:window.hacked=1",
    "\x1b[31m::error::x\x00\u202e",
)
"""Texts that would do something if a page did not escape them."""


def make_runs(arms: int, engines: Sequence[str], seeds: int, study: str = "big") -> list[Result]:
    """Return runs of ten epochs whose accuracies differ by arm."""
    rng = np.random.default_rng(0)
    found = []
    for arm in range(arms):
        for engine in engines:
            for seed in range(seeds):
                noise = rng.normal(0, 0.003, 10)
                history = [
                    Epoch(
                        n, 10 * n, 0.1, 1 / n, test_accuracy=float(0.9 + 0.004 * n + noise[n - 1])
                    )
                    for n in range(1, 11)
                ]
                key = {"study": study, "arm": f"arm {arm}", "engine": engine}
                provenance = {
                    "time": f"2026-01-{seed + 1:02}",
                    "versions": {"numpy": "2.0" if seed < seeds / 2 else "2.1"},
                }
                run = make_result(seed, history=history, provenance=provenance, **key)
                found.append(run)
    return found


def page_of(results: Sequence[Result], folder: Path) -> Page:
    """Return the page about runs, as `report --html` makes it."""
    sections = [*run_sections(results, folder), stack_section(results)]
    return Page("Stored runs", "runs", (), sections, results[0].provenance)


def make_verdict(name: str = "arm", outcome: Outcome = Outcome.FAIL, reason: str = "") -> Verdict:
    """Return a verdict on two runs, of which one diverged."""
    return Verdict(
        Key("study", name, "digits", "quick", "numpy"),
        "test_accuracy",
        (10000, 10001),
        (0.91, float("-inf")),
        outcome,
        reason or "from a different distribution",
        f"dlsys-bench gate study/{name}",
        Band(0.95, 0.01, 20, "reference"),
        1e-3,
        1e-2,
        12,
        0.03,
        -0.04,
        1e-4,
        changes=(reason,) if reason else (),
        accept=f"dlsys-bench baseline accept {name}",
    )


def hostile_page() -> Page:
    """Return a page with hostile texts in every place that takes text."""
    strips = [Strip(text, ((text, 0.5),), marks=((text, 0.6),)) for text in HOSTILE]
    scale = scale_of(strips)
    rows = [(text, draw(strip, scale)) for text, strip in zip(HOSTILE, strips, strict=True)]
    sections = [
        Section(
            text,
            HOSTILE,
            [Sheet(text, (text, "drawn"), rows, axis(scale), "drawn")],
            commands=[(text, text)],
        )
        for text in HOSTILE
    ]
    return Page(HOSTILE[0], HOSTILE[1], HOSTILE, sections, {text: text for text in HOSTILE})


class Parsed(HTMLParser):
    """The elements of a page, in order, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.code = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open[:-1]

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            self.code += data
        else:
            self.text += data

    def named(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """The attributes of the elements of a name that have these values; class_ is class."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in wanted.items())
        ]
