"""Prepared datasets: checked, scaled, converted and split once for all runs that share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

from dlsys_bench.data import Dataset, Samples, Splits, prepare
from dlsys_bench.data.labels import advise
from dlsys_bench.engines.inputs import advise_shape, input_arrays
from dlsys_bench.engines.targets import check_targets
from dlsys_bench.errors import DataError
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

MAX_BYTES = 512 * 2**20
"""The memory that prepared datasets may keep: two variants of MNIST in float32."""


def prepare_for(recipe: Recipe, dataset: Dataset, dtype: str, seed: int) -> Splits:
    """Return the splits that a run of this recipe and seed trains on. They must not be changed."""
    options: dict[str, Any] = {
        "scaling": recipe.scaling,
        "validation_split": recipe.validation_split,
        "split": recipe.split,
        # The seed has no effect unless it draws the validation samples.
        "seed": seed if recipe.validation_split and recipe.split == "random" else 0,
        "limit": recipe.samples,
        "dtype": dtype,
    }

    def make() -> Splits:
        splits = prepare(dataset, **options)
        return splits.map(lambda part: Samples(part.x, as_signs(recipe.loss, part.y)))

    return CACHE.get(dataset, (*options.values(), recipe.loss.targets), make)


def check_data(dataset: Dataset, model: Model, loss: Loss) -> None:
    """Raise DataError, with advice, unless samples and labels fit a model and a loss."""
    shape, expected = dataset.x_train.shape[1:], model.input_shape
    if model.inputs or dataset.x_train.dtype.names:
        try:
            input_arrays(model, dataset.x_train[:1], None)
        except DataError as error:
            raise dataset.error(str(error)) from None
    if shape != expected:
        advice = advise_shape(shape, expected)
        if shape == (*expected, 1):
            # A dataset has taken (N, T, C) for images of one channel.
            advice = (
                "; x (N, T, C) are images (N, H, W) unless the input has a name: "
                f'data.join_inputs({{"x": x}}) fits a model of inputs=(Input("x", {expected}),)'
            )
        raise dataset.error(
            f"x_train and x_test have samples of shape {shape}, but model {model.name!r} takes "
            f"{expected}{advice}"
        )
    for name in ("y_train", "y_test"):
        y = getattr(dataset, name)
        try:
            check_targets(loss, as_signs(loss, y), model.output_shape, name)
        except DataError as error:
            labels = loss.targets != "values"
            raise dataset.error(f"{error}{advise(name, y, len(y)) if labels else ''}") from error


def as_signs(loss: Loss, y: NDArray[Any]) -> NDArray[Any]:
    """Return labels 0 and 1 as signs -1 and +1 if the loss takes signs; any other y unchanged."""
    labels = y.dtype.kind in "iu" and not (y < 0).any()
    return 2 * y - 1 if loss.targets == "signs" and labels else y


class Cache:
    """The splits prepared last, by dataset and options, within a limit on their memory.

    Those of a dataset are dropped with the dataset. Several threads may ask at once; one prepares.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.lock = max_bytes, Lock()
        self.kept: WeakKeyDictionary[Dataset, OrderedDict[Hashable, Splits]] = WeakKeyDictionary()

    def get(self, dataset: Dataset, options: Hashable, make: Callable[[], Splits]) -> Splits:
        """Return the splits kept for these options, or make and keep them."""
        with self.lock:
            own = self.kept.setdefault(dataset, OrderedDict())
            splits = own.pop(options, None) or make()
            if size_of(splits) <= self.max_bytes:
                own[options] = splits
                self._shrink(dataset)
            return splits

    def _shrink(self, current: Dataset) -> None:
        """Drop splits until the rest fits: those of other datasets first, then the oldest."""
        order = [(dataset, options) for dataset, own in self.kept.items() for options in own]
        order.sort(key=lambda item: item[0] is current)
        total = sum(size_of(self.kept[dataset][options]) for dataset, options in order)
        for dataset, options in order:
            if total <= self.max_bytes:
                break
            total -= size_of(self.kept[dataset].pop(options))


def size_of(splits: Splits) -> int:
    """Return the number of bytes of the arrays of all splits."""
    parts = (splits.train, splits.validation, splits.test)
    return sum(part.x.nbytes + part.y.nbytes for part in parts if part is not None)


CACHE = Cache(MAX_BYTES)
