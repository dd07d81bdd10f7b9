"""The diagnosis of findings: mistakes that are named, and snippets that need no engine."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import mistaken
import numpy as np
import pytest
from mutants.detection import runner

from dlsys_bench import check_engine
from dlsys_bench.conformance.diagnosis import Hypothesis, diagnose, hypotheses, repeat
from dlsys_bench.conformance.finding import BrokenError, Fault, Finding, constant_ratio, refining
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.strategies import nonzero_weights
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Options
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import UpdateStep
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

# The count ends a search and a diagnosis, not the time, so that a slow machine finds the same.
FEW = Options(examples=4, budget=60.0, shrink=0.0)


def finding_of(engine: str, check: str) -> Finding:
    """Return the finding of a check of a mistaken engine."""
    (result,) = check_engine(getattr(mistaken, engine), "collect", checks=[check], options=FEW)
    assert result.finding is not None
    return result.finding


@pytest.mark.parametrize(
    ("engine", "check", "fault", "diagnosis"),
    [
        (
            "ForgetsRows",
            "trajectory/shuffling",
            Fault.STUCK,
            "rows 512 to 599 of dense_1.kernel cannot move",
        ),
        ("HalfRate", "step/sgd", Fault.CONSTANT_RATIO, "every update is 0.5 times the expected"),
        ("HalfRate", "step/adam", Fault.CONSTANT_RATIO, "every update is 0.5 times the expected"),
        ("HalfRate", "trajectory/order", Fault.CONSTANT_RATIO, "every update is 0.5 times"),
        ("SeedZeroIsNone", "trajectory/order", Fault.SEED_ZERO, "seed 0 is treated as no seed"),
        ("StopsEarly", "schedule/steps", Fault.WRONG_STOP, "ends after 4 of 5 updates"),
        ("BestSoFar", "evaluation/epochs-hinge", Fault.STALE_REPORT, "the smallest so far"),
        ("EpochBefore", "evaluation/epochs-hinge", Fault.STALE_REPORT, "the epoch before"),
        ("FirstEpoch", "evaluation/epochs-hinge", Fault.STALE_REPORT, "the first epoch"),
        ("MeanOfEpochs", "evaluation/epochs-hinge", Fault.STALE_REPORT, "the mean over the epochs"),
        ("Smoothed", "evaluation/epochs-hinge", Fault.STALE_REPORT, "with a factor of 0.7"),
    ],
)
def test_a_mistake_is_named(engine: str, check: str, fault: Fault, diagnosis: str) -> None:
    finding = finding_of(engine, check)
    assert finding.diagnosis is not None
    assert diagnosis in finding.diagnosis
    assert finding.fault is fault
    assert finding.summary.startswith(finding.diagnosis)


@pytest.mark.rotates("named mistakes of mutants", 4)
@pytest.mark.parametrize(
    ("mutant", "check", "fault", "diagnosis"),
    [
        (
            "last_batch_skipped",
            "schedule/triangular",
            Fault.PARTIAL_BATCH,
            "of 3 samples, is dropped",
        ),
        (
            "last_batch_weighs_as_a_whole_one",
            "schedule/triangular",
            Fault.PARTIAL_BATCH,
            "averaged over 4 samples",
        ),
        (
            "rate_a_step_early",
            "schedule/triangular",
            Fault.WRONG_RATE,
            "the learning rate of the step after",
        ),
        (
            "rate_once_an_epoch",
            "schedule/triangular",
            Fault.WRONG_RATE,
            "changes only once an epoch",
        ),
        ("schedule_ignored", "schedule/triangular", Fault.WRONG_RATE, "the schedule is ignored"),
        (
            "plan_steps_ignored",
            "schedule/steps-of-the-plan",
            Fault.WRONG_STOP,
            "makes 4 updates too many, after 5",
        ),
        ("order_of_the_first_epoch", "trajectory/mlp", Fault.WRONG_ORDER, "the order of the first"),
        (
            "optimizer_remembers_the_last_fit",
            "state/optimizer",
            Fault.STALE_STATE,
            "the optimiser of the first",
        ),
        (
            "drawn_with_replacement",
            "trajectory/order",
            Fault.WRONG_DISTRIBUTION,
            "drawn with replacement",
        ),
        ("stale_gradient", "step/sgd", Fault.WRONG_VALUE, "the first update does not move"),
    ],
)
def test_the_mistake_of_a_mutant_is_named(
    mutant: str, check: str, fault: Fault, diagnosis: str
) -> None:
    finding = runner(mutant, FEW).run(check).finding
    assert finding is not None
    assert diagnosis in str(finding.diagnosis)
    assert finding.fault is fault


class Altered(Oracle):
    """An engine that makes other updates than those of the training."""

    def __init__(self, updates: list[UpdateStep], case: TrainingCase) -> None:
        super().__init__()
        self.updates, self.case = updates, case

    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Generator[Epoch]:
        found = repeat(Oracle(), self.case, self.updates[: plan.steps])
        assert found is not None
        net.tensors = found
        yield Epoch(1, 1, 0.0, 1.0)


def a_training() -> TrainingCase:
    """Return a training of three epochs, each with a smaller last batch and its own order."""
    generator = np.random.default_rng(3)
    model = Model("small", (3,), (Dense(4), Activation("tanh"), Dense(2)))
    samples = Samples(generator.standard_normal((11, 3)), generator.standard_normal((11, 2)))
    schedule = LearningRateRamp(0.02, 0.2, 9)
    recipe = Recipe(
        SGD(0.05, 0.9), batch_size=4, epochs=3, loss=MeanSquaredError(), schedule=schedule
    )
    weights = nonzero_weights(model, 3)
    return TrainingCase(model, weights, samples, recipe, Plan(3, parity=True))


CASE = a_training()


@pytest.mark.parametrize("hypothesis", [*hypotheses(CASE)], ids=lambda hypothesis: hypothesis.text)
def test_every_hypothesis_is_recognised(hypothesis: Hypothesis) -> None:
    engine: Any = Altered(hypothesis.updates, CASE)
    finding = Finding("x", Fault.WRONG_VALUE, allowed=1e-9)
    found = diagnose(engine, Oracle(), CASE, finding, seconds=30.0)
    assert found.diagnosis is not None
    if not hypothesis.updates:
        assert found.fault is Fault.STUCK
    elif found.diagnosis != hypothesis.text:
        # One mistake may have two names: without its last update, a training ends early.
        assert found.fault in (Fault.WRONG_STOP, Fault.PARTIAL_BATCH)


@pytest.mark.parametrize("check", ["trajectory/again-sgd", "state/mode"])
def test_a_prediction_by_earlier_weights_is_found_natively(check: str) -> None:
    assert "by the weights that it left" in finding_of("CachedPredictions", check).what


def test_a_snippet_runs_without_an_engine() -> None:
    finding = finding_of("HalfRate", "step/sgd")
    assert finding.snippet is not None
    names: dict[str, object] = {}
    exec(finding.snippet, names)
    weights, expected = names["weights"], names["expected"]
    assert isinstance(weights, dict)
    assert isinstance(expected, dict)
    assert set(expected) == {finding.tensor} <= set(weights)
    assert np.asarray(names["x"]).shape == (6, 3)


@pytest.mark.parametrize(
    ("actual", "expected", "ratio"),
    [
        ([0.5, -1.0], [1.0, -2.0], 0.5),
        ([0.0, 0.0], [1.0, -2.0], 0.0),
        ([0.5, -1.1], [1.0, -2.0], None),
        ([0.5], [1.0], None),
        ([1e-9, 0.0], [1e-9, 1e-12], None),
    ],
)
def test_a_constant_ratio(actual: list[float], expected: list[float], ratio: float | None) -> None:
    assert constant_ratio(actual, expected, 1e-6) == (
        None if ratio is None else pytest.approx(ratio)
    )


def test_a_refinement_that_fails_leaves_the_finding_as_it_is() -> None:
    def fails(finding: Finding) -> Finding:
        raise ZeroDivisionError

    with pytest.raises(BrokenError) as raised, refining(fails):
        raise BrokenError(Finding("x"))
    assert raised.value.on("example").refined() == Finding("x", example="example")
