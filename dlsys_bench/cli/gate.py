"""Train and judge; and what judging can see."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dlsys_bench.cli.options import as_json, data_dir, training_options
from dlsys_bench.cli.terminal import progress, say, show
from dlsys_bench.cli.training import work_of
from dlsys_bench.errors import UserError

if TYPE_CHECKING:
    from dlsys_bench.engines.epochs import Epoch
    from dlsys_bench.runs.result import Result
    from dlsys_bench.verdicts.gate import Terms
    from dlsys_bench.verdicts.verdict import Verdict

F = TypeVar("F", bound=Callable[..., Any])

INCONCLUSIVE = {"pass": 0, "fail": 1}


def terms_options(command: F) -> F:
    """What a gate has to tell, and what it may cost."""
    chance = click.FloatRange(0, 1, min_open=True, max_open=True)
    options = (
        click.option(
            "--alpha",
            type=chance,
            default=1e-3,
            show_default=True,
            help="The chance that a healthy engine fails anywhere in this gate; shared over the arms.",
        ),
        click.option(
            "--beta",
            type=chance,
            default=1e-2,
            show_default=True,
            help="The chance that the smallest shift is not found, in each arm.",
        ),
        click.option(
            "--max-seeds",
            type=click.IntRange(min=1),
            default=12,
            show_default=True,
            help="The most runs of an arm.",
        ),
        click.option(
            "--smallest-shift",
            type=click.FloatRange(0, min_open=True),
            help="The shift to be found, in the metric's units. Default: the smallest that each arm can see.",
        ),
        click.option(
            "--side",
            type=click.Choice(["both", "drop", "rise"]),
            default="both",
            show_default=True,
            help="Which shifts fail.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("gate")
@click.argument("target", metavar="STUDY", default="regularization")
@training_options
@terms_options
@click.option("--first-seed", type=click.IntRange(min=0), default=10_000, show_default=True)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Runs at a time, in engines that allow it: numpy. Default: the cores there are.",
)
@click.option(
    "--reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The stored runs of a package.module:train.",
)
@click.option("--metric", help="Which figure of a package.module:train is judged.")
@click.option(
    "--inconclusive",
    type=click.Choice(list(INCONCLUSIVE)),
    help="What INCONCLUSIVE counts as, in place of exit code 3.",
)
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the verdicts as JUnit XML.",
)
def gate_command(
    target: str,
    engine_names: tuple[str, ...],
    device: str,
    dataset: str | None,
    data_dir: str | None,
    tier: str,
    output: Path,
    as_json: bool,
    alpha: float,
    beta: float,
    max_seeds: int,
    smallest_shift: float | None,
    side: str,
    first_seed: int,
    jobs: int | None,
    reference: Path | None,
    metric: str | None,
    inconclusive: str | None,
    junit: Path | None,
) -> None:
    """Train STUDY with as many seeds as it takes and hold each arm to its stored runs.

    STUDY may be package.module:train too, anyone's training, with --reference. Exit codes: 0 pass,
    1 fail, 2 usage or environment, 3 inconclusive.
    """
    from dlsys_bench.provenance import cores
    from dlsys_bench.report.tables import verdict_table
    from dlsys_bench.runs.store import append, check_writable, opened
    from dlsys_bench.verdicts.gate import EXIT_CODES, Terms, overall, share
    from dlsys_bench.verdicts.verdict import Outcome

    terms = Terms(alpha, beta, max_seeds, smallest_shift, side, first_seed, jobs or cores())
    check_writable(output)
    if junit is not None:
        os.close(opened(junit))

    def keep(result: Result) -> None:
        append(output, result)

    if reference is not None:
        verdicts = [_training(target, reference, metric, terms, keep)]
        each = alpha
    else:
        work = work_of(target, engine_names, device, dataset, data_dir, tier)
        each = share(len(work), alpha)
        verdicts = _arms(work, tier, terms, each, keep, quiet=as_json)
    outcome = overall([verdict.outcome for verdict in verdicts])
    gates = f"{len(verdicts)} gate{'s' * (len(verdicts) != 1)}"
    title = f"Gate: {outcome} (alpha {alpha:g} over {gates}, {each:.1e} each; beta {beta:g})"
    table = verdict_table(verdicts, title)
    if as_json:
        found = {
            "outcome": outcome,
            "alpha": alpha,
            "beta": beta,
            "verdicts": [v.to_dict() for v in verdicts],
        }
        click.echo(json.dumps(found, indent=1))
    else:
        show(table)
    _for_ci(verdicts, table.markdown(), junit, inconclusive)
    undecided = outcome is Outcome.INCONCLUSIVE and inconclusive
    sys.exit(INCONCLUSIVE[inconclusive] if undecided and inconclusive else EXIT_CODES[outcome])


def _arms(
    work: Sequence[tuple[Any, Any, Any]],
    tier: str,
    terms: Terms,
    alpha: float,
    keep: Callable[[Result], None],
    quiet: bool,
) -> list[Verdict]:
    """Judge each arm with its share of alpha, and say so as it ends."""
    from dataclasses import replace

    from dlsys_bench.runs.result import Result
    from dlsys_bench.verdicts.gate import gate
    from dlsys_bench.verdicts.verdict import Outcome

    verdicts = []
    with progress(len(work)) as advance:
        for case, engine, data in work:
            what, ran = f"{case.name} {engine.name}", list[Result]()

            def one_more(result: Result, what: str = what, ran: list[Result] = ran) -> None:
                keep(result)
                ran.append(result)
                advance(f"{what}, {len(ran)} seeds", 0)

            def watch(epoch: Epoch, what: str = what, ran: list[Result] = ran) -> None:
                advance(f"{what}, seed {len(ran) + 1}, epoch {epoch.epoch}", 0)

            verdict = gate(
                case,
                engine,
                data,
                tier=tier,
                terms=replace(terms, alpha=alpha),
                on_result=one_more,
                on_epoch=watch,
            )
            advance(what, 1)
            verdicts.append(verdict)
            if not quiet:
                say(
                    f"{verdict.outcome}: {verdict.message() if verdict.outcome != Outcome.PASS else verdict.reason}"
                )
    return verdicts


def _training(
    target: str, reference: Path, metric: str | None, terms: Terms, keep: Callable[[Result], None]
) -> Verdict:
    """Judge anyone's training by a file of its runs."""
    from dlsys_bench.runs.callables import find_train
    from dlsys_bench.runs.store import read
    from dlsys_bench.verdicts.gate import gate_training

    train = find_train(target)
    stored = [run for run in read(reference) if run.key.study == target]
    if not stored:
        raise UserError(
            f"{reference} has no runs of {target}: dlsys-bench calibrate {target} --seeds 20 makes some"
        )

    def told(seed: int) -> Any:
        # Exit codes are the gate's: what a training raises, or exits with, must not pass for a
        # verdict.
        try:
            return train(seed)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            raise UserError(
                f"training {target!r}, seed {seed}: {type(error).__name__}: {error}"
            ) from error

    verdict = gate_training(
        told, stored, metric=metric, terms=terms, source=str(reference), name=target, on_result=keep
    )
    say(f"{verdict.outcome}: {verdict.message()}")
    return verdict


