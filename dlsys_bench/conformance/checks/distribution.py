"""What the other rungs cannot see: whether trainings of the engine's own reach the accuracies of
the stored runs."""

from __future__ import annotations

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.finding import broken

ARMS = ("fashion-mlp/bn+dropout", "lenet5-tanh/standard+bn")
ALPHA = 1e-5
"""The chance that a right engine fails one of these."""


@check("distribution", *ARMS)
def distribution(trial: Trial, subject: str) -> None:
    """Trainings on scanned digits, with other seeds than the stored runs': as many as it takes."""
    from dlsys_bench.runs.run import choose_dataset
    from dlsys_bench.studies.registry import find
    from dlsys_bench.verdicts.gate import Terms, gate
    from dlsys_bench.verdicts.verdict import Outcome

    (case,) = find(f"regularization/{subject}")
    data, _ = choose_dataset(case, "digits", None)
    watched = trial.at("float32")
    watched.able(case.arm.model, case.arm.recipes["quick"].loss, case.arm.recipes["quick"])
    terms = Terms(alpha=ALPHA, first_seed=10_000 + 100 * trial.seed)
    verdict = gate(case, watched.engine, data, tier="quick", terms=terms)
    if verdict.outcome is Outcome.FAIL:
        raise broken(f"accuracies are of another law: {verdict.reason}")
