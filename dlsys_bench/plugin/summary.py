"""The budget of the session before its tests, and the verdicts after them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.engines.registry import engines, unavailable
from dlsys_bench.entry_points import LEFT_OUT
from dlsys_bench.errors import UserError, count_of
from dlsys_bench.plugin.fixtures import is_gate
from dlsys_bench.report import github
from dlsys_bench.runs.key import CALLABLE
from dlsys_bench.strict_json import dumps
from dlsys_bench.text import one_line
from dlsys_bench.verdicts.budget import share

PROPERTY = "dlsys_verdict"
"""The property of a test report that carries its verdict as JSON, also from xdist's workers."""
SESSIONS = pytest.StashKey[list[dict[str, Any]]]()
COLUMNS = ("arm", "dataset", "engine", "seeds", "measured", "reference", "MDE", "verdict")
NONE = "-"


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> list[str]:
    """The entry points that are left out, and the error rates of the session, which are shared
    before anything is trained."""
    gates = sum(map(is_gate, items))
    left_out = [f"dlsys_bench: {one_line(message)}" for message in LEFT_OUT]
    if not gates:
        return left_out
    names = ("alpha", "beta", "max_seeds")
    alpha, beta, most = (config.getoption(f"dlsys_{name}") for name in names)
    return [
        *left_out,
        f"dlsys_bench: {count_of(gates, 'gate')}; "
        f"false-alarm rate {alpha:g} ({share(gates, alpha):.1e} each), power {1 - beta:g}, "
        f"at most {count_of(most, 'seed')} each",
    ]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Judge the engines over all arms. A FAIL fails the session, even if all tests passed."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    strata = _verdicts(reporter) if reporter and not hasattr(config, "workerinput") else []
    if not strata:
        return
    # numpy is imported only if there is something to judge.
    from dlsys_bench.plugin.session import judge

    config.stash[SESSIONS] = found = judge(strata, config)
    failed = any(each["outcome"] == "FAIL" for each in found)
    if failed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print every verdict, and what was left out; write them for programs and for GitHub."""
    verdicts = _verdicts(terminalreporter)
    if not verdicts:
        return
    # The verdicts may have taken hours, so they are written before anything else can go wrong.
    terminalreporter.section("dlsys_bench verdicts")
    lines = _table(verdicts)
    for line in lines:
        terminalreporter.line(line)
    for session in config.stash.get(SESSIONS, []):
        failed = session["outcome"] == "FAIL"
        terminalreporter.line(
            f"{session['outcome']}: {one_line(session['message'])}", red=failed, bold=failed
        )
    if path := config.getoption("dlsys_json"):
        Path(path).write_text(dumps(verdicts, indent=1), encoding="utf-8")
    if github.running():
        for line in github.workflow_commands(verdicts):
            terminalreporter.line(line)
        github.summarise("\n".join(["### dlsys_bench verdicts", "", "```text", *lines, "```"]))
    for line in _left_out(config):
        terminalreporter.line(f"left out: {one_line(line)}")


def _verdicts(terminalreporter: pytest.TerminalReporter) -> list[dict[str, Any]]:
    """The verdicts in the test reports, by engine and study."""
    # The reports of a test that was rerun repeat its verdict.
    found = {
        (report.nodeid, str(value)): json.loads(str(value))
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    }
    return sorted(found.values(), key=lambda verdict: (verdict["engine"], verdict["study"]))


def _table(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [COLUMNS, *(tuple(map(one_line, _row(verdict))) for verdict in verdicts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    band, measured, shift = verdict["band"], verdict["measured"], verdict["smallest_shift"]
    return (
        _name(verdict),
        verdict["dataset"] or NONE,
        verdict["engine"],
        str(len(verdict["seeds"])),
        NONE if measured is None else f"{measured:.4f}",
        f"{band['mean']:.4f} ± {band['spread']:.4f} ({band['n']})" if band else NONE,
        NONE if shift is None else f"{shift:.4f}",
        verdict["outcome"],
    )


def _name(verdict: Mapping[str, Any]) -> str:
    """The study and the arm; for a user's own training also the metric, as it may have several."""
    if verdict["engine"] == CALLABLE:
        return f"{verdict['study']} {verdict['metric']}"
    return "/".join(filter(None, (verdict["study"], verdict["arm"])))


def _left_out(config: pytest.Config) -> list[str]:
    """The engines and datasets that are not available, each with the command that installs it.

    A table that cannot be built is named with the reason: this is no place to raise.
    """
    lines = []
    for what in (_missing_engines, _missing_datasets):
        try:
            lines += what(config)
        except UserError as error:
            lines.append(str(error))
    return lines


def _missing_engines(_: pytest.Config) -> list[str]:
    return [reason for name in engines() if (reason := unavailable(name))]


def _missing_datasets(config: pytest.Config) -> list[str]:
    from dlsys_bench.data import datasets, is_available

    folder = config.getoption("dlsys_data_dir")
    missing = [name for name in datasets() if not is_available(name, folder)]
    if not missing:
        return []
    return [f"{', '.join(missing)}: dlsys-bench data fetch, or --dlsys-data-dir DIR"]