def _for_ci(
    verdicts: Sequence[Verdict], markdown: str, junit: Path | None, inconclusive: str | None
) -> None:
    """What CI shows: JUnit XML where it is asked for, annotations and the summary on GitHub."""
    from dlsys_bench.report import github
    from dlsys_bench.report.junit import junit as junit_of

    found = [verdict.to_dict() for verdict in verdicts]
    if junit is not None:
        as_what = {None: "skipped", "pass": "", "fail": "failure"}[inconclusive]
        junit.write_text(junit_of(found, as_what), encoding="utf-8")
    if github.running():
        for line in github.workflow_commands(found):
            click.echo(line, err=True)
        github.summarise(markdown)


@click.command("power")
@click.argument("study", default="regularization")
@click.option(
    "--dataset",
    help="mnist, fashion_mnist, digits, ... Default: the study's own where it is at hand.",
)
@data_dir
@click.option("--tier", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@terms_options
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the table as Markdown."
)
@as_json
def power_command(
    study: str,
    dataset: str | None,
    data_dir: str | None,
    tier: str,
    alpha: float,
    beta: float,
    max_seeds: int,
    smallest_shift: float | None,
    side: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """What gates of STUDY can see, and what they cost, from the stored runs; nothing is trained."""
    from dlsys_bench.report.tables import power_table
    from dlsys_bench.verdicts.gate import Terms, share
    from dlsys_bench.verdicts.power import power

    work = work_of(study, ("numpy",), "cpu", dataset, data_dir, tier)
    each = share(len(work), alpha)
    terms = Terms(each, beta, max_seeds, smallest_shift, side)
    powers = [power(case, data, tier, terms) for case, _, data in work]
    if as_json:
        click.echo(json.dumps([one.to_dict() for one in powers], indent=1))
        return
    table = power_table(
        powers,
        f"Gates of {study}: alpha {alpha:g} over {len(work)}, beta {beta:g}, at most "
        f"{max_seeds} seeds",
    )
    if output is None:
        show(table)
        return
    try:
        output.write_text(table.markdown(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the table to {output}: {error.strerror}") from error
    click.echo(output)
