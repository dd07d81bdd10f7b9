"""Loss and accuracy against the definitions, and against the losses that engines train on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dlsys_bench import strategies
from dlsys_bench.conformance.checks.loss_subjects import LOSS_SUBJECTS
from dlsys_bench.conformance.oracle.losses import count_answers, loss_value
from dlsys_bench.data import Samples
from dlsys_bench.engines.numpy.losses import evaluate_loss
from dlsys_bench.runs.metrics import LOSSES, evaluate
from dlsys_bench.spec import losses
from dlsys_bench.spec.convention import to_convention


def test_figures_of_labels() -> None:
    outputs = np.log(np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]))
    found = evaluate(outputs, Samples(outputs, np.array([0, 2])), losses.CategoricalCrossEntropy())
    assert found.loss == pytest.approx((math.log(2) + math.log(8)) / 2)
    assert found.accuracy == 0.5


def test_figures_of_values_and_signs() -> None:
    outputs = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    samples = Samples(outputs, np.array([[0.0, 2.0], [3.0, 2.0]]))
    assert evaluate(outputs, samples, losses.MeanSquaredError()) == (2.5, None)
    assert evaluate(outputs, samples, losses.HalfMeanSquaredError()) == (2.5, None)
    signs = Samples(outputs, np.array([1, -1]))
    assert evaluate(outputs[:, :1], signs, losses.PerceptronCriterion()) == (1.5, 0.5)
    assert evaluate(outputs[:, :1], signs, losses.Hinge()) == (2.0, 0.5)


@pytest.mark.parametrize("kind", losses.LOSSES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_figures_equal_those_of_the_numpy_engine_to_the_last_bit(kind: str, order: str) -> None:
    loss, generator = losses.LOSSES[kind](), np.random.default_rng(0)
    assert kind in LOSSES
    for count in (1, 7, 1000):
        width = 1 if loss.targets == "signs" else 5
        outputs = generator.normal(size=(count, width))
        outputs = np.asfortranarray(outputs) if order == "F" else outputs
        y = strategies.targets(loss, width, count, generator)
        targets = y[None] if y.ndim == 1 else y.T[None]
        answers = count * (width if loss.targets == "binary" else 1)
        value, _, correct = evaluate_loss(loss, outputs.T[None], targets)
        found = evaluate(outputs, Samples(outputs, y), loss)
        assert found.loss == value[0]
        assert found.accuracy == (None if correct is None else correct[0] / answers)


@pytest.mark.parametrize("name", LOSS_SUBJECTS)
@pytest.mark.parametrize("convention", ["keras", "torch"])
def test_figures_equal_the_definitions_with_every_option(name: str, convention: str) -> None:
    subject, generator = LOSS_SUBJECTS[name], np.random.default_rng(1)
    loss = to_convention(convention, subject.loss)
    outputs = generator.normal(size=(9, *subject.outputs()))
    y = strategies.targets(loss, subject.outputs(), 9, generator)
    found = evaluate(outputs, Samples(outputs, y), loss)
    assert found.loss == pytest.approx(float(loss_value(loss, outputs[None], y)[0]), rel=1e-12)
    answers = count_answers(loss, outputs, y)
    assert found.accuracy == (None if answers is None else answers[0] / answers[1])


def test_figures_where_every_label_is_ignored_are_zero() -> None:
    loss = losses.SparseCategoricalCrossEntropy(ignored_label=-1)
    samples = Samples(np.ones((3, 2)), np.full(3, -1))
    assert evaluate(samples.x, samples, loss) == (0.0, 0.0)
