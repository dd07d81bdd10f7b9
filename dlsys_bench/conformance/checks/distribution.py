"""Native trainings against the reference runs: whether they reach the same accuracies."""

from __future__ import annotations

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.errors import NotApplicableError, UserError
from dlsys_bench.runs.run import choose_dataset
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import NO_STUDY, studies
from dlsys_bench.verdicts.gate import Terms, gate
from dlsys_bench.verdicts.verdict import Outcome

ALPHA = 1e-5
"""The false-alarm rate of each of these checks."""
NO_ARM = "no registered study declares an arm for the statistical checks"


def subjects() -> dict[str, Case | str]:
    """Return the arms that registered studies declare, or the reason why there are none."""
    try:
        found = sorted(studies().values(), key=lambda study: study.short_name)
    except UserError as error:
        return {"reference-runs": str(error)}
    return {
        f"{study.short_name}/{name}": Case(study, study.arm(name))
        for study in found
        for name in study.distribution_checks
    } or {"reference-runs": NO_ARM if found else NO_STUDY}


@check_each("distribution", subjects(), dtype="")
def distribution(trial: Trial, case: Case | str) -> None:
    """Trainings on scanned digits, with other seeds than the reference runs, until the gate of
    their accuracies decides. They take long, so they run in the engine's default dtype alone.

    Why: Everything else can be right and an accuracy still be off, because a mistake only shows
    over many updates.
    Broken by: An engine whose native shuffling or dropout is slightly wrong in a way that no other
    check knows.
    Fix: Compare the trainings with a plan first (`trajectory`); if they agree, the mistake is in
    what the engine draws.
    """
    if isinstance(case, str):
        raise NotApplicableError(case)
    data, _ = choose_dataset(case, "digits", None)
    recipe = case.arm.recipes["quick"]
    trial.engine.require(case.arm.model, recipe.loss, recipe)
    terms = Terms(alpha=ALPHA, first_seed=10_000 + 100 * trial.seed)
    verdict = gate(case, trial.engine.engine, data, tier="quick", terms=terms)
    if verdict.outcome is Outcome.FAIL:
        what = f"the accuracies differ in distribution from the reference runs: {verdict.reason}"
        raise broken(Fault.WRONG_DISTRIBUTION, what)
