"""Labels of classes: their validation, and advice on how to make them of what people have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = "labels are (N,) of whole numbers"


def flatten_column(y: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers of shape (N, 1) as (N,); anything else unchanged."""
    column = y.dtype.kind in "iu" and y.ndim == 2 and y.shape[1] == 1
    return y[:, 0] if column else y


def advise(name: str, y: NDArray[Any], samples: int) -> str:
    """Return a phrase with the expression that makes labels of an array, "" if none is known.

    `samples` is the number of labels that it should give.
    """
    if y.shape == (1, samples) and samples > 1:
        return f"; it is one row, and {name}[0] are its values"
    if y.ndim == 2 and is_one_hot(y):
        return f"; its rows are one-hot, and {name}.argmax(axis=1) are the labels"
    if y.shape == (samples, 1) and is_whole(y):
        return f'; {name}[:, 0].astype("int64") are the labels'
    if y.ndim == 1 and is_whole(y):
        return f'; {name}.astype("int64") are the labels'
    if y.ndim == 1 and y.dtype.kind == "f":
        return f"; targets of a regression are (N, K), as {name}[:, None] is"
    if y.ndim == 1 and y.dtype.kind in "US":
        return (
            "; number the names: classes, y_train = numpy.unique(y_train, return_inverse=True), "
            "y_test = numpy.searchsorted(classes, y_test)"
        )
    return ""


def is_one_hot(y: NDArray[Any]) -> bool:
    """Return True if every row has one 1 and is 0 elsewhere, with two columns or more."""
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "biuf" or not y.size:
        return False
    return bool((((y == 0) | (y == 1)).all(axis=1) & ((y == 1).sum(axis=1) == 1)).all())


def is_whole(y: NDArray[Any]) -> bool:
    """Return True for floats that are whole numbers, and for truth values."""
    if y.dtype.kind == "f":
        return bool((np.isfinite(y) & (np.mod(y, 1) == 0)).all())
    return y.dtype.kind == "b"


def renumber(*labels: NDArray[Any]) -> str:
    """Return a phrase with the expression that makes labels count from 0, for all splits together,
    or "" if they do or nothing is known to make them."""
    if not all(y.size for y in labels):
        return ""
    low, high = min(int(y.min()) for y in labels), max(int(y.max()) for y in labels)
    if (low, high) == (-1, 1) and not any((y == 0).any() for y in labels):
        return "; the labels are signs: take (y_train + 1) // 2 and (y_test + 1) // 2"
    if low > 0:
        return (
            f"; no label is 0, and the smallest is {low}, but labels count from 0: "
            f"take y_train - {low} and y_test - {low}"
        )
    return ""
