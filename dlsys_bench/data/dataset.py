"""A dataset in memory, validated when it is constructed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data.inputs import split_inputs
from dlsys_bench.data.labels import LABELS, advise, flatten_column, is_one_hot, renumber
from dlsys_bench.errors import DataError, count_of

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test samples with their labels or targets.

    - `x_train`, `x_test`: images (N, H, W, C) or vectors (N, units), uint8 or float. Images without
      channels (N, H, W) get one channel. Several inputs, of whole numbers or floats, are structured
      arrays (N,) of the shapes that a model states; see `join_inputs`.
    - `y_train`, `y_test`: labels (N,) or (N, 1), indices into `classes`, converted to int64 (N,);
      one for each position (N, T), if `x` has the token ids of the positions (N, T); or the targets
      of a regression (N, K), float, in which case `classes` is empty.
    - `redraw`: for data computed from a formula, a function that draws the dataset from a seed.
    - `origin`: the file of the arrays, which errors name in place of the dataset.

    Raises DataError, naming the array, the first invalid index and what is accepted.
    """

    name: str
    x_train: NDArray[Any] = field(repr=False)
    y_train: NDArray[Any] = field(repr=False)
    x_test: NDArray[Any] = field(repr=False)
    y_test: NDArray[Any] = field(repr=False)
    classes: tuple[str, ...] = ()
    redraw: Callable[[int], Dataset] | None = field(default=None, repr=False)
    origin: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        for split in ("train", "test"):
            x = self._inputs(f"x_{split}", np.asarray(getattr(self, f"x_{split}")))
            y = flatten_column(np.asarray(getattr(self, f"y_{split}")))
            if len(x) != len(np.atleast_1d(y)):
                raise self.error(
                    f"x_{split} has {count_of(len(x), 'sample')}, but y_{split} has "
                    f"{len(np.atleast_1d(y))}{advise(f'y_{split}', y, len(x))}"
                )
            converted = self._targets if y.dtype.kind == "f" else self._labels
            object.__setattr__(self, f"x_{split}", x)
            object.__setattr__(self, f"y_{split}", converted(f"y_{split}", y))
        for name in ("x", "y"):
            train, test = getattr(self, f"{name}_train"), getattr(self, f"{name}_test")
            if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
                raise self.error(
                    f"{name}_train has samples of {_sample(train)}, "
                    f"but {name}_test of {_sample(test)}; they have to be equal"
                )

    def error(self, message: str) -> DataError:
        """Return an error about this dataset, with the file of its arrays or its name."""
        where = self.origin or f'dataset "{self.name}"'
        return DataError(f"{where}: {message}")

    def _inputs(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        if x.dtype.names is not None:
            return self._named_inputs(name, x)
        if x.dtype != np.uint8 and x.dtype.kind != "f":
            raise self.error(
                f"{name} is {x.dtype}; expected uint8 (pixels 0 to 255) or float"
                f"{_advise_type(name, x)}"
            )
        if x.ndim == 3:
            x = x[..., np.newaxis]
        if x.ndim not in (2, 4):
            raise self.error(
                f"{name} has shape {x.shape}; expected (N, H, W, C), (N, H, W) or (N, units)"
            )
        if x.size == 0:
            raise self.error(
                f"{name} is empty: its shape is {x.shape}; "
                "it takes at least one sample of at least one value"
            )
        self._finite(name, x)
        return x

    def _named_inputs(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        if x.ndim != 1 or x.size == 0:
            raise self.error(
                f"{name} is a structured array of shape {x.shape}; expected (N,), N from 1"
            )
        for part, values in split_inputs(x).items():
            if values.dtype.kind not in "iuf" or values.ndim < 2 or values.size == 0:
                raise self.error(
                    f"{name}[{part!r}] is {values.dtype} of shape {values.shape}; expected whole "
                    "numbers or floats, of at least one value for each sample"
                )
            self._finite(f"{name}[{part!r}]", values)
        return x

    def _targets(self, name: str, y: NDArray[Any]) -> NDArray[Any]:
        if y.ndim != 2 or y.shape[1] == 0:
            raise self.error(
                f"{name} is {y.dtype} of shape {y.shape}; expected labels (N,) of whole numbers, "
                f"or targets of a regression (N, K) of floats{advise(name, y, len(y))}"
            )
        if self.classes:
            raise self.error(
                f"{name} is {y.dtype}, targets of a regression, "
                f"but there are {count_of(len(self.classes), 'class', 'classes')}"
                f"{advise(name, y, len(y))}"
            )
        self._finite(name, y)
        return y

    def _labels(self, name: str, y: NDArray[Any]) -> NDArray[Any]:
        x = getattr(self, name.replace("y", "x", 1))
        shapes = [values.shape for values in split_inputs(np.asarray(x)).values()]
        by_position = y.ndim == 2 and y.shape in shapes and not is_one_hot(y)
        if y.dtype.kind not in "iu" or (y.ndim != 1 and not by_position):
            raise self.error(
                f"{name} is {y.dtype} of shape {y.shape}; {LABELS}{advise(name, y, len(y))}"
            )
        count = len(self.classes)
        wrong = np.argwhere((y < 0) | (y >= count))
        if wrong.size:
            accepted = f"labels are 0 to {count - 1}" if count else "name the classes"
            place = tuple(wrong[0].tolist())
            at = ", ".join(map(str, place))
            raise self.error(
                f"{name}[{at}] is {y[place]}, but there are {count} classes: "
                f"{accepted}{renumber(y)}"
            )
        if len(y) > 1 and y.min() == y.max():
            raise self.error(
                f"{name} has one class: all {len(y):,} labels are {y[0]}; "
                "expected two classes or more"
            )
        return y.astype(np.int64)

    def _finite(self, name: str, values: NDArray[Any]) -> None:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            index = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
            raise self.error(
                f"{name}{list(index)} is {values[index]}; every value has to be finite"
            )


def _sample(values: NDArray[Any]) -> str:
    return f"shape {values.shape[1:]} and type {values.dtype}"


def _advise_type(name: str, x: NDArray[Any]) -> str:
    """Return a phrase with the expression that converts inputs, "" if they are no numbers."""
    if x.dtype.kind not in "biu" or not x.size:
        return ""
    pixels = x.dtype.kind != "b" and x.min() >= 0 and x.max() <= 255
    return f', as {name}.astype("{"uint8" if pixels else "float32"}") is'
