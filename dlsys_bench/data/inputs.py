"""The inputs of samples: one array, or several that a structured array holds by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlsys_bench.errors import DataError

X = "x"
"""What inputs without names are called."""


def join_inputs(arrays: Mapping[str, ArrayLike]) -> NDArray[Any]:
    """Return arrays (N, ...) as one structured array (N,) with a field for each name.

    Such an array is x of a model of several inputs. An index selects samples of all inputs, and
    `x["name"]` is one input, (N, ...). Raises DataError unless each has a name, and as many samples
    as the others.
    """
    if not isinstance(arrays, Mapping) or not arrays:
        raise DataError("there are no inputs: join_inputs takes an array for each name")
    parts = {name: _samples(name, values) for name, values in arrays.items()}
    (first, length), *others = ((name, len(values)) for name, values in parts.items())
    for name, other in others:
        if other != length:
            raise DataError(
                f"input {first!r} has {length} samples, but input {name!r} has {other}: "
                "they have to be equal"
            )
    joined = np.empty(length, [(name, v.dtype, v.shape[1:]) for name, v in parts.items()])
    for name, values in parts.items():
        joined[name] = values
    return joined


def _samples(name: object, values: ArrayLike) -> NDArray[Any]:
    """Return an input as an array. Raises DataError unless it has a name and samples."""
    if not isinstance(name, str) or name == "":
        raise DataError(f"an input has the name {name!r}; expected a string")
    try:
        found = np.asarray(values)
    except ValueError:
        raise DataError(f"input {name!r} has samples of different shapes") from None
    if found.ndim == 0 or found.dtype.hasobject:
        form = f"{found.dtype} of shape {found.shape}" if found.ndim else repr(found)
        raise DataError(f"input {name!r} is {form}; expected an array (N, ...) of numbers")
    return found


def split_inputs(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return a view of each input by its name, or x by the name "x" if it has no names."""
    return {X: x} if x.dtype.names is None else {name: x[name] for name in x.dtype.names}
