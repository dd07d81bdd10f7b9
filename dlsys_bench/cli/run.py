"""Train a study and keep every run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dlsys_bench.cli.options import seeds, training_options
from dlsys_bench.cli.terminal import progress, say, show
from dlsys_bench.cli.training import Advance, steps_of_run, work_of
from dlsys_bench.errors import EngineError, UserError

if TYPE_CHECKING:
    from dlsys_bench.data import Dataset
    from dlsys_bench.runs.result import Result
    from dlsys_bench.studies.base import Case

T = TypeVar("T")


def _line(result: Result) -> str:
    last = result.last
    how = (
        ""
        if last is None or last.test_accuracy is None
        else f"test accuracy {last.test_accuracy:.4f}, "
    )
    for name, value in result.figures.items():
        how += f"{name.replace('_', ' ')} {value:.4g}, " if isinstance(value, int | float) else ""
    how += f"{len(result.history)} epochs, " if result.history else ""
    state = "" if result.status == "finished" else f"{result.status.upper()}: {result.reason}; "
    return (
        f"{result.key.study}/{result.key.arm} on {result.key.dataset}, {result.key.tier}, {result.key.engine}, seed {result.seed}: "
        f"{state}{how}{result.seconds:.1f} s"
    )


def _each(work: Sequence[T], train: Callable[[T], Result], jobs: int) -> Iterator[tuple[T, Result]]:
    """Every item with its result, as they end."""
    if jobs == 1:
        for item in work:
            yield item, train(item)
        return
    from concurrent.futures import ThreadPoolExecutor, as_completed

    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(train, item): item for item in work}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            # What has not begun is dropped when one fails or the run is interrupted; what has ended
            # is stored.
            pool.shutdown(cancel_futures=True)


@click.command("run")
@click.argument("study")
@training_options
@seeds
@click.option(
    "--first-seed", type=click.IntRange(min=0), help="Default 10000; with --reference, 0."
)
@click.option("--resume", is_flag=True, help="Leave out what the file already holds.")
@click.option(
    "--reference", is_flag=True, help="Store the runs as reference runs, which bands are made of."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs at a time, each on one thread. Engines that allow it: numpy.",
)
@click.option(
    "--weights",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the trained weights.",
)
def run_command(
    study: str,
    engine_names: tuple[str, ...],
    device: str,
    dataset: str | None,
    data_dir: str | None,
    tier: str,
    seeds: int,
    output: Path,
    as_json: bool,
    first_seed: int | None,
    resume: bool,
    reference: bool,
    jobs: int,
    weights: Path | None,
) -> None:
    """Train STUDY: a study, a group, study/arm, "all", or package.module:STUDY."""
    from dlsys_bench.report.tables import tables
    from dlsys_bench.runs.checkpoint import writable
    from dlsys_bench.runs.key import Key
    from dlsys_bench.runs.run import FIRST_SEED, run
    from dlsys_bench.runs.store import append, check_writable, done, read, reference_path

    start = (0 if reference else FIRST_SEED) if first_seed is None else first_seed
    work = [
        (
            case,
            engine,
            data,
            seed,
            reference_path(case.study.name, data.name, tier) if reference else output,
        )
        for case, engine, data in work_of(study, engine_names, device, dataset, data_dir, tier)
        for seed in range(start, start + seeds)
    ]
    if resume:
        kept = done(
            run for path in {item[4] for item in work} if path.exists() for run in read(path)
        )
        work = [item for item in work if Key.of(*item[:3], tier, item[3]) not in kept]
    for case, engine, *_ in work:
        if weights is not None and case.study.measure is not None:
            raise UserError(
                f"study {case.study.name!r} measures, and keeps no weights: leave --weights out"
            )
        if jobs > 1 and not engine.threaded:
            raise EngineError(
                f'engine "{engine.name}" trains one network at a time: --jobs {jobs} is for numpy'
            )
    for path in {item[4] for item in work}:
        check_writable(path)
    if weights is not None:
        writable(weights)
    results: list[Result] = []
    with progress(sum(steps_of_run(case, data, tier) for case, _, data, _, _ in work)) as advance:

        def train(item: tuple[Case, Any, Dataset, int, Path]) -> Result:
            case, engine, data, seed, _ = item
            watch = Advance(f"{case.name} {engine.name} seed {seed}", advance)
            result = run(case, engine, data, tier=tier, seed=seed, on_epoch=watch, weights=weights)
            watch.end(result)
            return result

        for (*_, path), result in _each(work, train, jobs):
            append(path, result)
            results.append(result)
            if as_json:
                click.echo(json.dumps(result.to_dict()))
            else:
                say(_line(result))
    for table in [] if as_json else tables(results):
        show(table)
    where = sorted({str(item[4]) for item in work}) or ["nowhere: none was left"]
    say(f"{len(results)} runs written to {', '.join(where)}")
