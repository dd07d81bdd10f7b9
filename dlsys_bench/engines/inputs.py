"""The inputs of a model as arrays, in the order of the model, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import join_inputs
from dlsys_bench.data.inputs import X
from dlsys_bench.errors import DataError, nearest
from dlsys_bench.spec.inputs import VALUES, Input
from dlsys_bench.spec.model import Model


def input_arrays(model: Model, x: NDArray[Any], dtype: Any, leading: int = 1) -> list[NDArray[Any]]:
    """Return an array (..., *shape) for each input of a model, in the order of the model.

    Floats have this dtype, and token ids are int32. Raises DataError unless x has the names and the
    shapes that the model states, after `leading` axes: (N,), or (R, N) for R replicas. Token ids
    have to be whole numbers of the vocabulary.
    """
    require_inputs(model, x, leading)
    if not model.inputs:
        return [_converted(model, model.input_table[0], X, x, dtype)]
    # A field of a structured array need not be aligned.
    return [
        np.require(_converted(model, each, _title(each), x[each.name], dtype), None, "A")
        for each in model.inputs
    ]


def input_array(model: Model, x: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return the only input of a model, as `input_arrays` does."""
    (found,) = input_arrays(model, x, dtype)
    return found


def require_inputs(model: Model, x: Any, leading: int = 1) -> None:
    """Raise DataError unless x has the inputs of a model by their names, and each consists of
    numbers of its shape, after the `leading` axes of `input_arrays`."""
    _require_names(model, x)
    parts = [(_title(each), each, x[each.name]) for each in model.inputs]
    for title, record, given in parts or [(X, model.input_table[0], x)]:
        values = np.asarray(given)
        shape = values.shape[leading:]
        if shape != record.shape or not np.can_cast(values.dtype, np.float64, "same_kind"):
            expected = ", ".join(map(str, (*("R", "N")[-leading:], *record.shape)))
            raise DataError(
                f"{title} has shape {values.shape} and type {values.dtype}, but model "
                f"{model.name!r} takes {VALUES[record.dtype]} of shape ({expected})"
                f"{advise_shape(shape, record.shape, title)}"
            )


def _title(record: Input) -> str:
    """Return what a named input is called in messages."""
    return f"{X}[{record.name!r}]"


def advise_shape(shape: tuple[int, ...], expected: tuple[int, ...], title: str = X) -> str:
    """Return a phrase with the expression that gives samples of a shape the expected one, "" if
    none does. It calls the samples by a `title`."""
    if shape == expected:
        return ""
    if len(shape) == len(expected) == 3 and (*shape[1:], shape[0]) == expected:
        return f"; {title}.transpose(0, 2, 3, 1) moves the channels to the end"
    if math.prod(shape) == math.prod(expected):
        return f"; {title}.reshape{(-1, *expected)} has that shape"
    return ""


def _require_names(model: Model, x: object) -> None:
    """Raise DataError unless x has a field for each input that has a name, and no others."""
    if isinstance(x, Mapping):
        raise DataError("x is a mapping of arrays: data.join_inputs(x) makes one array of them")
    found = getattr(getattr(x, "dtype", None), "names", None) or ()
    known = [each.name for each in model.inputs]
    missing = [name for name in known if name not in found]
    extra = [name for name in found if name not in known]
    if missing or extra:
        wrong = [f"lacks {', '.join(map(repr, missing))}"] if missing else []
        wrong += [f"has {', '.join(map(repr, extra))}"] if extra else []
        advice = nearest(extra[0], missing) if extra and missing else ""
        takes = f"the inputs {', '.join(known)}" if known else "one input without a name"
        raise DataError(
            f"x {' and '.join(wrong)}{advice}, but model {model.name!r} takes {takes}; "
            "data.join_inputs makes one array of several"
        )


def _converted(
    model: Model, record: Input, title: str, x: NDArray[Any], dtype: Any
) -> NDArray[Any]:
    """Return an input in a dtype, or token ids as int32."""
    if record.dtype == "float":
        return np.asarray(x, dtype)
    ids = np.ascontiguousarray(x)
    if not _are_whole(ids):
        raise DataError(
            f"model {model.name!r} takes token ids, but {title} ({ids.dtype}) has values that "
            "are not whole numbers"
        )
    known = model.vocabularies[record.name]
    wrong = np.argwhere((ids < 0) | (ids >= known))
    if wrong.size:
        at = tuple(wrong[0].tolist())
        place = ", ".join(map(str, at[-1 - len(record.shape) :]))
        raise DataError(
            f"{title}[{place}] is {int(ids[at])}, but the vocabulary of model "
            f"{model.name!r} has {known} tokens: token ids are 0 to {known - 1}"
        )
    return ids.astype(np.int32)


def _are_whole(values: NDArray[Any]) -> bool:
    """Return whether all values are whole numbers, however large."""
    if values.dtype.kind == "f":
        return bool((np.isfinite(values) & (np.trunc(values) == values)).all())
    return values.dtype.kind in "biu"


def filled_up(x: NDArray[Any], samples: int) -> NDArray[Any]:
    """Return inputs (N, ...) and this number of samples of zeros after them."""
    return np.concatenate([x, np.zeros((samples, *x.shape[1:]), x.dtype)])


def float_places(model: Model) -> list[int]:
    """Return the places of the inputs of floats, which have gradients, among those of a model."""
    return [place for place, each in enumerate(model.input_table) if each.dtype == "float"]


def input_gradients(model: Model, found: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
    """Return the gradients in the inputs of a model, in the form of `Gradients.x`.

    `found` has one for each input of floats, in the order of the model.
    """
    if not found:
        return None
    if not model.inputs:
        return found[0]
    names = [model.inputs[place].name for place in float_places(model)]
    return join_inputs(dict(zip(names, found, strict=True)))
