"""Conversion of the arrays of any framework to NumPy, by the means that each array offers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import UserError, type_of

PROTOCOLS = (
    *("__array__", "__array_interface__", "__cuda_array_interface__", "__dlpack__"),
    *("detach", "numpy"),
)
"""An object with one of these attributes is an array, even if it can be iterated over."""

TENSOR_METHODS = ("detach", "full_tensor", "to_dense", "cpu", "resolve_conj", "resolve_neg")
"""The methods of a torch tensor that lead to one that NumPy can read: without a gradient, on one
device, dense, on the CPU, and with conjugation and negation carried out."""


def to_numpy(value: object) -> NDArray[Any]:
    """Return a copy of a number or an array of any framework.

    Floating-point types that NumPy does not have, such as bfloat16, become wider ones. Raises
    TypeError if the object is not an array of numbers, with the reason of the last attempt.
    """
    reason: Exception | None = None
    for convert in CONVERSIONS:
        try:
            return _numeric(convert(value))
        except Exception as error:  # Each framework raises its own errors.
            reason = reason if isinstance(error, AttributeError) and reason else error
    raise TypeError(f"{type_of(value)} is not an array of numbers") from reason


def _numeric(found: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of an array of numbers. Raises TypeError if its elements are no numbers."""
    if found.dtype.kind in "biufc":
        return np.array(found)
    if found.dtype.kind == "V":  # The types of ml_dtypes, which JAX and TensorFlow use.
        return found.astype(np.float64)
    raise TypeError(f"its elements are of type {found.dtype}")


def _from_number(value: Any) -> NDArray[Any]:
    if isinstance(value, Number | np.ndarray | np.generic):
        return np.asarray(value)
    raise AttributeError("not a number")


def _from_tensor(tensor: Any) -> NDArray[Any]:
    if not hasattr(tensor, "detach"):
        raise AttributeError("detach")
    for name in TENSOR_METHODS:
        tensor = getattr(tensor, name, lambda same=tensor: same)()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:  # NumPy has no bfloat16 and no float8.
        return np.asarray(tensor.float().numpy())


def _from_variable(variable: Any) -> NDArray[Any]:
    """Convert the array that a variable of Keras or Flax holds."""
    if callable(variable.value):
        raise AttributeError("value is a method")
    return to_numpy(variable.value)


CONVERSIONS: tuple[Callable[[Any], NDArray[Any]], ...] = (
    _from_number,
    _from_tensor,
    lambda value: np.asarray(value.__array__()),
    lambda value: np.asarray(value.numpy()),
    lambda value: to_numpy(value.get()),  # CuPy copies an array from the GPU by `get`.
    lambda value: np.from_dlpack(value),
    # NumPy reads neither bfloat16 nor the memory of a GPU by DLPack.
    lambda value: _from_tensor(sys.modules["torch"].from_dlpack(value)),
    lambda value: np.asarray(value.tolist()),
    lambda value: np.asarray(value.item()),
    lambda value: np.asarray(value.__float__()),
    _from_variable,
)
"""The conversions, in the order in which they are tried."""


def named_arrays(tree: object) -> dict[str, NDArray[Any]]:
    """Return copies of the arrays in nested mappings, sequences and iterators, by their path.

    A path is such as "dense.kernel" or "weights[0]". Pairs of a name and an array, as torch's
    `named_parameters` yields them, are a mapping; a list of numbers is an array. None and arrays
    without elements are left out. Raises UserError if an object is not an array of numbers, if two
    arrays have one path, or if there are none.
    """
    found: dict[str, NDArray[Any]] = {}
    for path, leaf in _leaves(tree, ""):
        if path in found:
            raise UserError(f"weights() returned two arrays of the name {path}")
        try:
            found[path] = to_numpy(leaf)
        except TypeError as error:
            raise UserError(
                f"weights() returned {type_of(leaf)} as {path}, which is no array of numbers: "
                f"{error.__cause__}"
            ) from error
    found = {path: array for path, array in found.items() if array.size}
    if not found:
        raise UserError("weights() returned no arrays; it has to return those that training moves")
    return found


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, object]]:
    """Yield the arrays in a tree with their paths."""
    if isinstance(tree, Mapping):
        yield from _named_leaves(tree.items(), path)
    elif not _is_container(tree):
        yield from () if tree is None else [(path or "weights", tree)]
    else:
        items = list(tree)
        if items and all(map(_is_pair, items)):
            yield from _named_leaves(items, path)
        elif items and all(isinstance(item, Number) for item in items):
            yield path or "weights", np.asarray(items)
        else:
            for number, inner in enumerate(items):
                yield from _leaves(inner, f"{path or 'weights'}[{number}]")


def _named_leaves(items: Iterable[tuple[Any, Any]], path: str) -> Iterator[tuple[str, object]]:
    for name, inner in items:
        yield from _leaves(inner, f"{path}.{name}" if path else str(name))


def _is_container(value: object) -> bool:
    if any(hasattr(value, name) for name in PROTOCOLS):
        return False
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


def _is_pair(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
