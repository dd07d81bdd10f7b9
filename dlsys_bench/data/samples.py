"""Samples ready for training: scaled, converted, and split into training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data.dataset import Dataset
from dlsys_bench.data.inputs import join_inputs, split_inputs
from dlsys_bench.errors import DataError, count_of, nearest

Scaling = Literal["raw", "unit", "standard"]
SplitRule = Literal["last", "random"]
DTYPES = ("float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class Samples:
    """x (N, H, W, C) or (N, units), float; y labels (N,), int64, or targets (N, K), float. Several
    inputs are one structured array x (N,); see `join_inputs`. Raises DataError unless x and y have
    equally many samples."""

    x: NDArray[Any]
    y: NDArray[Any]

    def __post_init__(self) -> None:
        require_pairs(self.x, self.y)


def require_pairs(x: Any, y: Any) -> None:
    """Raise DataError if x and y are arrays of different numbers of samples."""
    inputs, targets = np.shape(x)[:1], np.shape(y)[:1]
    if inputs and targets and inputs != targets:
        raise DataError(f"x has {count_of(inputs[0], 'sample')}, but y has {targets[0]:,}")


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits of a dataset. `validation` is None unless a validation split was requested."""

    train: Samples
    validation: Samples | None
    test: Samples

    def map(self, change: Callable[[Samples], Samples]) -> Splits:
        """Return the splits with `change` applied to each."""
        return Splits(
            change(self.train), self.validation and change(self.validation), change(self.test)
        )


def prepare(
    dataset: Dataset,
    *,
    scaling: Scaling = "unit",
    validation_split: float = 0.0,
    split: SplitRule = "last",
    seed: int = 0,
    limit: int | None = None,
    dtype: str = "float32",
) -> Splits:
    """Scale and split a dataset. All arrays are copies; targets of a regression are not scaled.

    - `scaling`: "raw" keeps x, "unit" is x / 255, "standard" is (x / 255 - m) / s with the scalar
      mean m and standard deviation s of all training pixels; `limit` and the split do not change m
      and s. Several inputs take "raw", which keeps whole numbers as they are.
    - `limit`: the number of training samples to keep, the first ones.
    - `validation_split`: the fraction of those used for validation. With split="last" they are the
      last ones, as in Keras; with split="random" they are drawn from `seed`.

    Raises DataError if an option is invalid or a split would be empty.
    """
    _require_options(scaling, validation_split, split, seed, limit, dtype)
    scale = _Scale(dataset, scaling, dtype)
    count = training_count(len(dataset.x_train), limit=limit)
    x, y = dataset.x_train[:count], dataset.y_train[:count]
    validation = None
    if validation_split:
        border = training_count(count, validation_split)
        if border in (0, count):
            kept = count_of(count, "training sample")
            raise DataError(
                f"validation_split={validation_split} of {kept} leaves {border} for training and "
                f"{count - border} for validation; both take at least one"
            )
        if split == "random":
            order = np.random.default_rng(seed).permutation(count)
            x, y = x[order], y[order]
        validation = scale(x[border:], y[border:])
        x, y = x[:border], y[:border]
    return Splits(scale(x, y), validation, scale(dataset.x_test, dataset.y_test))


def training_count(count: int, validation_split: float = 0.0, limit: int | None = None) -> int:
    """Return the number of samples trained on: at most `limit`, less the validation samples."""
    # The expression that Keras uses (train_validation_split): a different rounding would move the
    # border by one sample.
    return math.floor(min(limit or count, count) * (1.0 - validation_split))


