"""A proxy for an engine that checks the protocol of every call.

Checks call an engine through a Guard. It passes each call on and then looks at what the call did:
results must have the type, the shape, the dtype and the names that the protocol states, and nothing
else may change. For this, it copies every argument before the call and compares it afterwards, and
it keeps copies of the latest results, which no later call may overwrite.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from dlsys_bench.conformance.finding import BrokenError, Fault, broken
from dlsys_bench.data import Samples, split_inputs
from dlsys_bench.data.inputs import X
from dlsys_bench.engines.base import Batch, Engine, Gradients
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.requirements import lack, requirements
from dlsys_bench.errors import DivergedError, NotApplicableError, count_of
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record
from dlsys_bench.text import describe, place_of

REMEMBERED = 32
"""The number of returned arrays that are compared with their copies at each later call."""

ATTRIBUTES = ("name", "convention", "conventions", "devices", "dtypes", "dtype", "device")

GuardedNetwork = tuple[Any, Model]
"""A network of the engine together with its model."""


class Guard:
    """An engine whose calls are checked. Raises BrokenError where one breaks the protocol."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.returned: list[tuple[str, Array, Array]] = []
        for name in ATTRIBUTES:
            if not hasattr(engine, name):
                message = f"the engine has no attribute {name!r}: see dlsys_bench.engines.Engine"
                raise broken(Fault.WRONG_TYPE, message)

    def require(
        self,
        model: Model,
        loss: Loss | None = None,
        recipe: Recipe | None = None,
        *,
        parity: bool = False,
        drawn: bool = False,
    ) -> None:
        """Raise NotApplicableError if the engine declares that it lacks something of these.

        Initialisers are required only of a model whose weights are `drawn` by the engine.
        """
        needed = requirements(model, loss, recipe, parity=parity, drawn=drawn)
        if missing := lack(self.engine, needed):
            raise NotApplicableError(missing)

    @property
    def dtype(self) -> str:
        """The dtype of the engine."""
        return self.engine.dtype

    @property
    def conventions(self) -> tuple[str, ...]:
        """The conventions of the engine."""
        return self.engine.conventions

    def check(self, *records: Record) -> None:
        """Call `Engine.check`."""
        self.engine.check(*records)

    def build(
        self, model: Model, weights: Weights | None = None, *, seed: int = 0
    ) -> GuardedNetwork:
        """Call `Engine.build` and return the network with its model."""
        self.require(model, drawn=weights is None)
        arrays = list((weights or {}).values())
        return self._call("build", arrays, model, weights, seed=seed), model

    def weights(self, net: GuardedNetwork) -> Weights:
        """Call `Engine.weights` and check the names, shapes and dtypes."""
        found = self._call("weights", [], net[0])
        tensors = self._tensors("weights", found, net[1], trainable=False)
        return self._remembered("weights", tensors)

    def predict(self, net: GuardedNetwork, x: Array) -> Array:
        """Call `Engine.predict` and check the output."""
        found = self._call("predict", [x], net[0], x)
        output = self._array("the result of predict", found, (len(x), *net[1].output_shape))
        return self._remembered("predict", {"": output})[""]

    def gradients(self, net: GuardedNetwork, batch: Batch, loss: Loss) -> Gradients:
        """Call `Engine.gradients` and check every gradient."""
        self.require(net[1], loss)
        found = self._call("gradients", _arrays(batch), net[0], batch, loss)
        try:
            value, by_name, dx = found
        except (TypeError, ValueError):
            raise _wrong_type(
                "the result of gradients", found, "Gradients(loss, weights, x)"
            ) from None
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise _wrong_type("the loss of gradients", value, "a number") from None
        weights = self._tensors("gradients", by_name, net[1], trainable=True)
        self._remembered("gradients", {**weights, **self._input_gradients(dx, batch, net[1])})
        return Gradients(value, weights, dx)

    def _input_gradients(self, dx: Array | None, batch: Batch, model: Model) -> dict[str, Array]:
        """Check the gradient with respect to x, and return that of each input by its name."""
        floats = [each.name for each in model.input_table if each.dtype == "float"]
        if not floats:
            if dx is not None:
                raise _wrong_type("the gradient with respect to token ids", dx, "None")
            return {}
        what = "the gradient with respect to x"
        if not isinstance(dx, np.ndarray):
            raise _wrong_type(what, dx, "a numpy array")
        if not model.inputs:
            return {X: self._array(what, dx, batch.x.shape)}
        if dx.dtype.names != tuple(floats):
            names = {"actual": str(dx.dtype.names), "expected": str(tuple(floats))}
            raise broken(Fault.WRONG_TYPE, f"the inputs in {what}", **names)
        found, given = split_inputs(dx), split_inputs(batch.x)
        return {
            name: self._array(f"{what}[{name!r}]", found[name], given[name].shape)
            for name in floats
        }

    def trace(self, net: GuardedNetwork, batch: Batch) -> list[Array]:
        """Call `Engine.trace` and check the output of every layer."""
        found, model = self._call("trace", _arrays(batch), net[0], batch), net[1]
        expected = f"one array for each of the {len(model.layers)} layers"
        if not isinstance(found, list | tuple):
            raise _wrong_type("the result of trace", found, expected)
        if len(found) != len(model.layers):
            what, actual = "the result of trace", count_of(len(found), "array")
            raise broken(Fault.WRONG_SHAPE, what, actual=actual, expected=expected)
        outputs = {
            name: self._array(f"trace of {name}", y, (len(batch.x), *shape))
            for name, y, shape in zip(model.names, found, model.output_shapes, strict=True)
        }
        return list(self._remembered("trace", outputs).values())

    def fit(
        self, net: GuardedNetwork, samples: Samples, recipe: Recipe, plan: Plan
    ) -> Generator[Epoch]:
        """Call `Engine.fit` and check every epoch as it is yielded."""
        self.require(net[1], recipe.loss, recipe, parity=plan.parity)
        inputs = [samples.x, samples.y]
        training = self._call("fit", inputs, net[0], samples, recipe, plan)
        if not isinstance(training, Generator):
            expected = "a generator that yields an Epoch as each one ends"
            raise _wrong_type("the result of fit", training, expected)
        number = 0
        with contextlib.closing(training):
            while (epoch := self._watch("fit", inputs, lambda: next(training, None))) is not None:
                number += 1
                yield _checked_epoch(epoch, number)

    def _call(self, method: str, inputs: list[Array], *args: Any, **options: Any) -> Any:
        """Call a method of the engine and watch what it does to arrays."""
        return self._watch(method, inputs, lambda: getattr(self.engine, method)(*args, **options))

    def _watch(self, method: str, inputs: list[Array], call: Callable[[], Any]) -> Any:
        """Return the result of a call, unless it changed an argument or an earlier result."""
        before = [array.copy() for array in inputs]
        try:
            result = call()
        except (BrokenError, DivergedError, KeyboardInterrupt):
            raise
        except BaseException as error:
            message = f"{method} raised {describe(error)}{_where(error)}"
            raise broken(Fault.RAISED, message) from error
        for array, copy in zip(inputs, before, strict=True):
            if not _equal(array, copy):
                message = f"{method} wrote into an array that it was given, of shape {array.shape}"
                raise broken(Fault.SIDE_EFFECT, message)
        for earlier, array, copy in self.returned:
            if not _equal(array, copy):
                message = (
                    f"{method} changed an array that {earlier} had returned, of shape "
                    f"{array.shape}: return copies, not views of the engine's own buffers"
                )
                raise broken(Fault.SIDE_EFFECT, message)
        return result

    def _remembered(self, method: str, arrays: dict[str, Array]) -> dict[str, Array]:
        """Keep copies of the arrays that a method returned, and return the arrays."""
        kept = [(method, array, array.copy()) for array in arrays.values()]
        self.returned = [*self.returned, *kept][-REMEMBERED:]
        return arrays

    def _array(self, what: str, found: object, shape: tuple[int, ...]) -> Array:
        if not isinstance(found, np.ndarray):
            raise _wrong_type(what, found, "a numpy array")
        if found.shape != shape:
            shapes = {"actual": str(found.shape), "expected": str(shape)}
            raise broken(Fault.WRONG_SHAPE, f"the shape of {what}", **shapes)
        if str(found.dtype) != self.dtype:
            dtypes = {"actual": str(found.dtype), "expected": self.dtype}
            raise broken(Fault.WRONG_TYPE, f"the dtype of {what}", **dtypes)
        return found

    def _tensors(self, what: str, found: object, model: Model, *, trainable: bool) -> Weights:
        if not isinstance(found, Mapping):
            raise _wrong_type(f"the result of {what}", found, "a dict of arrays by name")
        shapes = {t.name: t.shape for t in model.tensors if t.trainable or not trainable}
        if set(found) != set(shapes):
            names = {"actual": str(sorted(map(str, found))), "expected": str(sorted(shapes))}
            raise broken(Fault.WRONG_TYPE, f"the names of the tensors in {what}", **names)
        return {
            name: self._array(f"{what}[{name!r}]", found[name], shape)
            for name, shape in shapes.items()
        }


