"""Findings as Python code that needs no engine: arrays in, expected values out.

The author of an engine pastes it into a test and calls the function that is in doubt.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from dlsys_bench.conformance.strategies import describe_model
from dlsys_bench.data import split_inputs
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Weights
from dlsys_bench.errors import count_of
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.text import LIMIT

Expected = Mapping[str, ArrayLike]
"""The expected values, by what they are."""


def of_batch(
    model: Model, weights: Weights, batch: Batch, expected: Expected, loss: Loss | None = None
) -> str | None:
    """Return the code for one pass over a batch; None if its arrays are too large to print."""
    mode = "training" if batch.training else "inference"
    about = [describe_model(model), f"in {mode} mode", *([f"loss {loss.kind}"] if loss else [])]
    arrays: dict[str, ArrayLike] = {**split_inputs(batch.x)}
    arrays |= {"y": batch.y} if loss else {}
    for index, mask in (batch.masks or {}).items():
        arrays[f"keep_mask_of_{model.names[index]}"] = mask
    return _code(", ".join(about), arrays, weights, expected)


def of_training(
    model: Model,
    weights: Weights,
    arrays: Mapping[str, ArrayLike],
    recipe: Recipe,
    steps: int,
    expected: Expected,
) -> str | None:
    """Return the code for a training of a few steps; None if its arrays are too large to print.

    `arrays` holds x and y in the order in which they are used.
    """
    about = (
        f"{describe_model(model)}, loss {recipe.loss.kind}, "
        f"{count_of(steps, 'step')} of {recipe.optimizer} with batches of {recipe.batch_size}"
    )
    return _code(about, arrays, weights, expected)


def _code(
    about: str, arrays: Mapping[str, ArrayLike], weights: Weights, expected: Expected
) -> str | None:
    lines = ["import numpy as np", "", f"# {about}"]
    lines += [f"{name} = {_literal(values)}" for name, values in arrays.items()]
    lines += ["weights = {"]
    lines += [f'    "{name}": {_literal(values)},' for name, values in weights.items()]
    lines += ["}", "expected = {"]
    lines += [f'    "{name}": {_literal(values)},' for name, values in expected.items()]
    lines += ["}"]
    code = "\n".join(lines)
    return code if len(code) < LIMIT else None


def _literal(values: ArrayLike) -> str:
    """Return an array as Python code, of as many digits as it takes to get the same array."""
    return f"np.array({np.asarray(values).tolist()!r})"
