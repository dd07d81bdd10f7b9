"""Every array that an engine takes, in other memory layouts: the values alone count.

The arrays have the dtype of the engine, so that no conversion makes a contiguous copy of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.support import (
    example_loss,
    has,
    supported,
    trainable,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import BrokenError, close
from dlsys_bench.conformance.strategies import inputs as inputs_of
from dlsys_bench.conformance.strategies import nonzero_weights
from dlsys_bench.conformance.strategies import targets as targets_of
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples, split_inputs
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.spec.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Shape,
)
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

AnyArray = NDArray[Any]


def _column_order(values: AnyArray) -> AnyArray:
    return np.asfortranarray(values)


def _strided(values: AnyArray) -> AnyArray:
    every_second = (slice(None, None, 2),) * values.ndim
    whole = np.ones([2 * size for size in values.shape], values.dtype)
    whole[every_second] = values
    return whole[every_second]


def _reversed(values: AnyArray) -> AnyArray:
    backwards = (slice(None, None, -1),) * values.ndim
    return values[backwards].copy()[backwards]


def _swapped_bytes(values: AnyArray) -> AnyArray:
    return values.astype(values.dtype.newbyteorder("S"))


def _read_only(values: AnyArray) -> AnyArray:
    fixed = values.copy()
    fixed.flags.writeable = False
    return fixed


def _unaligned(values: AnyArray) -> AnyArray:
    memory = np.empty(values.nbytes + 1, np.uint8)
    found: AnyArray = memory[1:].view(values.dtype).reshape(values.shape)
    found[...] = values
    return found


def _mapped(values: AnyArray) -> AnyArray:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "values.npy"
        np.save(path, values)
        # The file is removed; its pages stay as long as they are mapped.
        found: AnyArray = np.load(path, mmap_mode="r")
    return found


Layout = Callable[[AnyArray], AnyArray]
"""Returns an array of equal values in another memory layout."""

LAYOUTS: Mapping[str, Layout] = {
    "in column order": _column_order,
    "of every second element": _strided,
    "with negative strides": _reversed,
    "in the other byte order": _swapped_bytes,
    "that is read-only": _read_only,
    "that is not aligned": _unaligned,
    "of a file, by np.load": _mapped,
}
"""Each layout by the words that follow the name of an argument in a finding."""


class LayoutCase(NamedTuple):
    """The arguments of all methods, as contiguous arrays."""

    model: Model
    weights: Weights
    batch: Batch
    loss: Loss


def _network(trial: Trial) -> Model:
    """Return a small network of the layers that have tensors, with no two axes of equal size."""
    layers: tuple[Layer, ...] = (BatchNorm(), Dropout(0.5), Dense(3))
    shape: Shape = (6,)
    if has(trial, "layer:flatten", "layer:conv2d"):
        shape, layers = (4, 3, 2), (Conv2D(5, (2, 1)), Flatten(), *layers)
    return Model("layouts", shape, layers)


def _case(trial: Trial, model: Model, loss: Loss, whole: bool) -> LayoutCase:
    """Return the arguments of all methods for a model, with inputs that are whole numbers below 8
    or standard normal."""
    model = trainable(trial, model, loss)
    dtype, generator = trial.engine.dtype, np.random.default_rng((trial.seed, 8))

    def values(generator: np.random.Generator, shape: tuple[int, ...]) -> AnyArray:
        drawn = generator.integers(0, 8, shape) if whole else generator.standard_normal(shape)
        return drawn.astype(dtype)

    x = inputs_of(model, 8, generator, values)
    y = targets_of(loss, model.output_shape[0], 8, generator)
    weights: Weights = {
        name: values.astype(dtype) for name, values in nonzero_weights(model, trial.seed).items()
    }
    masks = Plan(trial.seed).masks(model, 0, 8)
    batch = Batch(x, y.astype(dtype) if loss.targets == "values" else y, masks)
    return LayoutCase(model, weights, batch, loss)


Results = dict[str, AnyArray]
"""What a method computes, by its name in a finding."""


def _build(trial: Trial, case: LayoutCase) -> Results:
    found: Results = dict(trial.engine.weights(trial.engine.build(case.model, case.weights)))
    return {f"{name} of a network that is built": values for name, values in found.items()}


def _predict(trial: Trial, case: LayoutCase) -> Results:
    network = trial.engine.build(case.model, case.weights)
    return {"the prediction": trial.engine.predict(network, case.batch.x)}


def _trace(trial: Trial, case: LayoutCase) -> Results:
    outputs = trial.engine.trace(trial.engine.build(case.model, case.weights), case.batch)
    return {f"the output of {n}": y for n, y in zip(case.model.names, outputs, strict=True)}


def _gradients(trial: Trial, case: LayoutCase) -> Results:
    network = trial.engine.build(case.model, case.weights)
    loss, weights, x = trial.engine.gradients(network, case.batch, case.loss)
    gradients = {**weights, **({} if x is None else split_inputs(x))}
    return {"the loss": np.array(loss), **{f"d {name}": dx for name, dx in gradients.items()}}


def _fit(trial: Trial, case: LayoutCase) -> Results:
    return _after_fit(trial, case, Plan(3, parity=True))


def _fit_natively(trial: Trial, case: LayoutCase) -> Results:
    return _after_fit(trial, case, Plan(3)) if trial.native else {}


def _after_fit(trial: Trial, case: LayoutCase, plan: Plan) -> Results:
    network = trial.engine.build(case.model, case.weights)
    recipe = Recipe(SGD(0.1), batch_size=4, epochs=1, shuffle=False, loss=case.loss)
    recipe = supported(trial, recipe)
    train(trial.engine, network, Samples(case.batch.x, case.batch.y), recipe, plan)
    found: Results = dict(trial.engine.weights(network))
    return {f"{name} after fit": values for name, values in found.items()}


Method = Callable[[Trial, LayoutCase], Results]
ChangeOfLayout = Callable[[LayoutCase, Layout], LayoutCase]


def compare_layouts(
    trial: Trial,
    argument: str,
    methods: Mapping[str, Method],
    loss: Loss,
    change: ChangeOfLayout,
    model: Model | None = None,
    layouts: Mapping[str, Layout] = LAYOUTS,
) -> None:
    """Compare what methods compute of an argument in each layout and of a contiguous one.

    In LAYOUTS, inputs are standard normal, and otherwise whole numbers below 8.
    """
    case = _case(trial, model or _network(trial), loss, layouts is not LAYOUTS)
    for method, compute in methods.items():
        expected = compute(trial, case)
        for words, layout in layouts.items():
            given = f"{argument} {words}"
            try:
                actual = compute(trial, change(case, layout))
            except BrokenError as error:
                raise error.on(f"{method} of {given}, seed {trial.seed}") from None
            for name, values in expected.items():
                allowed = trial.tolerance * magnitude(values)
                close(f"{name}, by {method} of {given}", actual[name], values, allowed)


OF_INPUTS = {"predict": _predict, "trace": _trace, "gradients": _gradients, "fit": _fit}
"""The methods that take inputs."""

OF_DTYPES = {**OF_INPUTS, "a native fit": _fit_natively}
"""Those methods, with a training for which an engine may keep the inputs in their own dtype."""


def change_x(case: LayoutCase, layout: Layout) -> LayoutCase:
    """Return the arguments with x in a layout."""
    return case._replace(batch=case.batch._replace(x=layout(case.batch.x)))


@check("shapes", "layout-of-weights")
def weights(trial: Trial) -> None:
    """The weights that `build` is given, in other memory layouts.

    Why: A matrix that is transposed, sliced or read from a file is not C-contiguous, which its
    owner may not notice.
    Broken by: An engine that passes weights on as memory, without their strides and byte order.
    Fix: Convert arrays by np.ascontiguousarray, with the dtype of the engine, where they come in.
    """

    def change(case: LayoutCase, layout: Layout) -> LayoutCase:
        return case._replace(weights={name: layout(w) for name, w in case.weights.items()})

    methods = {"build": _build, "predict": _predict, "gradients": _gradients, "fit": _fit}
    compare_layouts(trial, "tensors", methods, example_loss(trial), change)


@check("shapes", "layout-of-x")
def inputs(trial: Trial) -> None:
    """The inputs of every method, in other memory layouts.

    Why: A matrix that is transposed, sliced or read from a file is not C-contiguous, which its
    owner may not notice.
    Broken by: An engine that passes x on as memory, without its strides and byte order.
    Fix: Convert arrays by np.ascontiguousarray, with the dtype of the engine, where they come in.
    """
    compare_layouts(trial, "x", OF_INPUTS, example_loss(trial), change_x)


@check("shapes", "layout-of-targets")
def targets(trial: Trial) -> None:
    """Targets of every form that a loss of the engine takes (values, labels and signs), in other
    memory layouts.

    Why: A matrix that is transposed, sliced or read from a file is not C-contiguous, which its
    owner may not notice.
    Broken by: An engine that passes targets on as memory, without their strides and byte order.
    Fix: Convert arrays by np.ascontiguousarray, with the dtype of the engine, where they come in.
    """

    def change(case: LayoutCase, layout: Layout) -> LayoutCase:
        return case._replace(batch=case.batch._replace(y=layout(case.batch.y)))

    of_form = {LOSSES[kind].targets: LOSSES[kind] for kind in trial.losses}
    for form, record in of_form.items():
        methods = {"gradients": _gradients, "fit": _fit}
        compare_layouts(trial, form, methods, record.of(), change)


@check("shapes", "layout-of-masks", requires=["layer:dropout"])
def masks(trial: Trial) -> None:
    """The masks of dropout, in other memory layouts.

    Why: A matrix that is transposed, sliced or read from a file is not C-contiguous, which its
    owner may not notice.
    Broken by: An engine that passes masks on as memory, without their strides and byte order.
    Fix: Convert arrays by np.ascontiguousarray, with the dtype of the engine, where they come in.
    """

    def change(case: LayoutCase, layout: Layout) -> LayoutCase:
        given = {place: layout(mask) for place, mask in (case.batch.masks or {}).items()}
        return case._replace(batch=case.batch._replace(masks=given))

    methods = {"trace": _trace, "gradients": _gradients}
    compare_layouts(trial, "masks", methods, example_loss(trial), change)
