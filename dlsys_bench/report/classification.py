"""The performance of a classifier by class: precision, recall, F1 and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from dlsys_bench.data import Dataset, Scaling, prepare
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Weights
from dlsys_bench.errors import DataError, UserError
from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Table
from dlsys_bench.runs.preparation import check_data
from dlsys_bench.spec.losses import SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model


class Score(NamedTuple):
    """The scores of one class: precision, recall and F1, and its number of samples (support).

    A score is None where it is undefined, as the precision is for a class that is never predicted.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, eq=False)
class Classification:
    """The true and the predicted labels (N,), both indices into `classes`, and the probability
    (N,) that the model gives to each prediction. A sequence has a label for each position."""

    classes: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """The fraction of samples whose predicted label is the true one."""
        return float(np.mean(self.truth == self.predicted))

    @property
    def mistakes(self) -> NDArray[np.int64]:
        """The samples that are predicted wrongly, those of the highest confidence first."""
        wrong = np.flatnonzero(self.truth != self.predicted)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix (K, K): counts by true class (rows) and predicted one (columns)."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return counts

    @cached_property
    def scores(self) -> tuple[Score, ...]:
        """The scores of each class."""
        hits, predicted = self.confusion.diagonal(), self.confusion.sum(axis=0)
        support = self.confusion.sum(axis=1)
        with np.errstate(invalid="ignore"):
            columns = hits / predicted, hits / support, 2 * hits / (predicted + support)
        precision, recall, f1 = ([_defined(value) for value in column] for column in columns)
        return tuple(
            Score(*values)
            for values in zip(self.classes, precision, recall, f1, support.tolist(), strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON values."""
        return {
            "accuracy": self.accuracy,
            "samples": len(self.truth),
            "classes": [score._asdict() for score in self.scores],
            "confusion": self.confusion.tolist(),
        }


def classify(
    model: Model, weights: Weights, dataset: Dataset, scaling: Scaling = "unit"
) -> Classification:
    """Classify the test split with the numpy engine; of sequences, every position.

    Raises DataError if the samples do not fit the model's input or the labels its output, and
    UserError if outputs are not finite.
    """
    _check_fit(model, dataset)
    engine = NumpyEngine()
    # Of the training split only the mean and the standard deviation are needed. They do not depend
    # on the limit, which saves preparing the rest of it.
    test = prepare(dataset, scaling=scaling, limit=1, dtype=engine.dtype).test
    with np.errstate(all="ignore"):
        outputs = engine.predict(engine.build(model, weights), test.x)
    invalid = int((~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)).sum())
    if invalid:
        raise UserError(
            f"the outputs of model {model.name!r} are not finite for {invalid} of {len(outputs)} "
            "test samples: the weights are of a training that diverged, or the scaling is not that "
            "of the training"
        )
    classes = model.output_shape[-1]
    unnamed = tuple(map(str, range(len(dataset.classes), classes)))
    rows = outputs.astype(np.float64).reshape(-1, classes)
    predicted, confidence = rows.argmax(axis=1), softmax(rows, axis=1).max(axis=1)
    return Classification(dataset.classes + unnamed, test.y.ravel(), predicted, confidence)


def _check_fit(model: Model, dataset: Dataset) -> None:
    if not dataset.classes:
        raise DataError(
            f'dataset "{dataset.name}" has the targets of a regression; expected labels of classes'
        )
    if model.output_shape == (1,):
        raise DataError(
            f"model {model.name!r} has one output; expected a classifier of two or more"
        )
    check_data(dataset, model, SparseCategoricalCrossEntropy())


def scores_table(found: Classification, title: str) -> Table:
    """Return a table with one row per class, followed by the unweighted mean of the classes."""
    scores = found.scores
    rows = [
        (s.name, *map(_format, (s.precision, s.recall, s.f1)), f"{s.support:,}") for s in scores
    ]
    means = (_mean([score[column] for score in scores]) for column in (1, 2, 3))
    rows.append(("mean of the classes", *map(_format, means), f"{len(found.truth):,}"))
    heads = ("class", ">precision", ">recall", ">F1", ">support")
    return Table(f"{title}: accuracy {found.accuracy:.4f}", heads, rows)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _format(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
