"""The command line. Exit codes: 0 all passed, 1 a band failed, 2 usage or environment, 3 inconclusive."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dlsys_bench.errors import UserError, nearest

if TYPE_CHECKING:
    from dlsys_bench.data import Dataset
    from dlsys_bench.engines import Engine
    from dlsys_bench.report.tables import Table
    from dlsys_bench.result import Epoch, Result
    from dlsys_bench.studies import Case

RUNS = Path("reports/runs.jsonl")
INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
data_dir = click.option(
    "--data-dir", envvar="DLSYS_BENCH_DATA", help="Folder with the datasets' files, instead of the cache."
)


def training_options(command: F) -> F:
    """What every command that trains takes."""
    options = (
        click.option("--engine", "engine_names", multiple=True, default=("numpy",), envvar="DLSYS_BENCH_ENGINE",
                     show_default=True, help="numpy, torch, keras, keras-jax, or package.module:Class; repeatable."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--dataset", help="mnist, fashion_mnist, digits, a .npz file, or package.module:callable. "
                     "Default: the study's own where it is at hand, else digits."),
        data_dir,
        click.option("--tier", type=click.Choice(["quick", "full"]), default="quick", show_default=True),
        click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of each arm."),
        click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=RUNS, show_default=True,
                     help="File of runs, one JSON line each, written as they end."),
        as_json,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dlsys-bench", prog_name="dlsys-bench")
def cli() -> None:
    """Does a deep-learning stack train right, reach its accuracy, and how fast?"""


def show(table: Table) -> None:
    """A table on the terminal, as wide as it needs where nobody looks."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table.rich())


def say(line: str) -> None:
    """A remark beside the results, on stderr."""
    click.echo(line, err=True)


def _listing(what: str) -> list[dict[str, Any]]:
    if what == "studies":
        from dlsys_bench.studies import STUDIES

        return [
            {"study": s.name, "arms": ", ".join(a.name for a in s.arms), "dataset": s.dataset, "source": s.source,
             "title": s.title}
            for s in STUDIES.values()
        ]  # fmt: skip
    if what == "models":
        from dlsys_bench.spec.zoo import MODELS

        return [{"model": m.name, "layers": len(m.layers), "input": str(m.input_shape), "parameters": m.counts.total}
                for m in MODELS.values()]  # fmt: skip
    if what == "engines":
        from dlsys_bench.engines import engines, unavailable

        return [{"engine": name, "state": unavailable(name) or "available"} for name in engines()]
    if what == "datasets":
        from dlsys_bench.data import DATASETS, at_hand

        return [
            {"dataset": name, "title": source.title, "licence": source.licence,
             "state": "at hand" if at_hand(name) else f"dlsys-bench data fetch {name}"}
            for name, source in DATASETS.items()
        ]  # fmt: skip
    from dlsys_bench.claims import claims

    return [
        {"claim": c["id"], "kind": c["kind"], "value": c.get("value", c.get("text", "")),
         "sound": "" if c.get("sound", True) else "unsound", "caveat": c.get("caveat") or ""}
        for c in claims()
    ]  # fmt: skip


LISTS = ("studies", "models", "engines", "datasets", "claims")


@cli.command("list")
@click.argument("what", type=click.Choice([*LISTS, "all"]), default="all")
@as_json
def list_command(what: str, as_json: bool) -> None:
    """What there is: studies, models, engines, datasets, claims."""
    from dlsys_bench.report.tables import Table

    chosen = {name: _listing(name) for name in (LISTS[:-1] if what == "all" and not as_json else LISTS)
              if what in ("all", name)}  # fmt: skip
    if as_json:
        click.echo(json.dumps(chosen if what == "all" else chosen[what], indent=1))
        return
    for name, records in chosen.items():
        heads = tuple(f">{k}" if isinstance(v, int | float) else k for k, v in records[0].items())
        show(Table(f"{name} ({len(records)})", heads, [tuple(str(v) for v in record.values()) for record in records]))


