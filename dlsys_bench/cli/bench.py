"""Speed: compare stored benchmarks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dlsys_bench.cli.options import as_json, data_dir
from dlsys_bench.cli.terminal import say, show
from dlsys_bench.errors import UserError, nearest


@click.group("bench")
def bench_group() -> None:
    """Benchmarks: see also pytest --benchmark-only."""


@bench_group.command("compare")
@click.argument("a", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@as_json
def compare_command(a: Path, b: Path, as_json: bool) -> None:
    """Benchmarks A against B, files of pytest-benchmark (--benchmark-json=FILE): before and after an upgrade.

    For each benchmark that both have, how many times B is faster, with a 95% interval: FASTER or SLOWER where the
    intervals of the two medians lie apart, AMBIGUOUS where they overlap, where others took over 5% of the machine, or
    where the GPU was slowed: by heat, its power limit, or what else its driver tells.

    Exit codes: 0 none is slower, 1 some are, 2 usage or nothing to compare, 3 none is slower but some are ambiguous.
    """
    from dlsys_bench.report.tables import Table
    from dlsys_bench.timing.ratio import Speed
    from dlsys_bench.timing.stored import compare_benchmarks

    changes, others = compare_benchmarks(a, b)
    speeds = [change.speed for change in changes]
    code = 1 if Speed.SLOWER in speeds else 3 if Speed.AMBIGUOUS in speeds else 0
    if as_json:
        click.echo(json.dumps({"a": str(a), "b": str(b), "changes": [one.to_dict() for one in changes],
                               "left_out": others}, indent=1))  # fmt: skip
        sys.exit(code)
    rows = [
        (
            one.name, f"{1e3 * one.a:.4g}", f"{1e3 * one.b:.4g}", str(one.ratio), str(one.ratio.rounds),
            "-" if one.drift is None else f"{one.drift:.2f}", "-" if one.others is None else f"{one.others:.0%}",
            "-" if one.slowed_by is None else ", ".join(one.slowed_by) or "not", str(one.speed),
        )
        for one in changes
    ]  # fmt: skip
    heads = ("benchmark", ">A, ms", ">B, ms", ">times faster", ">rounds", ">machine", ">others", "GPU slowed by",
             "verdict")  # fmt: skip
    show(Table(f"{a} (A) and {b} (B)", heads, rows))
    for name in others:
        say(f"left out: {name}: not in both")
    sys.exit(code)


@bench_group.command("sweep")
@click.argument("study", default="regularization/lenet5-tanh")
@click.option("--arm", "arms", multiple=True, help="Repeatable. Default: the first of the study.")
@click.option("--engine", "engines", multiple=True, help="Repeatable. Default: all that are installed.")
@click.option(
    "--device", "devices", multiple=True, default=("cpu",), show_default=True, help="cpu or cuda; repeatable."
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    default=("float32",),
    show_default=True,
    type=click.Choice(["float32", "float64"]),
    help="Repeatable.",
)
@click.option(
    "--batch-size",
    "sizes",
    multiple=True,
    type=click.IntRange(min=1),
    default=(8, 32, 128, 512, 2048),
    show_default=True,
    help="Repeatable.",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(min=1),
    help="Repeatable. Default: as many as an engine takes by itself.",
)
@click.option(
    "--replicas",
    multiple=True,
    type=click.IntRange(min=1),
    default=(1,),
    show_default=True,
    help="Networks trained as one; repeatable.",
)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="A point, about.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("reports/speed.jsonl"),
    show_default=True,
    help="Where each point is kept as it is measured; what is there is not measured again.",
)
@data_dir
def sweep_command(
    study: str, arms: tuple[str, ...], engines: tuple[str, ...], devices: tuple[str, ...], dtypes: tuple[str, ...],
    sizes: tuple[int, ...], threads: tuple[int, ...], replicas: tuple[int, ...], seconds: float, output: Path,
    data_dir: str | None,
) -> None:  # fmt: skip
    """How fast engines train STUDY by batch size, threads, precision, and replicas; tables and a picture beside OUTPUT.

    Each point is a process of its own, which must be seen to train. What cannot be measured is said, with the reason.

    Exit codes: 0 all was measured, 1 some was not, 2 usage.
    """
    import os
    from itertools import product

    from dlsys_bench.engines.registry import available, check_name
    from dlsys_bench.report.plots.speed import speed, tables
    from dlsys_bench.studies import find
    from dlsys_bench.timing.sweep import Point, read, sweep

    if data_dir is not None:
        os.environ["DLSYS_BENCH_DATA"] = data_dir
    if output.suffix != ".jsonl":
        raise UserError(f"--output is {output}; it takes NAME.jsonl, and writes NAME.md and NAME.png beside it")
    cases = find(study)
    if len(studies := dict.fromkeys(case.study.name for case in cases)) > 1:
        raise UserError(f"a sweep takes one study, and {study} has {len(studies)}: {', '.join(studies)}")
    known = [case.arm.name for case in cases]
    for arm in arms:
        if arm not in known:
            raise UserError(f"{study} has no arm {arm!r}{nearest(arm, known)}; it has {', '.join(known)}")
    chosen = {engine: check_name(engine).devices for engine in engines or available()}
    points = [
        Point(engine, device, dtype, cases[0].study.name, arm, size, count, many)
        for arm, device, dtype, engine, size, count, many in product(
            arms or known[:1], devices, dtypes, chosen, sizes, threads or (None,), replicas
        )
        if device in chosen[engine]
    ]
    for engine in chosen:
        for device in set(devices) - set(chosen[engine]):
            say(f"left out: {engine} has no {device}")
    lost = 0
    for number, (point, found) in enumerate(sweep(points, output, seconds), start=1):
        where = f"[{number}/{len(points)}] {point}"
        if isinstance(found, str):
            lost += 1
            say(f"{where}: not measured: {found}")
        else:
            say(f"{where}: {found['samples_a_second']:,.0f} samples/s, {found['microseconds_a_step']:,.0f} us a step")
    stored = read(output)
    if stored:
        pages = tables(stored)
        for page in pages:
            show(page)
        text, picture = output.with_suffix(".md"), speed(stored, output.with_suffix(".png"))
        drawn = f"![]({picture.name})\n\n" if picture else ""
        text.write_text(f"# Speed\n\n{drawn}" + "\n".join(page.markdown() for page in pages), encoding="utf-8")
        for path in (text, picture):
            if path:
                click.echo(path)
    sys.exit(1 if lost else 0)
