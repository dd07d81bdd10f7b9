"""The common part of the commands that measure engines on a study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.cli.terminal import say
from dlsys_bench.engines.dtypes import default_dtype
from dlsys_bench.engines.registry import available, check_name, dtypes_of
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.options.table import ENV_DATA
from dlsys_bench.report.display import show
from dlsys_bench.report.table import Table
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import default_target, find


@dataclass(frozen=True)
class MeasureOptions:
    """The argument and the options that the measuring commands have in common."""

    study: str | None
    arms: tuple[str, ...]
    engines: tuple[str, ...]
    devices: tuple[str, ...]
    output: Path
    data_dir: str | None
    html: Path | None


def arms_of(options: MeasureOptions) -> list[Case]:
    """The requested arms, or the first of the study. Raises UserError for every mistake.

    The directory of the data is passed to the processes of the points by the environment.
    """
    if options.data_dir is not None:
        os.environ[ENV_DATA] = options.data_dir
    if options.output.suffix != ".jsonl":
        raise UserError(
            f"--output is {options.output}; expected NAME.jsonl, next to which NAME.md and "
            "NAME.png are written"
        )
    target = options.study or default_target()
    cases = find(target)
    if len(studies := dict.fromkeys(case.study.name for case in cases)) > 1:
        raise UserError(
            f"expected one study, but {target} has {len(studies)}: {', '.join(studies)}"
        )
    known = {case.arm.name: case for case in cases}
    for arm in options.arms:
        if arm not in known:
            raise UserError(
                f"{target} has no arm {arm!r}{nearest(arm, known)}; it has {', '.join(known)}"
            )
    return [known[arm] for arm in dict.fromkeys(options.arms)] or cases[:1]


def places_of(
    engines: Sequence[str], devices: Sequence[str], dtypes: Sequence[str] = ()
) -> list[tuple[str, str, str]]:
    """Every engine on every device and with every dtype that it supports, or with its default
    dtype if there are none given. Raises EngineError."""
    entries = {engine: check_name(engine) for engine in engines or available()}
    theirs = {engine: dtypes_of(engine) for engine in entries}
    for engine, entry in entries.items():
        for missing in (*(set(devices) - set(entry.devices)), *(set(dtypes) - set(theirs[engine]))):
            say(f"left out: {engine} has no {missing}")
    return [
        (engine, device, dtype or default_dtype(theirs[engine]))
        for dtype in dtypes or ("",)
        for device in devices
        for engine, entry in entries.items()
        if device in entry.devices
        and (not dtype or dtype in theirs[engine])
        and (engines or device not in entry.slow_on)
    ]


def write_beside(output: Path, title: str, pages: Sequence[Table], picture: Path | None) -> None:
    """Print the tables, and write them next to the points with the plot of them."""
    for page in pages:
        show(page)
    text, plot = output.with_suffix(".md"), f"![]({picture.name})\n\n" if picture else ""
    tables = "\n".join(page.markdown() for page in pages)
    text.write_text(f"# {title}\n\n{plot}{tables}", encoding="utf-8")
    for path in (text, picture):
        if path:
            click.echo(path)
