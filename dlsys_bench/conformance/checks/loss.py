"""The value of every loss and its gradient with respect to the outputs, also for large outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.directions import compare_slopes
from dlsys_bench.conformance.checks.loss_subjects import (
    IGNORING,
    LOSS_SUBJECTS,
    LossSubject,
    in_conventions,
    requires_loss,
)
from dlsys_bench.conformance.checks.support import has, supported
from dlsys_bench.conformance.drawing import describe
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Array, Weights
from dlsys_bench.spec.layers import Dense, Shape
from dlsys_bench.spec.losses import LOSSES, CrossEntropy, Loss
from dlsys_bench.spec.model import Model


class LossCase(NamedTuple):
    """A loss and the outputs on which it is compared: their number, their scale and a seed."""

    loss: Loss
    outputs: Shape
    samples: int
    scale: float
    seed: int

    def __str__(self) -> str:
        shape = f"outputs {(self.samples, *self.outputs)}"
        return f"{describe(self.loss)} of {shape} of deviation {self.scale:g}, seed {self.seed}"


def _cases(
    trial: Trial,
    subject: LossSubject,
    widths: st.SearchStrategy[int],
    samples: st.SearchStrategy[int],
) -> st.SearchStrategy[LossCase]:
    return st.builds(
        LossCase,
        subject.losses(trial),
        widths.map(subject.outputs),
        samples,
        st.sampled_from([1.0, 30.0, 1000.0]),
        st.integers(0, 2**16),
    )


FEW = 12
"""The number of examples of a variant of a loss."""


class OutputGradients(NamedTuple):
    """A loss, and its gradient with respect to the outputs."""

    loss: float
    x: Array


@check_each("loss", LOSS_SUBJECTS, requires=requires_loss)
def loss(trial: Trial, subject: LossSubject) -> None:
    """One loss, on outputs up to thousands, whose exponential overflows: the outputs of a dense
    layer that is the identity.

    Why: The loss and its gradient start every update; a wrong factor is a wrong learning rate.
    Broken by: An engine that sums {subject} over the batch, takes probabilities for logits, or
    overflows on large outputs.
    Fix: Take the mean over the batch, and compute the logarithm of a softmax with the largest
    output subtracted.
    """
    if subject is LOSS_SUBJECTS[subject.record.kind]:
        cases = _cases(trial, subject, st.integers(2, 5), st.integers(1, 5))
        trial.search(cases, lambda case: _compare(trial, case))
    else:
        # A variant shares most of its code with the plain loss. Engines compile few shapes.
        cases = _cases(trial, subject, st.just(3), st.sampled_from((1, 4)))
        trial.search(cases, lambda case: _compare(trial, case), FEW)


def _identity(outputs: Shape) -> tuple[Model, Weights]:
    """Return a dense layer whose outputs are its inputs."""
    width = outputs[-1]
    model = Model("identity", outputs, (Dense(width, use_bias=False),))
    return model, {"dense_1.kernel": np.eye(width)}


def _compare(trial: Trial, case: LossCase) -> None:
    record, (model, weights) = case.loss, _identity(case.outputs)
    generator = np.random.default_rng(case.seed)
    # Both get numbers that single precision represents exactly.
    drawn = case.scale * generator.standard_normal((case.samples, *case.outputs))
    x = np.float32(drawn).astype(float)
    batch = Batch(x, strategies.targets(record, case.outputs, case.samples, generator))

    def compute(oracle: Oracle) -> dict[str, Any]:
        found = oracle.gradients(oracle.build(model, weights), batch, record)
        return {"value": found.loss, "gradient": found.x}

    def scales(values: Mapping[str, Array]) -> dict[str, float]:
        # Where a prediction is nearly certain, its gradient is a difference of similar numbers.
        slope = max(1 / case.samples, magnitude(values["gradient"]))
        return {"value": max(1.0, abs(float(values["value"]))), "gradient": slope}

    expected = trial.expect(compute, scales)
    actual = trial.engine.gradients(trial.engine.build(model, weights), batch, record)
    expected.check("value", actual.loss, f"the value of {record.kind}")
    assert actual.x is not None
    expected.check("gradient", actual.x, f"the gradient of {record.kind} in the outputs")
    expected.reject_unless_sharp()


POSITIONS, WIDTH = 40, 300
EQUAL = 3


@check_each("loss", LOSSES, requires=lambda record: [f"loss:{record.kind}"], prefix="large-")
def large(trial: Trial, record: type[Loss]) -> None:
    """One loss of 300 outputs at each of 40 positions, and of three outputs at each of three
    positions for three samples, as it is and with every option that the engine has, and its
    gradient along random directions.

    Why: The loss is a sum over outputs, positions and samples, each of which an engine may compute
    in blocks, and which it must not tell apart by their sizes.
    Broken by: An engine whose gradient of {subject} is zero in the classes beyond the 128th.
    Fix: The finding names the columns of the kernel that differ: look for a limit of that size.
    """
    has_positions = has(trial, "loss:positions", "layer:dense")
    for positions, width, samples in ((POSITIONS, WIDTH, 30), (EQUAL, EQUAL, EQUAL)):
        before = (positions,) if has_positions else ()
        outputs = (1,) if record.targets == "signs" else (*before, width)
        model = supported(trial, Model("large", (*outputs[:-1], 5), (Dense(outputs[-1]),)))
        weights = strategies.nonzero_weights(model, trial.seed)
        generator = np.random.default_rng((trial.seed, 10))
        x = strategies.inputs(model, samples, generator)
        for loss in dict.fromkeys((record.of(), _with_every_option(trial, record, width))):
            y = strategies.targets(loss, outputs, samples, generator)
            for own in in_conventions(trial, loss):
                example = strategies.Example(model, weights, Batch(x, y), own, trial.seed)
                compare_slopes(trial, example)


def _with_every_option(trial: Trial, record: type[Loss], width: int) -> Loss:
    """Return a loss with every option that the engine has, for a number of outputs."""
    if not issubclass(record, CrossEntropy):
        return record.of()
    by_class = tuple((1 + np.arange(width) % 7 / 4).tolist())
    options = {"label_smoothing": 0.1, "ignored_label": width // 2, "class_weights": by_class}
    return record.of(**{name: v for name, v in options.items() if has(trial, f"loss:{name}")})


@check_each("loss", IGNORING, requires=requires_loss, prefix="no-influence-")
def ignored(trial: Trial, subject: LossSubject) -> None:
    """Ignored labels have no influence: the gradient with respect to their outputs is exactly
    zero, their outputs change neither the loss nor another gradient, and a batch that has no other
    label has no loss and no gradient.

    Why: Padding is ignored, and there may be more of it than of anything else; a whole batch of it
    is rare enough to be met late in a long training.
    Broken by: An engine that counts ignored labels in the divisor, leaves them in the smoothing, or
    divides zero by zero.
    Fix: Multiply the losses by what is kept, and divide by the number kept, or by 1 if it is zero.
    """
    generator, outputs = np.random.default_rng((trial.seed, 9)), subject.outputs()
    for record in in_conventions(trial, subject.loss):
        assert isinstance(record, CrossEntropy)
        x = generator.standard_normal((6, *outputs))
        y = strategies.targets(record, outputs, 6, generator)
        y[0], y[1] = record.ignored_label, 0
        gone = y == record.ignored_label
        other = x + 10 * gone[..., None] * generator.standard_normal(x.shape)
        values, again = (_gradients(trial, record, each, y) for each in (x, other))
        _require_zero(values.x[gone], "the gradient with respect to the outputs of ignored labels")
        close("the loss with other outputs of ignored labels", again.loss, values.loss, 0.0)
        what = "the gradient with other outputs of ignored labels"
        close(what, again.x, values.x, trial.tolerance * magnitude(values.x))
        nothing = _gradients(trial, record, x, np.full_like(y, record.ignored_label))
        _require_zero(np.array(nothing.loss), "the loss of a batch in which every label is ignored")
        _require_zero(nothing.x, "the gradient of a batch in which every label is ignored")


def _gradients(trial: Trial, record: Loss, x: Array, y: NDArray[Any]) -> OutputGradients:
    model, weights = _identity(x.shape[1:])
    found = trial.engine.gradients(trial.engine.build(model, weights), Batch(x, y), record)
    assert found.x is not None
    return OutputGradients(found.loss, found.x)


def _require_zero(values: Array, what: str) -> None:
    if not (values == 0).all():
        largest = f"{np.abs(values).max():g}"
        raise broken(Fault.WRONG_VALUE, what, actual=largest, expected="exactly zero")
