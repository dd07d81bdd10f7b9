"""The output of a gate on GitHub Actions: annotations of failures, and the job summary."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsys_bench.text import printable

LEVELS = {"FAIL": "error", "INCONCLUSIVE": "warning"}


def running() -> bool:
    """Return True in a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def workflow_commands(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the workflow commands that annotate the verdicts (of `Verdict.to_dict`)."""
    lines = []
    for verdict in verdicts:
        warning = verdict.get("warning")
        if level := LEVELS.get(verdict["outcome"], "warning" if warning else None):
            title = "/".join(filter(None, (verdict["engine"], verdict["study"], verdict["arm"])))
            reason = f"{verdict['reason']}; {warning}" if warning else verdict["reason"]
            message = f"{reason}\nreplay: {verdict['replay']}"
            lines.append(f"::{level} title={_escaped(title, ':,')}::{_escaped(message)}")
    return lines


def _escaped(text: str, more: str = "") -> str:
    text = printable(text)
    # A line break would end the command; a colon or a comma would end its title.
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def summarise(markdown: str) -> None:
    """Append Markdown to the summary of the job, if it has one."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(markdown + "\n")
