"""Inputs and token ids in other dtypes that hold them exactly: the values alone count."""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.layouts import OF_DTYPES, Layout, change_x, compare_layouts
from dlsys_bench.conformance.checks.support import example_loss, needed_layers
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.spec.layers import Dense, Embedding, Flatten
from dlsys_bench.spec.model import Model


def _in_dtypes(*names: str) -> Mapping[str, Layout]:
    """Return the conversions to dtypes that hold the values exactly, as LAYOUTS has its layouts."""
    return {f"of dtype {name}": methodcaller("astype", name) for name in names}


DTYPES_OF_X = _in_dtypes("uint8", "int64", "float16")
"""The dtypes in which whole numbers below 8 are given."""

DTYPES_OF_TOKENS = _in_dtypes("uint8", "int8", "int16", "uint16", "int32")
"""The dtypes in which ids of TOKENS are given."""

TOKENS = Model("tokens", (16,), (Embedding(128, 600), Flatten(), Dense(3)), input_dtype="int")
"""A network of ids that fit into 7 bits, while the places of their values need 17."""


@check("shapes", "dtypes-of-x")
def dtypes(trial: Trial) -> None:
    """Inputs that are whole numbers, as bytes, as long integers and as short floats.

    Why: Images are kept as bytes. Scaling them is a step before training, and an engine that scales
    them as well trains on other numbers than those that it was given.
    Broken by: An engine that divides bytes by 255, as ToTensor does, or that computes with them in
    their own dtype.
    Fix: Convert x to the dtype of the engine and leave the values as they are; `input_arrays` does.
    """
    loss = example_loss(trial)
    compare_layouts(trial, "x", OF_DTYPES, loss, change_x, layouts=DTYPES_OF_X)


@check("shapes", "dtypes-of-tokens", requires=needed_layers(TOKENS))
def dtypes_of_tokens(trial: Trial) -> None:
    """Token ids in small integer types, in which the places of their values do not fit.

    Why: The tokens of a small vocabulary are kept as bytes, and an index that is computed of them
    must not wrap.
    Broken by: An engine that multiplies an id with the units of an embedding in the dtype of the
    ids.
    Fix: Convert ids to an integer type of at least 32 bits before anything is computed of them;
    `input_arrays` does.
    """
    loss = example_loss(trial)
    compare_layouts(trial, "x", OF_DTYPES, loss, change_x, TOKENS, DTYPES_OF_TOKENS)
