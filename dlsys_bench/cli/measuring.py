"""What the commands that measure engines on a study share: options, what is asked for, and where it
is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dlsys_bench.cli.terminal import say, show
from dlsys_bench.errors import UserError, nearest

if TYPE_CHECKING:
    from dlsys_bench.report.tables import Table
    from dlsys_bench.studies.base import Case

F = TypeVar("F", bound=Callable[..., Any])


def study_and_engines(command: F) -> F:
    """What is measured, and where: the same of every benchmark of a study."""
    options = (
        click.argument("study", default="regularization/lenet5-tanh"),
        click.option(
            "--arm", "arms", multiple=True, help="Repeatable. Default: the first of the study."
        ),
        click.option(
            "--engine",
            "engines",
            multiple=True,
            help="Repeatable. Default: all that are installed.",
        ),
        click.option(
            "--device",
            "devices",
            multiple=True,
            default=("cpu",),
            show_default=True,
            help="cpu or cuda; repeatable.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def output_of(default: str) -> Callable[[F], F]:
    """Where the points of a benchmark are kept."""
    return click.option(
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path(default),
        show_default=True,
        help="Where each point is kept as it is measured; what is there is not measured again.",
    )


def arms_of(study: str, arms: tuple[str, ...], data_dir: str | None, output: Path) -> list[Case]:
    """The arms that were asked for, else the first of the study; the data are looked for in
    `data_dir`, by the processes of the points too. Errors: UserError for what is not there, before
    anything is measured."""
    from dlsys_bench.studies.registry import find

    if data_dir is not None:
        os.environ["DLSYS_BENCH_DATA"] = data_dir
    if output.suffix != ".jsonl":
        raise UserError(
            f"--output is {output}; it takes NAME.jsonl, and writes NAME.md and NAME.png beside it"
        )
    cases = find(study)
    if len(studies := dict.fromkeys(case.study.name for case in cases)) > 1:
        raise UserError(f"it takes one study, and {study} has {len(studies)}: {', '.join(studies)}")
    known = {case.arm.name: case for case in cases}
    for arm in arms:
        if arm not in known:
            raise UserError(
                f"{study} has no arm {arm!r}{nearest(arm, known)}; it has {', '.join(known)}"
            )
    return [known[arm] for arm in dict.fromkeys(arms)] or cases[:1]


def places_of(
    engines: tuple[str, ...], devices: tuple[str, ...], dtypes: tuple[str, ...] = ("float32",)
) -> list[tuple[str, str, str]]:
    """Every engine on every device and with every dtype that it has. Errors: EngineError."""
    from dlsys_bench.engines.registry import available, check_name

    chosen = {engine: check_name(engine) for engine in engines or available()}
    for engine, entry in chosen.items():
        for lack in (*(set(devices) - set(entry.devices)), *(set(dtypes) - set(entry.dtypes))):
            say(f"left out: {engine} has no {lack}")
    return [
        (engine, device, dtype)
        for dtype in dtypes
        for device in devices
        for engine, entry in chosen.items()
        if device in entry.devices
        and dtype in entry.dtypes
        and (engines or device not in entry.slow_on)
    ]


def write_beside(output: Path, title: str, pages: Sequence[Table], picture: Path | None) -> None:
    """Show the tables, and keep them beside the points with the picture of these."""
    for page in pages:
        show(page)
    text, drawn = output.with_suffix(".md"), f"![]({picture.name})\n\n" if picture else ""
    text.write_text(
        f"# {title}\n\n{drawn}" + "\n".join(page.markdown() for page in pages), encoding="utf-8"
    )
    for path in (text, picture):
        if path:
            click.echo(path)
