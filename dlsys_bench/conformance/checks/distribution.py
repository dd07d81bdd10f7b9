"""Native trainings against the reference runs: whether they reach the same accuracies."""

from __future__ import annotations

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.runs.run import choose_dataset
from dlsys_bench.studies.registry import find
from dlsys_bench.verdicts.gate import Terms, gate
from dlsys_bench.verdicts.verdict import Outcome

ARMS = ("fashion-mlp/bn+dropout", "lenet5-tanh/standard+bn")
"""Arms of the study of regularisation, which have reference runs on scanned digits."""

ALPHA = 1e-5
"""The false-alarm rate of each of these checks."""


@check_each("distribution", {arm: arm for arm in ARMS}, dtype="float32")
def distribution(trial: Trial, arm: str) -> None:
    """Trainings on scanned digits, with other seeds than the reference runs, until the gate of
    their accuracies decides."""
    (case,) = find(f"regularization/{arm}")
    data, _ = choose_dataset(case, "digits", None)
    recipe = case.arm.recipes["quick"]
    trial.engine.require(case.arm.model, recipe.loss, recipe)
    terms = Terms(alpha=ALPHA, first_seed=10_000 + 100 * trial.seed)
    verdict = gate(case, trial.engine.engine, data, tier="quick", terms=terms)
    if verdict.outcome is Outcome.FAIL:
        what = f"the accuracies differ in distribution from the reference runs: {verdict.reason}"
        raise broken(Fault.WRONG_DISTRIBUTION, what)
