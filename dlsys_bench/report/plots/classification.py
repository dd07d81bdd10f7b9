"""Plots of a classifier's predictions: the confusion matrix, and images with their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsys_bench.errors import count_of
from dlsys_bench.report.classification import Classification
from dlsys_bench.report.picture import SLANTED, WIDTH, label_step, save, shorten
from dlsys_bench.report.plots.images import MARK, Tile, draw_grid, draw_indices

MOST_MISTAKES = 25
MAX_NUMBERED = 25
"""The cells of a matrix of more classes than this are too small for their numbers."""


def draw_confusion(found: Classification, title: str, path: Path) -> Path:
    """Draw the confusion matrix as a PNG: counts, coloured by the fraction of the true class."""
    matrix, names = found.confusion, [shorten(name) for name in found.classes]
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(WIDTH, 8.0), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= MAX_NUMBERED:
        _draw_counts(axis, matrix, fractions)
    step = label_step(len(names))
    positions, ticks = range(0, len(names), step), names[::step]
    slant = SLANTED if max(map(len, names)) > 3 else {}
    axis.set_xticks(positions, ticks, fontsize=9, parse_math=False, **slant)
    axis.set_yticks(positions, ticks, fontsize=9, parse_math=False)
    note = "" if step == 1 else f" (one in {step} is named)"
    axis.set_xlabel(f"predicted class{note}")
    axis.set_ylabel(f"true class{note}")
    figure.colorbar(image, ax=axis, label="fraction of the true class", shrink=0.8)
    subtitle = f"accuracy {found.accuracy:.4f}, counts of {len(found.truth):,} test samples"
    figure.suptitle(f"{title}\n{subtitle}", fontsize=12, parse_math=False)
    return save(figure, path)


def _draw_counts(axis: Any, matrix: NDArray[np.int64], fractions: NDArray[np.float64]) -> None:
    size = 10 if len(matrix) <= 12 else 6.5
    for row, column in np.ndindex(matrix.shape):
        count = int(matrix[row, column])
        colour = "white" if fractions[row, column] > 0.5 else "black" if count else "#999999"
        axis.text(column, row, str(count), ha="center", va="center", fontsize=size, color=colour)


def captions(found: Classification, indices: Sequence[int]) -> list[tuple[str, bool]]:
    """Return, for each index, the caption of its image and whether the prediction is wrong.

    The caption of a wrong prediction carries a mark, so that it is not shown by colour alone.
    """
    lines = []
    for index in indices:
        truth, predicted = found.truth[index], found.predicted[index]
        wrong = bool(truth != predicted)
        mark = f"{MARK} " if wrong else ""
        names = shorten(found.classes[truth]), shorten(found.classes[predicted])
        lines.append((f"truth: {names[0]}\n{mark}predicted: {names[1]}", wrong))
    return lines


def draw_mistakes(found: Classification, x: NDArray[Any], title: str, path: Path) -> Path | None:
    """Draw the wrong predictions of x (N, H, W, C) with the highest confidence as a PNG.

    Returns None, and draws nothing, if every prediction is right.
    """
    indices = found.mistakes[:MOST_MISTAKES].tolist()
    if not indices:
        return None
    tiles = [
        Tile(x[index], f"{caption}, {found.confidence[index]:.0%}", marked)
        for index, (caption, marked) in zip(indices, captions(found, indices), strict=True)
    ]
    of = f"{len(tiles)} of {count_of(len(found.mistakes), 'wrong prediction')}"
    return draw_grid(tiles, 5, f"{title}\n{of}, the most confident ones first", path)


def draw_predictions(
    found: Classification, x: NDArray[Any], title: str, path: Path, *, seed: int = 0
) -> Path:
    """Draw 5 x 5 images of x (N, H, W, C), selected by the seed, with truth and prediction.

    Writes a PNG.
    """
    indices = draw_indices(len(x), seed).tolist()
    labels = captions(found, indices)
    tiles = [Tile(x[index], *label) for index, label in zip(indices, labels, strict=True)]
    wrong = sum(tile.marked for tile in tiles)
    heading = f"{title}\n{wrong} of these {len(tiles)} wrong: {MARK} and a frame"
    return draw_grid(tiles, 5, heading, path)
