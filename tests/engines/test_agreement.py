"""Arrays that do not agree with each other or with the model are refused in one line, by every
engine, in place of being broadcast or cut short."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples, Splits
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import train, training_epochs
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DataError
from dlsys_bench.runs.metrics import evaluate
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, Dense, Dropout
from dlsys_bench.spec.losses import CategoricalCrossEntropy, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

MODEL = Model("m", (3,), (Dense(4), Activation("tanh"), Dropout(0.5), Dense(2)))
WEIGHTS = Plan(0).weights(MODEL)
X, LABELS = np.ones((6, 3)), np.array([0, 1, 0, 1, 1, 0])
KEPT = np.ones((6, 4), bool)
SLOW = ("jax", "keras")
ENGINES = [
    *("numpy", "numba", "torch"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
]

Call = Callable[[Engine], object]


def gradients(x: Any = X, y: Any = LABELS, masks: Any = None) -> Call:
    """Return a function that computes gradients on an engine."""
    loss = CategoricalCrossEntropy()
    return lambda engine: engine.gradients(built(engine), Batch(x, y, masks), loss)


def trace(masks: Any = None, x: Any = X) -> Call:
    """Return a function that computes a trace on an engine."""
    return lambda engine: engine.trace(built(engine), Batch(x, LABELS, masks))


def predict(x: Any) -> Call:
    """Return a function that predicts on an engine."""
    return lambda engine: engine.predict(built(engine), x)


def fit(x: Any) -> Call:
    """Return a function that trains on an engine, natively."""
    recipe = Recipe(batch_size=3, epochs=1)
    return lambda engine: train(
        engine,
        built(engine),
        Samples(x, LABELS),
        to_convention(engine.convention, recipe),
        Plan(0),
    )


def replicas(x: Any) -> Call:
    """Return a function that predicts by two replicas on an engine."""
    return lambda engine: engine.replicate(
        to_convention(engine.convention, MODEL), [Plan(0), Plan(1)]
    ).predict(x)


def build(**changed: Any) -> Call:
    """Return a function that builds a network with these weights; None omits a tensor."""
    every = {name.replace("__", "."): values for name, values in changed.items()}
    weights = {name: v for name, v in (WEIGHTS | every).items() if v is not None}
    return lambda engine: engine.build(to_convention(engine.convention, MODEL), weights)


def built(engine: Engine) -> Any:
    return engine.build(to_convention(engine.convention, MODEL), WEIGHTS)


def _takes(shape: str, expected: str = "N, 3") -> str:
    return re.escape(
        f"x has shape {shape} and type float64, but model 'm' takes floats of shape ({expected})"
    )


CALLS: dict[str, tuple[Call, str]] = {
    "more x": (gradients(y=LABELS[:5]), "x has 6 samples, but y has 5"),
    "more y": (gradients(x=X[:1]), "x has 1 sample, but y has 6"),
    "labels of floats": (
        gradients(y=LABELS.astype(float)),
        "categorical_crossentropy takes labels .* but y is float64",
    ),
    "one mask for all": (
        gradients(masks={2: KEPT[:1]}),
        r"masks\[2\] has shape \(1, 4\); expected \(6, 4\)",
    ),
    "a mask of one unit": (trace({2: KEPT[:, :1]}), r"masks\[2\] has shape \(6, 1\)"),
    "a mask of another layer": (trace({1: KEPT}), "masks lack 2 and have 1: they take the places"),
    "no mask": (trace({}), "masks lack 2: they take"),
    "a bias of one value": (
        build(dense_1__bias=np.ones(1)),
        r"weights\['dense_1.bias'\] has shape \(1,\); expected \(4,\)",
    ),
    "a transposed kernel": (
        build(dense_1__kernel=WEIGHTS["dense_1.kernel"].T),
        r"weights\['dense_1.kernel'\] has shape \(4, 3\); expected \(3, 4\)",
    ),
    "no bias": (build(dense_2__bias=None), "weights lack 'dense_2.bias': they take the tensors"),
    "a misspelt bias": (
        build(dense_2__bias=None, dense_2__bais=np.ones(2)),
        r"weights lack 'dense_2.bias' and have 'dense_2.bais' \(did you mean",
    ),
    "wide x in predict": (predict(np.ones((6, 4))), _takes("(6, 4)")),
    "one sample": (predict(X[0]), _takes("(3,)")),
    "several batches": (predict(X[None]), _takes("(1, 6, 3)")),
    "narrow x in gradients": (gradients(x=X[:, :1]), _takes("(6, 1)")),
    "wide x in trace": (trace(x=np.ones((6, 4))), _takes("(6, 4)")),
    "sequences in fit": (
        fit(X[:, None]),
        _takes("(6, 1, 3)") + r"; x.reshape\(-1, 3\) has that shape",
    ),
    "text": (
        predict(X.astype(str)),
        "x has shape .* and type <U32, but model 'm' takes floats of shape .*\\)$",
    ),
    "a wide x for the bookkeeping of fit": (
        lambda engine: list(
            training_epochs(MODEL, Samples(np.ones((6, 4)), LABELS), Recipe(), Plan(0))
        ),
        _takes("(6, 4)"),
    ),
    "wide x of replicas": (replicas(np.ones((2, 6, 4))), _takes("(2, 6, 4)", "R, N, 3")),
}


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("name", ENGINES)
def test_arrays_that_do_not_agree_are_refused(name: str, what: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    call, message = CALLS[what]
    with pytest.raises(DataError, match=f"^{message}"):
        call(create(name))


def test_predictions_take_no_masks() -> None:
    engine = create("numpy")
    nothing: dict[int, Any] = {}
    without, ignored = (
        engine.trace(built(engine), Batch(X, LABELS, masks, training=False))[-1]
        for masks in (None, nothing)
    )
    np.testing.assert_array_equal(ignored, without)


@pytest.mark.parametrize(
    ("x", "y"), [(X, LABELS[:5]), (X[:1], LABELS), (X, np.ones((7, 2))), (X, LABELS[:0])]
)
def test_samples_have_as_many_targets(x: np.ndarray, y: np.ndarray) -> None:
    """Samples are what every engine trains on, however they were prepared."""
    message = f"^x has {len(x)} samples?, but y has {len(y)}$"
    with pytest.raises(DataError, match=message):
        Samples(x, y)
    with pytest.raises(DataError, match=message):
        Splits(Samples(X, LABELS), None, Samples(X, LABELS)).map(lambda part: Samples(x, y))


@pytest.mark.parametrize("count", [1, 5, 7])
def test_every_sample_has_a_prediction(count: int) -> None:
    for loss, y in ((CategoricalCrossEntropy(), LABELS), (MeanSquaredError(), np.ones((6, 2)))):
        with pytest.raises(DataError, match=f"^predict returned {count} outputs? for 6 samples$"):
            evaluate(np.ones((count, 2)), Samples(X, y), loss)
