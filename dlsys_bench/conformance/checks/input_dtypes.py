"""Inputs and token ids in other dtypes that hold them exactly: the values alone count."""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.layouts import (
    OF_DTYPES,
    AnyArray,
    Layout,
    LayoutCase,
    Results,
    change_x,
    compare_layouts,
)
from dlsys_bench.conformance.checks.several_inputs import LAYOUT
from dlsys_bench.conformance.checks.support import example_loss, has, needed_layers
from dlsys_bench.conformance.checks.training import regression_recipe
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples, join_inputs
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.augmentation import InputNoise
from dlsys_bench.spec.layers import Dense, Embedding, Flatten
from dlsys_bench.spec.model import Model


def _in_dtypes(*names: str) -> Mapping[str, Layout]:
    """Return the conversions to dtypes that hold the values exactly, as LAYOUTS has its layouts."""
    return {f"of dtype {name}": methodcaller("astype", name) for name in names}


OF_X = ("uint8", "int64", "float16")

DTYPES_OF_X = _in_dtypes(*OF_X)
"""The dtypes in which whole numbers below 8 are given."""

DTYPES_OF_TOKENS = _in_dtypes("uint8", "int8", "int16", "uint16", "int32")
"""The dtypes in which ids of TOKENS are given."""

TOKENS = Model("tokens", (16,), (Embedding(128, 600), Flatten(), Dense(3)), input_dtype="int")
"""A network of ids that fit into 7 bits, while the places of their values need 17."""


def _fields_in_dtype(dtype: str) -> Layout:
    """Return a conversion of the float inputs of a structured array to a dtype."""

    def convert(x: AnyArray) -> AnyArray:
        kinds = {each.name: each.dtype for each in LAYOUT.inputs}
        return join_inputs(
            {name: x[name].astype(dtype) if kinds[name] == "float" else x[name] for name in kinds}
        )

    return convert


def _augmented_fit(trial: Trial, case: LayoutCase) -> Results:
    """Return the tensors after a training on inputs with noise, which is no whole number."""
    if not has(trial, "augment"):
        return {}
    noise = InputNoise(0.4, input=next((each.name for each in case.model.inputs), ""))
    recipe = regression_recipe(trial, batch_size=4, epochs=1, augment=(noise,))
    samples, plan = Samples(case.batch.x, case.batch.y), Plan(3, parity=True)
    found = TrainingCase(case.model, case.weights, samples, recipe, plan).run(trial.engine)
    return {f"{name} after fit": values for name, values in found.items()}


def _compare(trial: Trial, model: Model | None, layouts: Mapping[str, Layout]) -> None:
    """Compare what all methods compute of inputs of floats in each dtype."""
    loss = example_loss(trial)
    compare_layouts(trial, "x", OF_DTYPES, loss, change_x, model, layouts)
    # Noise is added to short floats in their own dtype.
    whole = {words: layout for words, layout in layouts.items() if "int" in words}
    augmented = {"a fit of augmented inputs": _augmented_fit}
    compare_layouts(trial, "x", augmented, loss, change_x, model, whole)


@check("shapes", "dtypes-of-x")
def dtypes(trial: Trial) -> None:
    """Inputs that are whole numbers, as bytes, as long integers and as short floats.

    Why: Images are kept as bytes. Scaling them is a step before training, and an engine that scales
    them as well trains on other numbers than those that it was given.
    Broken by: An engine that divides bytes by 255, as ToTensor does, or that computes with them or
    adds noise to them in their own dtype.
    Fix: Convert x to the dtype of the engine and leave the values as they are; `input_arrays` does.
    """
    _compare(trial, None, DTYPES_OF_X)


@check("shapes", "dtypes-of-inputs", requires=needed_layers(LAYOUT))
def dtypes_of_inputs(trial: Trial) -> None:
    """Several inputs, of which those of floats are whole numbers: bytes, long integers and short
    floats.

    Why: An image among several inputs is kept as bytes too, and each input has a dtype of its own.
    Broken by: An engine that divides the bytes of a field by 255, or computes with them in their
    own dtype.
    Fix: Convert each input to the dtype of the engine and leave the values as they are;
    `input_arrays` does.
    """
    _compare(trial, LAYOUT, {f"of dtype {name}": _fields_in_dtype(name) for name in OF_X})


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
