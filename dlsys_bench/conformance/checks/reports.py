"""The figures that an engine reports of each epoch, over trainings of several epochs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.support import supported
from dlsys_bench.conformance.checks.training import plans, start
from dlsys_bench.conformance.expectation import Expectation, magnitude
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

EPOCHS = 6
RATES, DRAWS = (0.3, 0.5, 1.0, 2.0, 6.0, 20.0), 4
"""The learning rates and the number of draws of samples, of which the first are used that make the
figures rise and fall."""

STEP, SMALL = 0.01, 0.002
"""How far a figure has to rise and to fall, and its largest tolerance, relative to the largest."""

ROUNDED = 1e-5
"""The relative rounding error of a figure that is summed in single precision."""

STALE: Mapping[str, Callable[[Array], Array]] = {
    "that of the first epoch": lambda values: np.full_like(values, values[0]),
    "that of the last epoch": lambda values: np.full_like(values, values[-1]),
    "the smallest so far": np.minimum.accumulate,
    "the largest so far": np.maximum.accumulate,
    "that of the epoch before": lambda values: np.r_[values[:1], values[:-1]],
    "that of the epoch after": lambda values: np.r_[values[1:], values[-1:]],
    "the mean over the epochs so far": lambda values: (
        np.cumsum(values) / np.arange(1, len(values) + 1)
    ),
    "the sum over the epochs so far": np.cumsum,
}
"""What an engine may report in place of an epoch's own figure."""

FIGURES = ("running_loss", "running_accuracy")


def _smoothed(actual: Array, values: Array) -> tuple[str, Array]:
    """Return the exponential mean over the epochs, with the factor that suits the second epoch."""
    gap = actual[0] - values[1]
    factor = float((actual[1] - values[1]) / gap) if gap else 0.0
    found = [actual[0]]
    for value in values[1:]:
        found.append(factor * found[-1] + (1 - factor) * value)
    return f"an exponential mean over the epochs, with a factor of {factor:.2g}", np.array(found)


def requires_loss(record: type[Loss]) -> list[str]:
    """Return what an engine must have for a loss."""
    return [f"loss:{record.kind}"]


@check_each("evaluation", LOSSES, requires=requires_loss, prefix="epochs-")
def epochs(trial: Trial, record: type[Loss]) -> None:
    """The running loss and accuracy of each of six epochs, with a plan and natively, of a training
    whose figures rise and fall: they are those of the epoch alone.

    Why: Learning curves, early stopping and comparisons read these figures and trust that each is
    of its own epoch.
    Broken by: An engine that reports the best value so far, the epoch before, or a running mean
    that is never reset.
    Fix: Reset the sums at the start of each epoch, and report them when it ends.
    """
    case, expected = _rising_and_falling(trial, record.of())
    for plan in plans(trial):
        network = trial.engine.build(case.model, case.weights)
        history = train(trial.engine, network, case.samples, case.recipe, plan)
        how = "with a plan" if plan.parity else "natively"
        for name, values in expected.values.items():
            found = [getattr(epoch, name) for epoch in history]
            what = f"the {name.replace('_', ' ')} of {EPOCHS} epochs {how}"
            _compare(what, found, values, _allowed(expected, name))


def _allowed(expected: Expectation, name: str) -> float:
    """Return the tolerance of a figure, which an engine may sum in single precision."""
    return max(expected.allowed(name), ROUNDED * magnitude(expected.values[name]))


def _compare(what: str, found: Sequence[float | None], expected: Array, allowed: float) -> None:
    """Raise BrokenError unless the figures are those of the epochs, and say what they are."""
    if len(found) != len(expected) or None in found:
        raise broken(Fault.WRONG_TYPE, what, actual=str(found), expected=_listed(expected))
    actual = np.array(found, float)

    def is_near(values: Array) -> bool:
        return bool(np.abs(actual - values).max() <= allowed)

    if is_near(expected):
        return
    reports = [(text, stale(expected)) for text, stale in STALE.items()]
    texts = [t for t, values in (*reports, _smoothed(actual, expected)) if is_near(values)]
    raise broken(
        Fault.STALE_REPORT if texts else Fault.WRONG_VALUE,
        what,
        actual=_listed(actual),
        expected=_listed(expected),
        difference=float(np.abs(actual - expected).max()),
        allowed=allowed,
        diagnosis=f"each epoch reports {' or '.join(texts)}" if texts else None,
    )


def _listed(values: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _rising_and_falling(trial: Trial, loss: Loss) -> tuple[TrainingCase, Expectation]:
    """Return a training that is not shuffled, and its expected figures, each of which rises and
    falls, so that no mistake in STALE gives the same."""
    for case in _cases(trial, loss):
        with contextlib.suppress(DivergedError):
            expected = trial.expect(partial(_figures, case))
            if all(
                _rises_and_falls(values) and _allowed(expected, name) < SMALL * magnitude(values)
                for name, values in expected.values.items()
            ):
                return case, expected
    raise UnsatisfiedAssumption("no figures rise and fall")


def _figures(case: TrainingCase, oracle: Oracle) -> dict[str, Array]:
    """Return the figures of every epoch of a training, by name."""
    network = oracle.build(case.model, case.weights)
    history = train(oracle, network, case.samples, case.recipe, case.plan)
    return {
        name: np.array([getattr(epoch, name) for epoch in history], float)
        for name in FIGURES
        if getattr(history[0], name) is not None
    }


def _cases(trial: Trial, loss: Loss) -> Iterator[TrainingCase]:
    outputs = 1 if loss.targets == "signs" else 3
    layers = (Dense(4), Activation("tanh"), Dense(outputs))
    model, plan = supported(trial, Model("epochs", (3,), layers)), Plan(1, parity=True)
    for _ in range(DRAWS):
        x = trial.generator.standard_normal((11, 3))
        samples = Samples(x, strategies.targets(loss, outputs, 11, trial.generator))
        for rate in RATES:
            recipe = Recipe(SGD(rate), batch_size=4, epochs=EPOCHS, shuffle=False, loss=loss)
            recipe = supported(trial, recipe)
            yield TrainingCase(model, start(trial, model), samples, recipe, plan)


def _rises_and_falls(values: Array) -> bool:
    """Return whether values rise and fall by so much that it is not a rounding error."""
    steps = np.diff(values) / magnitude(values)
    return bool(steps.max() > STEP and steps.min() < -STEP)