@cli.command()
@click.argument("model")
@as_json
def summary(model: str, as_json: bool) -> None:
    """The layers, shapes and parameters of MODEL: a name (see `list models`), a .json file, or package.module:MODEL."""
    from dlsys_bench.report.tables import summary_table
    from dlsys_bench.spec.model import Model
    from dlsys_bench.spec.record import from_dict
    from dlsys_bench.spec.zoo import MODELS
    from dlsys_bench.studies import load_attribute

    found: object = MODELS.get(model)
    if found is None and model.endswith(".json"):
        try:
            found = from_dict(json.loads(Path(model).read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"model file {model!r} cannot be read: {error}") from error
    elif found is None and ":" in model:
        found = load_attribute(model, "model")
    if not isinstance(found, Model):
        raise UserError(f"unknown model {model!r}{nearest(model, MODELS)}; `dlsys-bench list models` shows them")
    if as_json:
        counts = {f"params_{name}": value for name, value in found.counts._asdict().items()}
        click.echo(json.dumps(found.to_dict() | counts, indent=1))
    else:
        show(summary_table(found))


@cli.group()
def data() -> None:
    """Bring the datasets, or check them."""


@data.command()
@click.argument("names", nargs=-1)
def fetch(names: tuple[str, ...]) -> None:
    """Download NAMES (default: all) from public mirrors into the cache, checked by SHA-256."""
    from dlsys_bench.data import DATASETS
    from dlsys_bench.data import fetch as fetch_files

    for name in names or DATASETS:
        for path in fetch_files(name):
            click.echo(f"{name}: {path}")


@data.command()
@click.argument("names", nargs=-1)
@data_dir
@as_json
def verify(names: tuple[str, ...], data_dir: str | None, as_json: bool) -> None:
    """Compare the files of NAMES (default: all) with their SHA-256. Exit code 2 if one is wrong or missing."""
    from dataclasses import asdict

    from dlsys_bench.data import DATASETS
    from dlsys_bench.data import verify as verify_files

    reports = {name: verify_files(name, data_dir) for name in names or DATASETS}
    if as_json:
        click.echo(json.dumps({k: [asdict(report) for report in v] for k, v in reports.items()}, indent=1, default=str))
    else:
        for name, files in reports.items():
            for report in files:
                click.echo(f"{name}: {report.file}: {report.state}")
    if any(report.state != "ok" for files in reports.values() for report in files):
        sys.exit(2)


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar with the time left, where somebody looks. The context's value is called with what runs and its steps."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps, left:"))
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda what, steps: bar.update(task, description=what, advance=steps)


def _work(
    study: str, engine_names: tuple[str, ...], device: str, dataset: str | None, data_dir: str | None, tier: str
) -> list[tuple[Case, Any, Dataset]]:
    """Every (case, engine, dataset) to be run. All that can be wrong is found here, before anything is trained."""
    from dlsys_bench.engines import create
    from dlsys_bench.run import choose_dataset, fitted
    from dlsys_bench.studies import find

    cases = find(study)
    engines = [create(name, device) for name in engine_names]
    chosen, said = [], set()
    for case in cases:
        data, note = choose_dataset(case, dataset, data_dir)
        if note and note not in said:
            say(note)
            said.add(note)
        chosen.append((case, data))
    work = [(case, engine, data) for engine in engines for case, data in chosen]
    for item in work:
        fitted(*item, tier)
    return work


def _steps(case: Case, data: Dataset, tier: str) -> int:
    from dlsys_bench.plan import Plan, steps_of

    recipe = case.arm.recipe(tier)
    return steps_of(int(len(data.x_train) * (1 - recipe.validation_split)), recipe, Plan(0))


class _Advance:
    """Turns the epochs of one run after another into advances of the bar."""

    def __init__(self, what: str, advance: Callable[[str, int], None]) -> None:
        self.what, self.advance, self.done = what, advance, 0
        advance(what, 0)

    def __call__(self, epoch: Epoch) -> None:
        if epoch.epoch == 1:
            self.done = 0
        self.advance(self.what, epoch.steps - self.done)
        self.done = epoch.steps


def _line(result: Result) -> str:
    last = result.last
    how = "" if last is None or last.test_accuracy is None else f"test accuracy {last.test_accuracy:.4f}, "
    state = "" if result.status == "finished" else f"{result.status.upper()}: {result.reason}; "
    return (
        f"{result.study}/{result.arm} on {result.dataset}, {result.tier}, {result.engine}, seed {result.seed}: "
        f"{state}{how}{len(result.history)} epochs, {result.seconds:.1f} s"
    )


@cli.command("run")
@click.argument("study")
@training_options
@click.option("--first-seed", type=click.IntRange(min=0), help="Default 10000; with --reference, 0.")
@click.option("--resume", is_flag=True, help="Leave out what the file already holds.")
@click.option("--reference", is_flag=True, help="Store the runs as reference runs, which bands are made of.")
@click.option("--weights", type=click.Path(file_okay=False, path_type=Path), help="Folder for the trained weights.")
def run_command(
    study: str, engine_names: tuple[str, ...], device: str, dataset: str | None, data_dir: str | None, tier: str,
    seeds: int, output: Path, as_json: bool, first_seed: int | None, resume: bool, reference: bool,
    weights: Path | None,
) -> None:  # fmt: skip
    """Train STUDY: a study, a group, study/arm, "all", or package.module:STUDY."""
    from dlsys_bench.checkpoint import writable
    from dlsys_bench.report.tables import results_table
    from dlsys_bench.run import FIRST_SEED, run
    from dlsys_bench.store import append, done, opened, read, reference_path

    start = (0 if reference else FIRST_SEED) if first_seed is None else first_seed
    work = [
        (case, engine, data, seed, reference_path(case.study.name, data.name, tier) if reference else output)
        for case, engine, data in _work(study, engine_names, device, dataset, data_dir, tier)
        for seed in range(start, start + seeds)
    ]
    if resume:
        kept = done(run for path in {item[4] for item in work} if path.exists() for run in read(path))

        def key(case: Case, engine: Engine, data: Dataset, seed: int) -> tuple[str | int, ...]:
            names = case.study.name, case.arm.name, data.name, tier, engine.name, engine.device
            return *names, seed, case.arm.protocol(tier)

        work = [item for item in work if key(*item[:4]) not in kept]
    for path in {item[4] for item in work}:
        os.close(opened(path))
    if weights is not None:
        writable(weights)
    results: list[Result] = []
    with progress(sum(_steps(case, data, tier) for case, _, data, _, _ in work)) as advance:
        for case, engine, data, seed, path in work:
            watch = _Advance(f"{case.name} {engine.name} seed {seed}", advance)
            result = run(case, engine, data, tier=tier, seed=seed, on_epoch=watch, weights=weights)
            append(path, result)
            results.append(result)
            if as_json:
                click.echo(json.dumps(result.to_dict()))
            else:
                say(_line(result))
    if results and not as_json:
        show(results_table(results))
    where = sorted({str(item[4]) for item in work}) or ["nowhere: none was left"]
    say(f"{len(results)} runs written to {', '.join(where)}")


@cli.command("gate")
@click.argument("study", default="regularization")
@training_options
@click.option("--first-seed", type=click.IntRange(min=0), default=10_000, show_default=True)
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=1e-3, show_default=True,
              help="The chance that a healthy engine fails anywhere in this gate; shared over the arms.")  # fmt: skip
