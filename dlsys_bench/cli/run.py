"""Train a study and store every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.cli.training import Advance, Work, WorkOptions, steps_of_run, work_of
from dlsys_bench.errors import EngineError, UserError, count_of
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import progress, show
from dlsys_bench.report.tables import tables
from dlsys_bench.runs.checkpoint import writable
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import FIRST_SEED, run
from dlsys_bench.runs.store import append, check_writable, read, reference_path, stored_keys
from dlsys_bench.strict_json import dumps


@dataclass(frozen=True)
class RunOptions(WorkOptions):
    """The argument and the options of `run`."""

    study: str
    seeds: int
    first_seed: int | None
    resume: bool
    reference: bool
    jobs: int
    weights: Path | None
    output: Path
    json: bool


class PlannedRun(NamedTuple):
    """One run, and the file that will keep it."""

    work: Work
    seed: int
    path: Path

    def key(self, tier: str) -> Key:
        """The key that the run will be stored under."""
        return Key.of(*self.work, tier, self.seed)


@receives(RunOptions)
def run_command(options: RunOptions) -> None:
    """Train everything that is selected, print it, and store it."""
    planned = _plan(options)
    _check(planned, options)
    results = list(_train_all(planned, options))
    for table in [] if options.json else tables(results):
        show(table)
    files = sorted({str(one.path) for one in planned}) or ["no file: every run is stored already"]
    say(f"{count_of(len(results), 'run')} written to {', '.join(files)}")


def _plan(options: RunOptions) -> list[PlannedRun]:
    """The runs to do, without those that are stored already if `resume`."""
    default = 0 if options.reference else FIRST_SEED
    start = default if options.first_seed is None else options.first_seed
    planned = [
        PlannedRun(work, seed, _file(work, options))
        for work in work_of(options.study, options)
        for seed in range(start, start + options.seeds)
    ]
    if not options.resume:
        return planned
    paths = {one.path for one in planned}
    kept = stored_keys(run for path in paths if path.exists() for run in read(path))
    return [one for one in planned if one.key(options.tier) not in kept]


def _file(work: Work, options: RunOptions) -> Path:
    if options.reference:
        return reference_path(work.case.study.name, work.data.name, options.tier)
    return options.output


def _check(planned: Sequence[PlannedRun], options: RunOptions) -> None:
    """Raise a UserError for options that do not apply, and for files that cannot be written."""
    for (case, engine, _), _, _ in planned:
        if options.weights is not None and case.study.measure is not None:
            raise UserError(
                f"study {case.study.name!r} takes measurements of its own, so that there are no "
                "weights: omit --weights"
            )
        if options.jobs > 1 and not engine.threaded:
            raise EngineError(
                f'engine "{engine.name}" trains one network at a time: '
                f"--jobs {options.jobs} is for engines that declare threaded"
            )
    for path in {one.path for one in planned}:
        check_writable(path)
    if options.weights is not None:
        writable(options.weights)


def _train_all(planned: Sequence[PlannedRun], options: RunOptions) -> Iterator[Result]:
    """Train with a progress bar; store and print each run as it ends."""
    steps = [steps_of_run(one.work.case, one.work.data, options.tier) for one in planned]
    with progress(sum(steps)) as advance:

        def train(one: PlannedRun) -> Result:
            case, engine, data = one.work
            watch = Advance(f"{case.name} {engine.label} seed {one.seed}", advance)
            result = run(
                case,
                engine,
                data,
                tier=options.tier,
                seed=one.seed,
                on_epoch=watch,
                weights=options.weights,
            )
            watch.end(result)
            return result

        for one, result in _as_completed(planned, train, options.jobs):
            append(one.path, result)
            if options.json:
                emit(dumps(result.to_dict()))
            else:
                say(_line(result))
            yield result


def _as_completed(
    planned: Sequence[PlannedRun], train: Callable[[PlannedRun], Result], jobs: int
) -> Iterator[tuple[PlannedRun, Result]]:
    """Yield each planned run with its result, in the order in which they end."""
    if jobs == 1:
        for one in planned:
            yield one, train(one)
        return
    with threadpool_limits(1), ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(train, one): one for one in planned}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            # After an error or an interrupt, runs that have not begun are cancelled; those that
            # have ended are stored already.
            pool.shutdown(cancel_futures=True)


def _line(result: Result) -> str:
    """One line about a run."""
    last, parts = result.last, []
    if result.status != "finished":
        parts.append(f"{result.status.upper()}: {result.reason};")
    if last is not None and last.test_accuracy is not None:
        parts.append(f"test accuracy {last.test_accuracy:.4f},")
    for name, value in result.figures.items():
        if isinstance(value, int | float):
            parts.append(f"{name.replace('_', ' ')} {value:.4g},")
    if result.history:
        parts.append(f"{count_of(len(result.history), 'epoch')},")
    key = result.key
    where = (f"{key.name} on {key.dataset}", key.tier, key.engine)
    return (
        f"{', '.join(where)}, seed {result.seed}: {' '.join([*parts, f'{result.seconds:.1f} s'])}"
    )
