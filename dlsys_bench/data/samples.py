"""Samples ready for training: scaled, and split into training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data.dataset import Dataset
from dlsys_bench.errors import DataError, nearest

Scaling = Literal["raw", "unit", "standard"]
Split = Literal["last", "random"]
DTYPES = ("float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class Samples:
    """x (N, H, W, C) or (N, units) float; y (N,) int64 labels, or (N, K) float targets."""

    x: NDArray[Any]
    y: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Data:
    """The three parts of a data set; no validation part unless one was asked for."""

    train: Samples
    validation: Samples | None
    test: Samples

    def map(self, change: Callable[[Samples], Samples]) -> Data:
        """Every part changed alike."""
        return Data(
            change(self.train), self.validation and change(self.validation), change(self.test)
        )


def prepare(
    dataset: Dataset,
    *,
    scaling: Scaling = "unit",
    validation_split: float = 0.0,
    split: Split = "last",
    seed: int = 0,
    limit: int | None = None,
    dtype: str = "float32",
) -> Data:
    """Scale and split a data set. All arrays are copies; targets of a regression are not scaled.

    `scaling`: "raw" as it is; "unit" x / 255; "standard" (x / 255 - m) / s with the two scalars m
    and s of all training pixels, before `limit` and the split, so that they do not depend on
    either. `limit` keeps the first so many training samples. `validation_split` is the fraction of
    those that becomes the validation part: the last, before any shuffling, as Keras does, or with
    split="random" drawn by numpy's Generator from `seed`. Errors: DataError where a value is not
    one of these, or a part would be empty.
    """
    _check(scaling, validation_split, split, seed, limit, dtype)
    scale = _Scale(dataset, scaling, dtype)
    count = training_part(len(dataset.x_train), limit=limit)
    x, y = dataset.x_train[:count], dataset.y_train[:count]
    validation = None
    if validation_split:
        border = training_part(count, validation_split)
        if border in (0, count):
            raise DataError(
                f"validation_split={validation_split} of {count} training samples leaves {border} for training and "
                f"{count - border} for validation; both take at least one"
            )
        if split == "random":
            order = np.random.default_rng(seed).permutation(count)
            x, y = x[order], y[order]
        validation = scale(x[border:], y[border:])
        x, y = x[:border], y[:border]
    return Data(scale(x, y), validation, scale(dataset.x_test, dataset.y_test))


def training_part(count: int, validation_split: float = 0.0, limit: int | None = None) -> int:
    """How many of so many samples are trained on: the first `limit`, less the validation part."""
    # Keras's own expression (train_validation_split): another rounding moves the border by a
    # sample.
    return math.floor(min(limit or count, count) * (1.0 - validation_split))


class _Scale:
    """Scales every part of one data set alike."""

    def __init__(self, dataset: Dataset, scaling: Scaling, dtype: str) -> None:
        self.name, self.scaling, self.dtype = dataset.name, scaling, np.dtype(dtype)
        x = dataset.x_train
        if scaling == "unit" and x.dtype.kind == "f" and np.abs(x).max() <= 1:
            raise DataError(
                f'dataset "{self.name}": x_train is {x.dtype} within [-1, 1], and scaling="unit" divides by 255; '
                'it takes pixels 0 to 255, or scaling="raw"'
            )
        if scaling == "standard":
            self.mean, self.deviation = _moments(x)
            if x.min() == x.max() or not math.isfinite(self.deviation):
                raise DataError(
                    f'dataset "{self.name}": scaling="standard" divides by the deviation of x_train, '
                    f"whose values lie between {x.min()} and {x.max()}"
                )

    def __call__(self, x: NDArray[Any], y: NDArray[Any]) -> Samples:
        with np.errstate(over="ignore"):
            targets = y.astype(self.dtype if y.dtype.kind == "f" else np.int64)
            if self.scaling == "raw":
                scaled = x.astype(self.dtype)
            else:
                # float16 holds neither the steps nor the range in between: the result is rounded
                # once, at the end.
                scaled = np.divide(x, 255, dtype=np.result_type(x, self.dtype, np.float32))
            if self.scaling == "standard":
                scaled -= scaled.dtype.type(self.mean)
                scaled /= scaled.dtype.type(self.deviation)
            scaled = scaled.astype(self.dtype, copy=False)
        for name, before, after in (("x", x, scaled), ("y", y, targets)):
            if before.dtype.kind == "f" and not np.isfinite(after).all():
                raise DataError(
                    f'dataset "{self.name}": {name} reaches {np.abs(before).max():g}, too large for {self.dtype}'
                )
        return Samples(scaled, targets)


def _moments(x: NDArray[Any]) -> tuple[float, float]:
    """Mean and population standard deviation of x / 255, in double precision, a block of samples at
    a time."""
    mean = x.mean(dtype=np.float64)
    squares = 0.0
    for start in range(0, len(x), 256):
        offset = x[start : start + 256] - mean
        squares += float(np.square(offset, out=offset).sum())
    return float(mean) / 255, math.sqrt(squares / x.size) / 255


def _check(
    scaling: object,
    validation_split: object,
    split: object,
    seed: object,
    limit: object,
    dtype: object,
) -> None:
    for option, value, choices in (
        ("scaling", scaling, get_args(Scaling)),
        ("split", split, get_args(Split)),
        ("dtype", dtype, DTYPES),
    ):
        if value not in choices:
            raise DataError(
                f"{option} is {value!r}{nearest(str(value), choices)}; it takes {', '.join(choices)}"
            )
    if not (isinstance(validation_split, int | float) and 0 <= validation_split < 1):
        raise DataError(f"validation_split is {validation_split!r}; it takes a number in [0, 1)")
    for option, value, least in (("seed", seed, 0), ("limit", limit, 1)):
        whole = (
            isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least
        )
        if not whole and not (option == "limit" and value is None):
            raise DataError(f"{option} is {value!r}; it takes a whole number from {least}")
