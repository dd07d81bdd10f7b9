"""The evidence of all sessions under pytest, which is registered if there is a file for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.plugin.summary import PROPERTY
from dlsys_bench.text import fold, one_line, printable
from dlsys_bench.verdicts.evidence import EvidenceVerdict, judged_from
from dlsys_bench.verdicts.evidence_session import EvidenceSession, lines_of


def session_of(config: pytest.Config) -> EvidenceSession:
    """The session that the options describe."""
    path, number, commit = (
        config.getoption(f"dlsys_{name}") for name in ("evidence", "run_number", "commit")
    )
    return EvidenceSession(Path(path) if path else None, number, commit)


def pytest_configure(config: pytest.Config) -> None:
    """Check the file, and record the verdicts. Raises a UsageError for every mistake."""
    if hasattr(config, "workerinput"):
        return
    session = session_of(config)
    try:
        session.check()
    except UserError as error:
        raise pytest.UsageError(printable(error)) from None
    config.pluginmanager.register(EvidenceRecorder(session))


class EvidenceRecorder:
    """Adds the runs of the session to the file when all tests have ended."""

    def __init__(self, session: EvidenceSession) -> None:
        self.session = session
        self.verdicts: dict[tuple[str, str], dict[str, Any]] = {}
        self.evidence: Sequence[EvidenceVerdict] = ()
        self.error = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the verdicts of a test; those of its reruns repeat them."""
        for name, value in report.user_properties:
            if name == PROPERTY:
                self.verdicts[report.nodeid, str(value)] = json.loads(str(value))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Add the runs. An alarm, or a file that cannot be written, fails the session."""
        judged = [found for one in self.verdicts.values() if (found := judged_from(one))]
        if not judged:
            return
        try:
            self.evidence = self.session.add(judged)
        except UserError as error:
            self.error = str(error)
        alarm = self.error or any(one.alarm for one in self.evidence)
        if alarm and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the evidence."""
        lines = [f"FAIL: {self.error}"] if self.error else lines_of(self.evidence)
        if lines:
            terminalreporter.section("dlsys_bench evidence")
        width = terminalreporter.config.get_terminal_writer().fullwidth
        for line in lines:
            failed = line.startswith("FAIL")
            terminalreporter.line(fold(one_line(line), width), red=failed, bold=failed)
