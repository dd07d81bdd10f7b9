"""What is found out about a finding before it is reported: its probable mistake, and a snippet."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from dlsys_bench.conformance.diagnosis import diagnose
from dlsys_bench.conformance.finding import Finding, refining
from dlsys_bench.conformance.snippet import Expected, of_batch
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.spec.losses import Loss


def with_snippet(
    example: Example, expected: Expected, loss: Loss | None = None
) -> AbstractContextManager[None]:
    """Add to a finding of the block the code for the pass over the example's batch."""

    def refine(finding: Finding) -> Finding:
        code = of_batch(example.model, example.weights, example.batch, expected, loss)
        return replace(finding, snippet=code)

    return refining(refine)


def with_diagnosis(trial: Trial, training: TrainingCase) -> AbstractContextManager[None]:
    """Add to a finding of the block the mistake that explains the weights after a training."""
    seconds = 2 * trial.options.budget

    def refine(finding: Finding) -> Finding:
        return diagnose(trial.engine, trial.oracle, training, finding, seconds)

    return refining(refine)
