"""Put an engine through the conformance checks."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlsys_bench.cli.options import as_json
from dlsys_bench.cli.terminal import say, show
from dlsys_bench.engines.registry import NAMES
from dlsys_bench.errors import UserError

if TYPE_CHECKING:
    from dlsys_bench.conformance.result import CheckResult


FIND = """
import sys
sys.path.insert(0, "")
from dlsys_bench.attributes import load_attribute
from dlsys_bench.errors import UserError
try:
    load_attribute(sys.argv[1], "engine")
except UserError as error:
    print("NOT FOUND", error, file=sys.stderr)
"""


@click.command("conform")
@click.option(
    "--engine",
    "engine_name",
    default="numpy",
    envvar="DLSYS_BENCH_ENGINE",
    show_default=True,
    help=f"{NAMES}.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--check",
    "checks",
    multiple=True,
    metavar="NAME",
    help="A check, as gradient/conv2d, or a rung; repeatable. Default: all.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="What is drawn follows from it.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Examples of a search; fewer where they do not fit its budget.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    default=2.5,
    show_default=True,
    help="Seconds of a search; shrinking takes as long again.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="What a check may take before it is given up and its process killed.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Checks at a time, each in a process of its own. Default: the cores there are.",
)
@click.option("--beyond", is_flag=True, help="Go on above a rung that breaks.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the report as JSON, Markdown and a page, and a badge.",
)
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An earlier report, as JSON: say what changed.",
)
@as_json
def conform_command(
    engine_name: str,
    device: str,
    checks: tuple[str, ...],
    seed: int,
    examples: int,
    budget: float,
    seconds: float,
    jobs: int | None,
    beyond: bool,
    output: Path | None,
    against: Path | None,
    as_json: bool,
) -> None:
    """Does an engine train right? Rung by rung, from shapes to the accuracies it reaches, until one
    breaks.

    Every check runs in a process that may hang or crash. Exit codes: 0 it conforms, 1 it does not,
    2 usage or environment.
    """
    from dlsys_bench.conformance.compliance import Compliance, changes
    from dlsys_bench.conformance.ladder import climb, select
    from dlsys_bench.conformance.result import Status
    from dlsys_bench.conformance.runner import Options, ProcessRunner
    from dlsys_bench.provenance import cores, provenance
    from dlsys_bench.report.compliance import compliance_table, declared_table, write_compliance

    _check_found(engine_name)
    earlier = Compliance.read(against) if against else None
    selected = select(checks)
    options = Options(seed, examples, budget, seconds)
    # No check above the statistical one takes a core for long; with one check there is nothing to
    # share.
    count = min(jobs or cores(), len(selected))
    runners = [
        ProcessRunner(engine_name, device, options, threads=max(1, cores() // count))
        for _ in range(count)
    ]

    def tell(result: CheckResult) -> None:
        if result.status is Status.FAILED and not as_json:
            say(result.message())

    began = time.perf_counter()
    try:
        results = climb(runners, selected, beyond=beyond, on_result=tell)
    finally:
        for runner in runners:
            runner.close()
    report = Compliance(
        engine_name,
        device,
        seed,
        results,
        [check.name for check in select(None)],
        [check.name for check in selected],
        time.perf_counter() - began,
        provenance(),
    )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        show(compliance_table(report))
        if declared := declared_table(report):
            show(declared)
        for line in changes(earlier, report) if earlier else ():
            say(f"{line[0]}: {line[1]} before, {line[2]} now")
    for path in write_compliance(report, output) if output else ():
        say(str(path))
    sys.exit(0 if report.conforms else 1)


def _check_found(engine_name: str) -> None:
    """Raise a UserError where there is no such engine: that is no engine which does not conform. In
    a process of its own, for importing it may do anything; one that hangs or crashes there will be
    found by the first check."""
    from dlsys_bench.engines.registry import check_name

    target = check_name(engine_name).target
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-c", FIND, target], capture_output=True, text=True, timeout=60
        )
        told = [
            line.removeprefix("NOT FOUND ")
            for line in done.stderr.splitlines()
            if line.startswith("NOT FOUND ")
        ]
        if told:
            raise UserError(told[0])
