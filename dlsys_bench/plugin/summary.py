"""The budget of the session before its tests, and the verdicts after them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.engines.registry import engines, unavailable
from dlsys_bench.entry_points import LEFT_OUT
from dlsys_bench.errors import UserError, count_of
from dlsys_bench.plugin.fixtures import is_gate
from dlsys_bench.report import github
from dlsys_bench.report.layout import NONE, fit
from dlsys_bench.runs.key import CALLABLE
from dlsys_bench.strict_json import dumps
from dlsys_bench.text import fold, one_line
from dlsys_bench.verdicts.budget import share

PROPERTY = "dlsys_verdict"
"""The property of a test report that carries its verdict as JSON, also from xdist's workers."""
SESSIONS = pytest.StashKey[list[dict[str, Any]]]()
COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "test": lambda found: found["test"],
    "arm": lambda found: _unless_named(found, "/".join(filter(None, _arm(found)))),
    "metric": lambda found: found["metric"] if found["engine"] == CALLABLE else NONE,
    "dataset": lambda found: found["dataset"] or NONE,
    "engine": lambda found: _unless_named(found, found["engine"]),
    ">seeds": lambda found: str(len(found["seeds"])),
    ">measured": lambda found: _number(found["measured"]),
    ">reference": lambda found: _band(found["band"]),
    ">MDE": lambda found: _number(found["smallest_shift"]),
    "verdict": lambda found: found["outcome"],
}
"""The columns of the verdicts, as `report.layout` takes them."""


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
    """Judge the engines over all arms.

    A FAIL fails the session even if all tests passed, and so does a session that decides nothing,
    unless `--dlsys-inconclusive skip`.
    """
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    verdicts = _verdicts(reporter) if reporter and not hasattr(config, "workerinput") else []
    if not verdicts:
        return
    # numpy is imported only if there is something to judge.
    from dlsys_bench.plugin.session import decides_nothing, judge

    config.stash[SESSIONS] = found = judge(verdicts, config)
    failed = any(each["outcome"] == "FAIL" for each in found)
    if config.getoption("dlsys_inconclusive") == "fail":
        failed = failed or decides_nothing(verdicts)
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
    width = config.get_terminal_writer().fullwidth
    lines = _table(verdicts, width)
    for line in lines:
        terminalreporter.line(line)
    counts = _counts(verdicts, config.getoption("dlsys_inconclusive"))
    terminalreporter.line(fold(counts, width), bold=True)
    for verdict in verdicts:
        if verdict["warning"]:
            text = f"warning: {verdict['test']}, {verdict['metric']}: {verdict['warning']}"
            terminalreporter.line(fold(one_line(text), width), yellow=True)
    for session in config.stash.get(SESSIONS, []):
        failed = session["outcome"] == "FAIL"
        text = f"{session['outcome']}: {one_line(session['message'])}"
        terminalreporter.line(fold(text, width), red=failed, bold=failed)
    if path := config.getoption("dlsys_json"):
        Path(path).write_text(dumps(verdicts, indent=1), encoding="utf-8")
    if github.running():
        for line in github.workflow_commands(verdicts):
            terminalreporter.line(line)
        github.summarise("\n".join(["### dlsys_bench verdicts", "", "```text", *lines, "```"]))
    for line in _left_out(config, verdicts):
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


def _counts(verdicts: Sequence[Mapping[str, Any]], inconclusive: str) -> str:
    """The number of verdicts of each outcome, and what INCONCLUSIVE counts as."""
    counts = Counter(verdict["outcome"] for verdict in verdicts)
    line = f"{count_of(len(verdicts), 'verdict')}: " + ", ".join(
        f"{number} {outcome}" for outcome, number in counts.items()
    )
    if "INCONCLUSIVE" not in counts:
        return line
    other = {"fail": "skip", "skip": "fail"}[inconclusive]
    counted = {"fail": "failed", "skip": "skipped"}
    return f"{line} (counts as {counted[inconclusive]}; --dlsys-inconclusive {other} changes that)"


def _table(verdicts: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    rows = [[one_line(cell(verdict)) for cell in COLUMNS.values()] for verdict in verdicts]
    return fit(list(COLUMNS), rows, width)


def _arm(found: Mapping[str, Any]) -> tuple[str, str]:
    """The study and the arm of a verdict; none for a user's own training, which its test names."""
    return ("", "") if found["engine"] == CALLABLE else (found["study"], found["arm"])


def _unless_named(found: Mapping[str, Any], text: str) -> str:
    """Return a text, unless the name of the test states it: that of a case does."""
    return NONE if text in found["test"] or found["engine"] == CALLABLE else text


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _band(band: Mapping[str, Any] | None) -> str:
    return f"{band['mean']:.4f} ± {band['spread']:.4f} ({band['n']})" if band else NONE


def _left_out(config: pytest.Config, verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The engines and datasets that were not available to the verdicts on studies, each with the
    command that installs it.

    A table that cannot be built is named with the reason: this is no place to raise.
    """
    judged = [verdict for verdict in verdicts if verdict["engine"] != CALLABLE]
    lines = []
    for what in (_missing_engines, _missing_datasets) if judged else ():
        try:
            lines += what(config, judged)
        except UserError as error:
            lines.append(str(error))
    return lines


def _missing_engines(config: pytest.Config, _: Sequence[Mapping[str, Any]]) -> list[str]:
    """The engines that are not installed, unless the session names those that it judges."""
    named = config.getoption("dlsys_engine")
    if named and "all" not in named:
        return []
    return [reason for name in engines() if (reason := unavailable(name))]


def _missing_datasets(config: pytest.Config, judged: Sequence[Mapping[str, Any]]) -> list[str]:
    """The datasets in place of which another was used, unless the session names the dataset."""
    if config.getoption("dlsys_dataset"):
        return []
    from dlsys_bench.plugin.session import missing_datasets

    used = {each["study"]: each["dataset"] for each in judged}
    missing = missing_datasets(used, config.getoption("dlsys_data_dir"))
    if not missing:
        return []
    return [f"{', '.join(missing)}: dlsys-bench data fetch, or --dlsys-data-dir DIR"]