class _Scale:
    """Scales each split of a dataset in the same way."""

    def __init__(self, dataset: Dataset, scaling: Scaling, dtype: str) -> None:
        self.scaling, self.dtype = scaling, np.dtype(dtype)
        self.error, x = dataset.error, dataset.x_train
        if x.dtype.names and scaling != "raw":
            raise dataset.error(
                f'scaling="{scaling}" scales pixels, but the data have the named inputs '
                f'{", ".join(x.dtype.names)}: --scaling raw takes them as they are (scaling="raw" '
                "of a recipe)"
            )
        if scaling == "unit":
            for name in ("x_train", "x_test"):
                self._require_pixels(name, getattr(dataset, name))
        if scaling == "standard":
            self.mean, self.stddev = _moments(x)
            if x.min() == x.max() or not math.isfinite(self.stddev):
                raise dataset.error(
                    'scaling="standard" divides by the standard deviation '
                    f"of x_train, whose values lie between {x.min()} and {x.max()}"
                )

    def _require_pixels(self, name: str, x: NDArray[Any]) -> None:
        """Raise DataError if floats are no pixels from 0 to 255."""
        low, high = x.min(), x.max()
        if x.dtype.kind == "f" and (low < 0 or high > 255 or high <= 1):
            raise self.error(
                f'{name} is {x.dtype} with values from {low:g} to {high:g}, and scaling="unit" '
                "divides pixels from 0 to 255 by 255; --scaling raw takes the values as they are "
                'and --scaling standard standardises them (scaling="raw" and "standard" of a '
                "recipe)"
            )

    def __call__(self, x: NDArray[Any], y: NDArray[Any]) -> Samples:
        with np.errstate(over="ignore"):
            targets = y.astype(self.dtype if y.dtype.kind == "f" else np.int64)
            scaled = self._named(x) if x.dtype.names else self._scaled(x)
        inputs, after = split_inputs(x), split_inputs(scaled)
        pairs = [(name, values, after[name]) for name, values in inputs.items()]
        for name, given, kept in (*pairs, ("y", y, targets)):
            if given.dtype.kind == "f" and not np.isfinite(kept).all():
                raise self.error(
                    f"{name} reaches {np.abs(given).max():g}, too large for {self.dtype}"
                )
        return Samples(scaled, targets)

    def _named(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return several inputs, of which floats have the dtype."""
        return join_inputs(
            {
                name: values.astype(self.dtype) if values.dtype.kind == "f" else values
                for name, values in split_inputs(x).items()
            }
        )

    def _scaled(self, x: NDArray[Any]) -> NDArray[Any]:
        if self.scaling == "raw":
            return x.astype(self.dtype)
        # float16 has neither the precision nor the range for the intermediate results, so that they
        # are computed in float32 and rounded once, at the end.
        scaled: NDArray[Any] = np.divide(x, 255, dtype=np.result_type(x, self.dtype, np.float32))
        if self.scaling == "standard":
            scaled -= scaled.dtype.type(self.mean)
            scaled /= scaled.dtype.type(self.stddev)
        return scaled.astype(self.dtype, copy=False)


def _moments(x: NDArray[Any]) -> tuple[float, float]:
    """Return the mean and the population standard deviation of x / 255, computed in float64.

    The squares are summed over blocks of samples, to save memory.
    """
    mean = x.mean(dtype=np.float64)
    squares = 0.0
    for start in range(0, len(x), 256):
        offset = x[start : start + 256] - mean
        squares += float(np.square(offset, out=offset).sum())
    return float(mean) / 255, math.sqrt(squares / x.size) / 255


def _require_options(
    scaling: object,
    validation_split: object,
    split: object,
    seed: object,
    limit: object,
    dtype: object,
) -> None:
    for option, value, choices in (
        ("scaling", scaling, get_args(Scaling)),
        ("split", split, get_args(SplitRule)),
        ("dtype", dtype, DTYPES),
    ):
        if value not in choices:
            raise DataError(
                f"{option} is {value!r}{nearest(str(value), choices)}; "
                f"expected one of {', '.join(choices)}"
            )
    if not (isinstance(validation_split, int | float) and 0 <= validation_split < 1):
        raise DataError(f"validation_split is {validation_split!r}; expected a number in [0, 1)")
    for option, value, least in (("seed", seed, 0), ("limit", limit, 1)):
        if option == "limit" and value is None:
            continue
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise DataError(f"{option} is {value!r}; expected an integer of at least {least}")
