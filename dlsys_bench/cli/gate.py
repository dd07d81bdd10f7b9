"""Train until each arm passes or fails."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from dlsys_bench.cli.page import check_page, write
from dlsys_bench.cli.reference import is_training, reference_of_training
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.cli.training import TermsOptions, Work, WorkOptions, work_of
from dlsys_bench.cli.training_gate import (
    check_metrics,
    judge_training,
    value_of_metric,
)
from dlsys_bench.engines.history import Epoch
from dlsys_bench.errors import count_of
from dlsys_bench.options.command import receives
from dlsys_bench.provenance import cores
from dlsys_bench.report import github
from dlsys_bench.report.display import PAGE, columns, latest_figures, progress, show
from dlsys_bench.report.html.verdicts import verdict_sections
from dlsys_bench.report.junit import junit
from dlsys_bench.report.tables import verdict_table
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import append, check_text_writable, check_writable
from dlsys_bench.strict_json import dumps
from dlsys_bench.studies.registry import default_target
from dlsys_bench.text import fold
from dlsys_bench.verdicts.evidence import EvidenceVerdict
from dlsys_bench.verdicts.evidence_session import EvidenceSession, lines_of
from dlsys_bench.verdicts.gate import EXIT_CODES, Terms, check_terms, gate, overall, share
from dlsys_bench.verdicts.session import SessionVerdict, judge_sessions
from dlsys_bench.verdicts.verdict import Outcome, Verdict

INCONCLUSIVE = {"pass": 0, "fail": 1}
JUNIT = {None: "error", "pass": "", "fail": "failure"}


@dataclass(frozen=True)
class GateOptions(WorkOptions, TermsOptions):
    """The argument and the options of `gate`."""

    target: str | None
    first_seed: int
    jobs: int | None
    reference: Path | None
    metrics: tuple[str, ...]
    smallest_shift: tuple[str, ...]
    better: tuple[str, ...]
    inconclusive: str | None
    evidence: Path | None
    run_number: int | None
    commit: str | None
    junit: Path | None
    html: Path | None
    output: Path
    json: bool

    def terms(self, alpha: float, metric: str = "") -> Terms:
        """The terms of the gate of a metric, with its share of the false-alarm rate."""
        shift = value_of_metric(self.smallest_shift, metric)
        return Terms(
            alpha,
            self.beta,
            self.max_seeds,
            None if shift is None else float(shift),
            self.side,
            self.session.first_seed(self.first_seed, self.max_seeds),
            self.jobs or cores(),
        )

    @property
    def session(self) -> EvidenceSession:
        """The session in the evidence of all sessions."""
        return EvidenceSession(self.evidence, self.run_number, self.commit)

    def keep(self, result: Result) -> None:
        """Store a run."""
        append(self.output, result)


@receives(GateOptions)
def gate_command(options: GateOptions) -> None:
    """Judge each arm, print the verdicts, and exit with the code of the worst."""
    target = options.target or default_target(group=True)
    check_writable(options.output)
    if options.junit is not None:
        check_text_writable(options.junit)
    options.session.check()
    check_page(options.html)
    reference = options.reference
    if reference is None and is_training(target):
        reference = reference_of_training(target)
    if reference is not None:
        each = share(max(1, len(options.metrics)), options.alpha)
        verdicts = judge_training(target, reference, options, each)
    else:
        check_metrics(("",), options.smallest_shift, "--smallest-shift")
        work = work_of(target, options)
        each = share(len(work), options.alpha)
        verdicts = _judge_arms(work, options, each)
    strata = [(verdict.key, verdict.stratum) for verdict in verdicts if verdict.stratum]
    sessions = judge_sessions(strata, options.alpha, options.beta)
    outcome = overall([verdict.outcome for verdict in verdicts])
    if any(session.outcome is Outcome.FAIL for session in sessions):
        outcome = Outcome.FAIL
    judged = [(one.key, one.metric, one.seeds, one.runs) for one in verdicts if one.runs]
    evidence = options.session.add(judged)
    if any(one.alarm for one in evidence):
        outcome = Outcome.FAIL
    _print(verdicts, sessions, evidence, outcome, options, each)
    if options.html is not None:
        sections = verdict_sections(verdicts, sessions, options.alpha, options.beta)
        messages = [one.message() for one in evidence]
        summary = (f"{count_of(len(verdicts), 'gate')} of {target}.", *messages)
        write(options.html, f"Gate of {target}", outcome.value, summary, sections)
    if outcome is Outcome.INCONCLUSIVE and options.inconclusive:
        sys.exit(INCONCLUSIVE[options.inconclusive])
    sys.exit(EXIT_CODES[outcome])


def _print(
    verdicts: Sequence[Verdict],
    sessions: Sequence[SessionVerdict],
    evidence: Sequence[EvidenceVerdict],
    outcome: Outcome,
    options: GateOptions,
    each: float,
) -> None:
    gates = count_of(len(verdicts), "gate")
    rates = f"alpha {options.alpha:g} over {gates}, {each:.1e} each; beta {options.beta:g}"
    table = verdict_table(verdicts, f"Gate: {outcome} ({rates})")
    if options.json:
        found = {
            "outcome": outcome,
            "alpha": options.alpha,
            "beta": options.beta,
            "verdicts": [verdict.to_dict() for verdict in verdicts],
            "sessions": [session.to_dict() for session in sessions],
            "evidence": [one.to_dict() for one in evidence],
        }
        emit(dumps(found, indent=1))
    else:
        show(table, PAGE)
    remarks = [f"{session.outcome}: {session.message()}" for session in sessions]
    for line in (*remarks, *lines_of(evidence)):
        say(fold(line, columns()))
    _write_for_ci(verdicts, table.markdown(), options)


def _judge_arms(work: Sequence[Work], options: GateOptions, alpha: float) -> list[Verdict]:
    """Judge each arm with its share of alpha, and print each verdict as it is known.

    Raises UserError before anything is trained if a gate cannot detect the requested shift.
    """
    terms = replace(options.terms(alpha), together=len(work) > 1)
    for case, _, data in work:
        check_terms(case, data, options.tier, terms)
    verdicts = []
    with progress(len(work), "gates") as advance:
        for case, engine, data in work:
            arm, ran = f"{case.name} {engine.label}", list[Result]()

            def on_result(result: Result, arm: str = arm, ran: list[Result] = ran) -> None:
                options.keep(result)
                ran.append(result)
                advance(f"{arm}, {count_of(len(ran), 'seed')}: {latest_figures(result)}", 0)

            def on_epoch(epoch: Epoch, arm: str = arm, ran: list[Result] = ran) -> None:
                advance(f"{arm}, seed {len(ran) + 1}, epoch {epoch.epoch}", 0)

            verdict = gate(
                case,
                engine,
                data,
                tier=options.tier,
                terms=terms,
                on_result=on_result,
                on_epoch=on_epoch,
            )
            advance(arm, 1)
            verdicts.append(verdict)
            if not options.json:
                say(verdict.message(columns()))
    return verdicts


def _write_for_ci(verdicts: Sequence[Verdict], markdown: str, options: GateOptions) -> None:
    """Write JUnit XML if it is requested; on GitHub, annotations and the job summary."""
    found = [verdict.to_dict() for verdict in verdicts]
    if options.junit is not None:
        options.junit.write_text(junit(found, JUNIT[options.inconclusive]), encoding="utf-8")
    if github.running():
        for line in github.workflow_commands(found):
            click.echo(line, err=True)
        github.summarise(markdown)