def gate_command(
    study: str, engine_names: tuple[str, ...], device: str, dataset: str | None, data_dir: str | None, tier: str,
    seeds: int, output: Path, as_json: bool, first_seed: int, alpha: float,
) -> None:  # fmt: skip
    """Train STUDY and hold each arm to its band. Exit codes: 0 pass, 1 fail, 2 usage or environment, 3 inconclusive."""
    from dlsys_bench.report.tables import verdict_table
    from dlsys_bench.store import append, opened
    from dlsys_bench.verdict.bands import Outcome
    from dlsys_bench.verdict.gate import EXIT_CODES, gate, overall, share

    work = _work(study, engine_names, device, dataset, data_dir, tier)
    each = share(len(work), alpha)
    os.close(opened(output))
    verdicts = []
    with progress(sum(_steps(case, data, tier) for case, _, data in work) * seeds) as advance:
        for case, engine, data in work:
            verdict = gate(
                case, engine, data, tier=tier, seeds=seeds, alpha=each, first_seed=first_seed,
                on_result=lambda result: append(output, result),
                on_epoch=_Advance(f"{case.name} {engine.name}", advance),
            )  # fmt: skip
            verdicts.append(verdict)
            if not as_json:
                say(f"{verdict.outcome}: {verdict.message() if verdict.outcome != Outcome.PASS else verdict.reason}")
    outcome = overall([verdict.outcome for verdict in verdicts])
    if as_json:
        click.echo(
            json.dumps({"outcome": outcome, "alpha": alpha, "verdicts": [v.to_dict() for v in verdicts]}, indent=1)
        )
    else:
        show(verdict_table(verdicts, f"Gate: {outcome} (alpha {alpha:g} over {len(work)} arms, {each:.1e} each)"))
    sys.exit(EXIT_CODES[outcome])


@cli.command()
@click.argument("runs", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("reports"), show_default=True)
@as_json
def report(runs: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Tables and curves of stored RUNS (default: reports/runs.jsonl): the terminal, report.md and PNG files."""
    from dlsys_bench.report import page
    from dlsys_bench.report.tables import results_table
    from dlsys_bench.store import read

    results = [run for path in runs or (RUNS,) for run in read(path)]
    if not results:
        raise UserError(
            f"no runs in {', '.join(map(str, runs or (RUNS,)))}: `dlsys-bench run regularization` makes some"
        )
    if as_json:
        click.echo(json.dumps([result.to_dict() for result in results]))
        return
    show(results_table(results))
    try:
        written = page.write(results, output)
    except OSError as error:
        raise UserError(f"cannot write the report to {output}: {error.strerror}") from error
    for path in written:
        click.echo(path)


def main() -> None:
    """Run the command line; what a person can mend is one line on stderr and exit code 2."""
    # package.module:attribute names what lies in the folder that a person works in, as `python -m` would find it.
    sys.path.insert(0, "")
    try:
        cli.main(standalone_mode=False)
    except UserError as error:
        say(f"dlsys-bench: {error}")
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        say("dlsys-bench: interrupted; every run that had finished is kept")
        sys.exit(INTERRUPTED)
