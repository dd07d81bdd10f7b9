"""Write the detection matrix: `PYTHONPATH=tests python -m mutants`."""

from __future__ import annotations

from pathlib import Path

import click

from dlsys_bench.conformance.trial import Options
from mutants.detection import Detection, detect_all
from mutants.matrix import LEGEND, LEGEND_SINGLE, read, summary, write
from mutants.table import MUTANTS


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MUTANTS)), metavar="[NAME]...")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Mutants run at a time.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the checks."
)
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Examples per search.",
)
@click.option("--budget", type=float, default=2.5, show_default=True, help="Seconds per search.")
@click.option("--single", is_flag=True, help="Break the engines in float32 alone.")
@click.option(
    "--resume",
    is_flag=True,
    help="Keep the detections that the folder already holds, of mutants that have not changed.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the reports.  [default: reports/conformance if all run]",
)
def main(
    names: tuple[str, ...],
    jobs: int,
    seed: int,
    examples: int,
    budget: float,
    single: bool,
    resume: bool,
    output: Path | None,
) -> None:
    """Put broken engines through the ladder and report the check that detects each.

    It writes mutants.json and mutants.md, or mutants-float32.json and .md for engines that are
    broken in float32 alone. The exit code is 1 if one survives.
    """
    # The first failing example is enough.
    options = Options(seed, examples, budget, shrink=0.0)
    chosen = list(names or MUTANTS)
    folder = output or (None if names else Path("reports/conformance"))
    report = None if folder is None else folder / ("mutants-float32" if single else "mutants")
    found = read(report, options) if resume and report else {}
    left = [name for name in chosen if name not in found]
    for one in detect_all(left, options, jobs, single=single):
        found[one.name] = one
        message = one.message or one.reason or MUTANTS[one.name].survives or "SURVIVED"
        where = "" if one.as_expected else f" (expected: {one.expected})"
        click.echo(f"{one.seconds:6.1f} s  {one.name}: {one.check or '-'}{where}: {message}")
        if report is not None:  # A run that is broken off can be resumed.
            _write(report, found, options, single)
    if report is not None:
        _write(report, found, options, single)
    detections = [found[name] for name in MUTANTS if name in found]
    click.echo(summary(detections))
    raise SystemExit(any(one.survived for one in detections))


def _write(report: Path, found: dict[str, Detection], options: Options, single: bool) -> None:
    every = [found[name] for name in MUTANTS if name in found]
    write(report, every, options, LEGEND_SINGLE if single else LEGEND)


if __name__ == "__main__":
    main()
