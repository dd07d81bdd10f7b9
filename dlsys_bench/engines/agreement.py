"""Checks that the arrays of a call agree with each other and with the model.

Frameworks broadcast arrays of one row, or read as many rows as the shorter array has, so that a
mistake would train a network in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlsys_bench.data.samples import require_pairs
from dlsys_bench.engines.inputs import require_inputs
from dlsys_bench.engines.targets import check_targets
from dlsys_bench.errors import DataError, nearest
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model

if TYPE_CHECKING:
    from dlsys_bench.engines.base import Batch
    from dlsys_bench.engines.plan import Weights


def check_batch(model: Model, batch: Batch, loss: Loss) -> None:
    """Raise DataError unless y has the form that the loss takes, with a row for each sample, and
    the inputs are those of `check_inputs`."""
    check_targets(loss, batch.y, model.output_shape)
    require_pairs(batch.x, batch.y)
    check_inputs(model, batch)


def check_inputs(model: Model, batch: Batch) -> None:
    """Raise DataError unless x has samples of the model's shape, and each dropout layer has a mask
    for each sample, if any has one.

    Predictions have no dropout, so that masks mean nothing there.
    """
    require_inputs(model, batch.x)
    if batch.masks is None or not batch.training:
        return
    shapes = {row.place: row.mask.shape for row in model.table if row.mask is not None}
    _require_keys("masks", batch.masks, shapes, "the places of the dropout layers")
    for place, shape in shapes.items():
        _require_shape(f"masks[{place}]", batch.masks[place], (len(batch.x), *shape))


def check_weights(model: Model, weights: Weights) -> None:
    """Raise DataError unless there is an array for each tensor of a model, of its shape."""
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    _require_keys("weights", weights, shapes, "the tensors")
    for name, shape in shapes.items():
        _require_shape(f"weights[{name!r}]", weights[name], shape)


def _require_keys(
    name: str, found: Mapping[Any, Any], wanted: Mapping[Any, Any], what: str
) -> None:
    missing = [key for key in wanted if key not in found]
    extra = [key for key in found if key not in wanted]
    if not missing and not extra:
        return
    advice = nearest(str(extra[0]), map(str, missing)) if extra and missing else ""
    wrong = [f"lack {key!r}" for key in missing[:1]]
    wrong += [f"have {key!r}{advice}" for key in extra[:1]]
    raise DataError(f"{name} {' and '.join(wrong)}: they take {what} of the model")


def _require_shape(name: str, values: Any, shape: tuple[int, ...]) -> None:
    if np.shape(values) != shape:
        raise DataError(f"{name} has shape {np.shape(values)}; expected {shape}")
