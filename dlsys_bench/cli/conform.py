"""Check an engine for conformance."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dlsys_bench.cli.page import check_page
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.conformance.causes import causes, explains
from dlsys_bench.conformance.check import CHECKS, find_check
from dlsys_bench.conformance.compliance import Compliance, changes
from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.result import CheckResult
from dlsys_bench.conformance.runner import threads_of_environment
from dlsys_bench.conformance.trial import Options
from dlsys_bench.engines.dtypes import ROUNDOFF
from dlsys_bench.engines.registry import check_name
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.options.command import receives
from dlsys_bench.provenance import cores, provenance
from dlsys_bench.report.compliance import (
    causes_report,
    compliance_table,
    declared_table,
)
from dlsys_bench.report.compliance_files import compliance_page, write_compliance
from dlsys_bench.report.display import PAGE, progress, show
from dlsys_bench.report.html.page import write_page
from dlsys_bench.report.layout import wrapped
from dlsys_bench.strict_json import dumps


@dataclass(frozen=True)
class ConformOptions:
    """The options of `conform`."""

    engine: str
    device: str
    checks: tuple[str, ...]
    explain: str | None
    seed: int
    examples: int
    budget: float
    seconds: float
    jobs: int | None
    threads: int | None
    beyond: bool
    output: Path | None
    against: Path | None
    json: bool
    html: Path | None


@receives(ConformOptions)
def conform_command(options: ConformOptions) -> None:
    """Run the checks, report them, and exit with 1 if the engine does not conform, or with 3 if
    that is unknown because a check timed out."""
    if options.explain is not None:
        say_explanation(options.explain)
        return
    check_name(options.engine)
    check_page(options.html)
    earlier = Compliance.read(options.against) if options.against else None
    report = _climb(options)
    if options.json:
        emit(dumps(report.to_dict(), indent=1))
    else:
        _print(report, earlier)
    for path in write_compliance(report, options.output) if options.output else ():
        say(str(path))
    if options.html is not None:
        changed = changes(earlier, report) if earlier else ()
        say(f"page: {write_page(compliance_page(report, list(changed)), options.html)}")
    sys.exit(0 if report.conforms else 3 if report.inconclusive else 1)


def _climb(options: ConformOptions) -> Compliance:
    """Run the selected checks in parallel worker processes, and print each failure."""
    limits = Options(options.seed, options.examples, options.budget, options.seconds)
    count = min(options.jobs or cores(), len(select(options.checks, tuple(ROUNDOFF))))
    threads = options.threads
    if threads is None and not threads_of_environment():
        # No check above the statistical rung uses a core for long; a single check gets all cores.
        threads = max(1, cores() // count)
    runners = [
        ProcessRunner(options.engine, options.device, limits, threads=threads) for _ in range(count)
    ]

    began = time.perf_counter()
    try:
        dtypes = runners[0].create()
        selected = select(options.checks, dtypes)
        with progress(len(selected), "checks") as advance:
            seen = _Results(advance, options.json)
            results = climb(runners, selected, beyond=options.beyond, on_result=seen.add)
    finally:
        for runner in runners:
            runner.close()
    return Compliance(
        options.engine,
        options.device,
        options.seed,
        results,
        [check.name for check in select(None, dtypes)],
        [check.name for check in selected],
        time.perf_counter() - began,
        provenance(),
    )


@dataclass
class _Results:
    """The results as their checks end: they advance the progress, and failures are printed."""

    advance: Callable[[str, int], None]
    quiet: bool
    roots: list[CheckResult] = field(default_factory=list)

    def add(self, result: CheckResult) -> None:
        """Print the finding of a result, unless an earlier one explains it."""
        self.advance(result.name, 1)
        # The report shows the root of each probable cause with all that is known about it, and
        # names the other checks.
        if result.finding is None or self.quiet or any(explains(r, result) for r in self.roots):
            return
        self.roots.append(result)
        say(f"failed: {result.name}")


def say_explanation(name: str) -> None:
    """Print the explanation of a check. Raises UserError for an unknown name, with the nearest."""
    check = find_check(name)
    if check is None:
        raise UserError(
            f"unknown check {name!r}{nearest(name, CHECKS)}; expected the name of a check, such as "
            "gradient/dense"
        )
    emit(check.name)
    for title, text in check.explanation.sections().items():
        emit("\n".join(wrapped(f"  {title}: ", text, PAGE)))


def _print(report: Compliance, earlier: Compliance | None) -> None:
    show(compliance_table(report))
    if declared := declared_table(report):
        show(declared)
    for line in causes_report(causes(report.results)):
        say(line)
    for name, before, now in changes(earlier, report) if earlier else ():
        say(f"{name}: {before} before, {now} now")
