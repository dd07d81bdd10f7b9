"""What a classifier gets right and wrong: figures by class, the confusion matrix, images with truth
and prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Dataset, prepare
from dlsys_bench.data.samples import Scaling
from dlsys_bench.engines.base import check_targets
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Weights
from dlsys_bench.errors import DataError, UserError
from dlsys_bench.report.images import MARK, Tile, draw_grid, drawn
from dlsys_bench.report.picture import SLANTED, WIDTH, every, save, short
from dlsys_bench.report.tables import NONE, Table
from dlsys_bench.spec.losses import SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model

MOST_NUMBERS = 25
"""A matrix of more classes than this has cells too small for numbers."""


class Score(NamedTuple):
    """One class: precision, recall and F1, fractions, None where nothing defines them; support, its
    samples."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, eq=False)
class Classification:
    """The labels (N,) that are true and those predicted, both places among the names of the
    classes."""

    classes: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.truth == self.predicted))

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """The counts (K, K): one row per true class, one column per predicted class."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return counts

    @cached_property
    def scores(self) -> tuple[Score, ...]:
        """Precision, recall and F1 of every class."""
        hits, predicted = self.confusion.diagonal(), self.confusion.sum(axis=0)
        support = self.confusion.sum(axis=1)
        with np.errstate(invalid="ignore"):
            columns = hits / predicted, hits / support, 2 * hits / (predicted + support)
        return tuple(
            Score(name, *map(_known, figures), int(count))
            for name, *figures, count in zip(self.classes, *columns, support, strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON takes them."""
        return {
            "accuracy": self.accuracy,
            "samples": len(self.truth),
            "classes": [score._asdict() for score in self.scores],
            "confusion": self.confusion.tolist(),
        }


def classify(
    model: Model, weights: Weights, dataset: Dataset, scaling: Scaling = "unit"
) -> Classification:
    """The test split as the numpy engine classifies it, outside training.

    Errors: DataError where the samples do not fit the model's inputs or the labels its outputs;
    UserError where the outputs are not finite.
    """
    if not dataset.classes:
        raise DataError(
            f'dataset "{dataset.name}" has the targets of a regression; it takes labels of classes'
        )
    shape = dataset.x_test.shape[1:]
    if shape != model.input_shape:
        raise DataError(
            f'dataset "{dataset.name}" has samples of shape {shape}, but model {model.name!r} takes {model.input_shape}'
        )
    if model.output_shape == (1,):
        raise DataError(
            f"model {model.name!r} has one output; it takes a classifier of two or more"
        )
    check_targets(SparseCategoricalCrossEntropy(), dataset.y_test, model.output_shape)
    engine = NumpyEngine()
    # Of the training split only its mean and deviation are asked for, and these do not depend on
    # the limit.
    test = prepare(dataset, scaling=scaling, limit=1, dtype=engine.dtype).test
    with np.errstate(all="ignore"):
        outputs = engine.predict(engine.build(model, weights), test.x)
    lost = int((~np.isfinite(outputs).all(axis=1)).sum())
    if lost:
        raise UserError(
            f"the outputs of model {model.name!r} are not finite for {lost} of {len(outputs)} test samples: "
            "the weights are of a training that diverged, or the scaling is not that of the training"
        )
    spare = tuple(map(str, range(len(dataset.classes), model.output_shape[0])))
    return Classification(dataset.classes + spare, test.y, outputs.argmax(axis=1).astype(np.int64))


def scores_table(found: Classification, title: str) -> Table:
    """A row a class, then the plain mean of the classes."""
    scores = found.scores
    rows = [
        (s.name, *map(_figure, (s.precision, s.recall, s.f1)), f"{s.support:,}") for s in scores
    ]
    means = (_mean([score[place] for score in scores]) for place in (1, 2, 3))
    rows.append(("mean of the classes", *map(_figure, means), f"{len(found.truth):,}"))
    heads = ("class", ">precision", ">recall", ">F1", ">support")
    return Table(f"{title}: accuracy {found.accuracy:.4f}", heads, rows)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def draw_confusion(found: Classification, title: str, path: Path) -> Path:
    """The confusion matrix: counts in the cells, coloured by the fraction of the true class."""
    from matplotlib.figure import Figure

    matrix, names = found.confusion, [short(name) for name in found.classes]
    support = matrix.sum(axis=1, keepdims=True)
    fractions = matrix / np.maximum(support, 1)
    figure = Figure(figsize=(WIDTH, 8.0), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= MOST_NUMBERS:
        size = 10 if len(names) <= 12 else 6.5
        for row, column in np.ndindex(matrix.shape):
            dark, count = fractions[row, column] > 0.5, int(matrix[row, column])
            colour = "white" if dark else "black" if count else "#999999"
            axis.text(
                column, row, str(count), ha="center", va="center", fontsize=size, color=colour
            )
    step = every(len(names))
    places, ticks = range(0, len(names), step), names[::step]
    slant = SLANTED if max(map(len, names)) > 3 else {}
    axis.set_xticks(places, ticks, fontsize=9, parse_math=False, **slant)
    axis.set_yticks(places, ticks, fontsize=9, parse_math=False)
    part = "" if step == 1 else f" (one in {step} is named)"
    axis.set_xlabel(f"predicted class{part}")
    axis.set_ylabel(f"true class{part}")
    figure.colorbar(image, ax=axis, label="fraction of the true class", shrink=0.8)
    figure.suptitle(
        f"{title}\naccuracy {found.accuracy:.4f}, counts of {len(found.truth):,} test samples",
        fontsize=12,
        parse_math=False,
    )
    return save(figure, path)


def captions(found: Classification, places: Sequence[int]) -> list[tuple[str, bool]]:
    """For each place the text above its image, and whether it is wrong: the text says so too, not
    the colour alone."""
    lines = []
    for place in places:
        truth, predicted = found.truth[place], found.predicted[place]
        wrong = bool(truth != predicted)
        said = f"predicted: {short(found.classes[predicted])}"
        lines.append(
            (f"truth: {short(found.classes[truth])}\n{MARK + ' ' if wrong else ''}{said}", wrong)
        )
    return lines


def draw_predictions(
    found: Classification, x: NDArray[Any], title: str, path: Path, *, seed: int = 0
) -> Path:
    """Five by five images of x (N, H, W, C), drawn by the seed, each with its truth and what was
    predicted."""
    places = drawn(len(x), seed).tolist()
    tiles = [
        Tile(x[place], *line) for place, line in zip(places, captions(found, places), strict=True)
    ]
    wrong = sum(tile.marked for tile in tiles)
    return draw_grid(
        tiles, 5, f"{title}\n{wrong} of these {len(tiles)} wrong: {MARK} and a frame", path
    )