def _checked_epoch(epoch: object, number: int) -> Epoch:
    if not isinstance(epoch, Epoch):
        raise _wrong_type(f"epoch {number} of fit", epoch, "an Epoch")
    if not math.isfinite(epoch.running_loss):
        what = f"the running loss of epoch {number}"
        expected = "a finite value, or a DivergedError"
        raise broken(Fault.NOT_FINITE, what, actual=str(epoch.running_loss), expected=expected)
    return epoch


def _wrong_type(what: str, found: object, expected: str) -> BrokenError:
    actual = f"{type(found).__module__}.{type(found).__name__}"
    if isinstance(found, np.ndarray):
        actual += f" of shape {found.shape}"
    return broken(Fault.WRONG_TYPE, what, actual=actual, expected=expected)


def _equal(array: Array, copy: Array) -> bool:
    """Return whether the values of two arrays, or of their fields, are equal."""
    parts = zip(split_inputs(array).values(), split_inputs(copy).values(), strict=True)
    return all(np.array_equal(*each, equal_nan=True) for each in parts)


def _arrays(batch: Batch) -> list[Array]:
    return [batch.x, batch.y, *(batch.masks or {}).values()]


def _where(error: BaseException) -> str:
    """Return the place in which an error was raised, in the engine or in a framework."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return f" ({place_of(frames[-1])})" if frames else ""
