"""An engine under watch: whatever it is handed stays as it was, whatever it hands back is what the
protocol says."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from typing import Any

import numpy as np

from dlsys_bench.conformance.finding import BrokenError, broken
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine, Gradients
from dlsys_bench.engines.epochs import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.errors import DivergedError, EngineError, NotApplicableError, nearest
from dlsys_bench.spec.initializers import INITIALIZERS
from dlsys_bench.spec.layers import FUNCTIONS, LAYERS, Activation
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

DECLARABLE: Mapping[str, Collection[str]] = {
    "layer": LAYERS,
    "function": FUNCTIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "initializer": INITIALIZERS,
    "dtype": ("float32", "float64"),
}

LOOSEST = 0.01
"""A tolerance above this would let a mistake through that people make."""

# Results of so many calls are looked at again, to see that no later call wrote into them.
REMEMBERED = 4


def check_declarations(engine: Engine, checks: Collection[str]) -> None:
    """Raise an EngineError where an engine declares what is not there to be declared, or more than
    is credible."""
    known = [f"{what}:{kind}" for what, kinds in DECLARABLE.items() for kind in kinds]
    known += ["schedule", "batch_sizes", "native", *checks]
    for name in engine.lacks:
        if name not in known:
            raise EngineError(
                f"lacks has {name!r}{nearest(name, known)}: see dlsys_bench.engines.Engine"
            )
    places = [*dict.fromkeys(check.partition("/")[0] for check in checks), *checks]
    for name, declared in engine.loosens.items():
        if name not in places:
            raise EngineError(
                f"loosens has {name!r}{nearest(name, places)}, which is no rung and no check"
            )
        if not isinstance(declared, tuple) or len(declared) != 2 or not 0 < declared[0] <= LOOSEST:
            raise EngineError(
                f"loosens[{name!r}] is {declared!r}; it takes (a relative tolerance up to {LOOSEST:g}, the reason)"
            )


class Guard:
    """The methods of an engine, each watched. A network is handed on together with its model."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.given: list[tuple[str, Array, Array]] = []
        for name in ("name", "convention", "conventions", "devices", "dtypes", "dtype", "device"):
            if not hasattr(engine, name):
                raise broken(f"the engine has no {name}: see dlsys_bench.engines.Engine")

    def able(
        self,
        model: Model,
        loss: Loss | None = None,
        recipe: Recipe | None = None,
        *,
        parity: bool = False,
    ) -> None:
        """Raise a NotApplicableError with the engine's own reason where it declares that it lacks
        what is asked."""
        needed = [f"layer:{layer.kind}" for layer in model.layers]
        needed += [
            f"function:{layer.function}" for layer in model.layers if isinstance(layer, Activation)
        ]
        needed += [f"initializer:{tensor.initializer.kind}" for tensor in model.tensors]
        if loss is not None:
            needed.append(f"loss:{loss.kind}")
        if recipe is not None:
            needed += [] if parity else ["native"]
            needed.append(f"optimizer:{recipe.optimizer.kind}")
            needed += ["schedule"] if recipe.schedule is not None else []
            needed += ["batch_sizes"] if recipe.batch_sizes is not None else []
        for need in needed:
            if need in self.engine.lacks:
                raise NotApplicableError(f"{need}: {self.engine.lacks[need]}")

    @property
    def dtype(self) -> str:
        return self.engine.dtype

    @property
    def conventions(self) -> tuple[str, ...]:
        return self.engine.conventions

    def check(self, *records: Record) -> None:
        self.engine.check(*records)

    def _call(self, method: str, inputs: list[Array], *args: Any, **options: Any) -> Any:
        return self._watch(method, inputs, lambda: getattr(self.engine, method)(*args, **options))

    def _watch(self, method: str, inputs: list[Array], call: Callable[[], Any]) -> Any:
        before = [array.copy() for array in inputs]
        try:
            result = call()
        except (BrokenError, DivergedError):
            raise
        except (Exception, SystemExit) as error:
            raise broken(
                f"{method} raised {type(error).__name__}: {error}{_where(error)}"
            ) from error
        for array, copy in zip(inputs, before, strict=True):
            if not np.array_equal(array, copy, equal_nan=True):
                raise broken(
                    f"{method} wrote into an array that it was given, of shape {array.shape}"
                )
        for earlier, array, copy in self.given:
            if not np.array_equal(array, copy, equal_nan=True):
                raise broken(
                    f"{method} changed what {earlier} had returned, of shape {array.shape}: "
                    "return copies, not views of the engine's own buffers"
                )
        return result

    def _remember(self, method: str, arrays: list[Array]) -> None:
        self.given = [*self.given, *((method, array, array.copy()) for array in arrays)][
            -8 * REMEMBERED :
        ]

    def _array(
        self, what: str, found: object, shape: tuple[int, ...], dtype: str | None = None
    ) -> Array:
        if not isinstance(found, np.ndarray):
            raise broken(
                f"{what} is a {type(found).__module__}.{type(found).__name__}; it takes a numpy array"
            )
        if found.shape != shape:
            raise broken(f"{what} has the shape {found.shape}, not {shape}")
        if str(found.dtype) != (dtype or self.dtype):
            raise broken(f"{what} is {found.dtype}, not {dtype or self.dtype}")
        return found

    def _tensors(self, what: str, found: object, model: Model, *, trainable: bool) -> Weights:
        if not isinstance(found, Mapping):
            raise broken(f"{what} is a {type(found).__name__}; it takes a dict of arrays by name")
        shapes = {t.name: t.shape for t in model.tensors if t.trainable or not trainable}
        if set(found) != set(shapes):
            lost, more = (
                sorted(set(shapes) - set(found)),
                sorted(map(str, set(found) - set(shapes))),
            )
            raise broken(
                f"{what} lacks {lost}, has {more} that the model has not"
                if more
                else f"{what} lacks {lost}"
            )
        return {
            name: self._array(f"{what}[{name!r}]", found[name], shape)
            for name, shape in shapes.items()
        }

    def build(
        self, model: Model, weights: Weights | None = None, *, seed: int = 0
    ) -> tuple[Any, Model]:
        self.able(model)
        return self._call("build", list((weights or {}).values()), model, weights, seed=seed), model

    def weights(self, net: tuple[Any, Model]) -> Weights:
        found = self._tensors("weights", self._call("weights", [], net[0]), net[1], trainable=False)
        self._remember("weights", list(found.values()))
        return found

    def predict(self, net: tuple[Any, Model], x: Array) -> Array:
        found = self._array(
            "predict", self._call("predict", [x], net[0], x), (len(x), *net[1].output_shape)
        )
        self._remember("predict", [found])
        return found

    def gradients(self, net: tuple[Any, Model], batch: Batch, loss: Loss) -> Gradients:
        self.able(net[1], loss)
        found = self._call("gradients", _arrays(batch), net[0], batch, loss)
        try:
            value, by_name, dx = found
            value = float(value)
        except (TypeError, ValueError):
            raise broken(
                f"gradients gave {type(found).__name__}; it takes Gradients(loss, weights, x)"
            ) from None
        weights = self._tensors("gradients", by_name, net[1], trainable=True)
        dx = self._array("the gradient in x", dx, batch.x.shape)
        self._remember("gradients", [*weights.values(), dx])
        return Gradients(value, weights, dx)

    def trace(self, net: tuple[Any, Model], batch: Batch) -> list[Array]:
        found = self._call("trace", _arrays(batch), net[0], batch)
        if not isinstance(found, list | tuple) or len(found) != len(net[1].layers):
            told = len(found) if isinstance(found, list | tuple) else type(found).__name__
            raise broken(
                f"trace gave {told}; it takes an array for each of the {len(net[1].layers)} layers"
            )
        named = zip(net[1].names, found, net[1].shapes[1:], strict=True)
        arrays = [
            self._array(f"trace of {name}", y, (len(batch.x), *shape)) for name, y, shape in named
        ]
        self._remember("trace", arrays)
        return arrays

    def fit(
        self, net: tuple[Any, Model], samples: Samples, recipe: Recipe, plan: Plan
    ) -> Generator[Epoch]:
        self.able(net[1], recipe.loss, recipe, parity=plan.parity)
        inputs = [samples.x, samples.y]
        training = self._call("fit", inputs, net[0], samples, recipe, plan)
        if not isinstance(training, Generator):
            raise broken(
                f"fit gave {type(training).__name__}; it takes a generator that yields an Epoch as each one ends"
            )
        with contextlib.closing(training):
            number = 0
            while (epoch := self._watch("fit", inputs, lambda: next(training, None))) is not None:
                number += 1
                if not isinstance(epoch, Epoch):
                    raise broken(
                        f"fit gave {type(epoch).__name__} for epoch {number}; it takes an Epoch"
                    )
                if not math.isfinite(epoch.running_loss):
                    raise broken(
                        f"epoch {number} has a running loss of {epoch.running_loss}, and no DivergedError was raised"
                    )
                yield epoch


def _arrays(batch: Batch) -> list[Array]:
    return [batch.x, batch.y, *(batch.masks or {}).values()]


def _where(error: BaseException) -> str:
    """The last place in the traceback, which is the engine's or a framework's."""
    frames = _frames(error)
    last = next(frames, None)
    return f" ({last.filename}:{last.lineno})" if last else ""


def _frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    return iter(reversed(traceback.extract_tb(error.__traceback__)[1:]))
