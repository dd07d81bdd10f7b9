"""Write the detection matrix: `PYTHONPATH=tests python -m mutants`."""

from __future__ import annotations

from pathlib import Path

import click

from dlsys_bench.conformance.trial import Options
from mutants.detection import Detection, detect_all
from mutants.matrix import summary, write
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
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for mutants.json and mutants.md.  [default: reports/conformance if all run]",
)
def main(
    names: tuple[str, ...], jobs: int, seed: int, examples: int, budget: float, output: Path | None
) -> None:
    """Put broken engines through the ladder and report the check that detects each.

    The exit code is 1 if one survives.
    """
    options = Options(seed, examples, budget)
    chosen = list(names or MUTANTS)
    found: dict[str, Detection] = {}
    for one in detect_all(chosen, options, jobs):
        found[one.name] = one
        message = one.message or one.reason or MUTANTS[one.name].survives or "SURVIVED"
        where = "" if one.as_expected else f" (expected: {one.expected})"
        click.echo(f"{one.seconds:6.1f} s  {one.name}: {one.check or '-'}{where}: {message}")
    detections = [found[name] for name in chosen]
    folder = output or (None if names else Path("reports/conformance"))
    if folder is not None:
        write(folder, detections, options)
    click.echo(summary(detections))
    raise SystemExit(any(one.survived for one in detections))


if __name__ == "__main__":
    main()
