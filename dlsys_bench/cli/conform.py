"""Check an engine for conformance."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.cli.terminal import say
from dlsys_bench.conformance.compliance import Compliance, changes
from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.trial import Options
from dlsys_bench.engines.registry import check_name
from dlsys_bench.errors import UserError
from dlsys_bench.options.command import receives
from dlsys_bench.provenance import cores, provenance
from dlsys_bench.report.compliance import compliance_table, declared_table, write_compliance
from dlsys_bench.report.display import show
from dlsys_bench.strict_json import dumps

NOT_CREATED = "NOT CREATED "
DTYPES = "DTYPES "
SECONDS_TO_CREATE = 60
CREATE = f"""
import sys
sys.path.insert(0, "")
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import UserError
try:
    dtypes = create(*sys.argv[1:]).dtypes
    print({DTYPES!r} + " ".join(map(str, dtypes)), file=sys.stderr)
except UserError as error:
    print({NOT_CREATED!r} + str(error), file=sys.stderr)
"""


@dataclass(frozen=True)
class ConformOptions:
    """The options of `conform`."""

    engine: str
    device: str
    checks: tuple[str, ...]
    seed: int
    examples: int
    budget: float
    seconds: float
    jobs: int | None
    beyond: bool
    output: Path | None
    against: Path | None
    json: bool


@receives(ConformOptions)
def conform_command(options: ConformOptions) -> None:
    """Run the checks, report them, and exit with 1 if the engine does not conform."""
    dtypes = _dtypes_when_created(options.engine, options.device)
    earlier = Compliance.read(options.against) if options.against else None
    report = _climb(options, dtypes)
    if options.json:
        click.echo(dumps(report.to_dict(), indent=1))
    else:
        _print(report, earlier)
    for path in write_compliance(report, options.output) if options.output else ():
        say(str(path))
    sys.exit(0 if report.conforms else 1)


def _climb(options: ConformOptions, dtypes: Sequence[str]) -> Compliance:
    """Run the selected checks in parallel worker processes, and print each failure."""
    selected = select(options.checks, dtypes)
    limits = Options(options.seed, options.examples, options.budget, options.seconds)
    # No check above the statistical rung uses a core for long; a single check gets all cores.
    count = min(options.jobs or cores(), len(selected))
    threads = max(1, cores() // count)
    runners = [
        ProcessRunner(options.engine, options.device, limits, threads=threads) for _ in range(count)
    ]

    def on_result(result: CheckResult) -> None:
        if result.status is Status.FAILED and not options.json:
            say(result.message())

    began = time.perf_counter()
    try:
        results = climb(runners, selected, beyond=options.beyond, on_result=on_result)
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


def _print(report: Compliance, earlier: Compliance | None) -> None:
    show(compliance_table(report))
    if declared := declared_table(report):
        show(declared)
    for name, before, now in changes(earlier, report) if earlier else ():
        say(f"{name}: {before} before, {now} now")


def _dtypes_when_created(engine: str, device: str) -> Sequence[str]:
    """Return the dtypes of an engine. Raise a UserError if there is no such engine, or if it cannot
    be created on this machine.

    Neither is an engine that fails to conform. The engine is created in a separate process, because
    an import may do anything. One that hangs or crashes there is reported by the first check, and
    no dtypes are returned.
    """
    check_name(engine)
    dtypes: list[str] = []
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-c", CREATE, engine, device],
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_CREATE,
        )
        for line in done.stderr.splitlines():
            if line.startswith(NOT_CREATED):
                raise UserError(line.removeprefix(NOT_CREATED))
            if line.startswith(DTYPES):
                dtypes = line.removeprefix(DTYPES).split()
    return dtypes
