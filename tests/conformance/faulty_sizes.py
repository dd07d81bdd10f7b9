"""Engines with one fault each: at a size, in a smallest case, or for a memory layout."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Gradients
from dlsys_bench.engines.epochs import epoch_runs
from dlsys_bench.engines.numpy import NumpyEngine, training
from dlsys_bench.engines.numpy.convolution import ConvolutionRule
from dlsys_bench.engines.numpy.dense import DenseRule
from dlsys_bench.engines.numpy.dropout import DropoutRule
from dlsys_bench.engines.numpy.normalization import BatchNormRule
from dlsys_bench.engines.numpy.ruleset import NUMPY_RULES, RuleSet
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.layers import BatchNorm, Conv2D, Dense, Dropout, Layer


def rule_set(layer: type[Layer], rule: Any) -> RuleSet:
    """Return the rules of numpy with another one for a layer."""
    return NUMPY_RULES._replace(rules={**NUMPY_RULES.rules, layer: rule})


class _ForgetsRows(DenseRule):
    def backward(self, dy: Any, wants_dx: bool) -> Any:
        dx = super().backward(dy, wants_dx)
        self.gradients["kernel"][:, 640:] = 0
        return dx


class WideFirstLayer(NumpyEngine):
    """Kernel rows beyond the 640th never learn."""

    rule_set = rule_set(Dense, _ForgetsRows)


class _ForgetsMoreRows(DenseRule):
    def backward(self, dy: Any, wants_dx: bool) -> Any:
        dx = super().backward(dy, wants_dx)
        self.gradients["kernel"][:, 512:] = 0
        return dx


class MisdescribedAsShuffling(NumpyEngine):
    """Kernel rows beyond the 512th never learn."""

    rule_set = rule_set(Dense, _ForgetsMoreRows)


class _ForgetsChannels(ConvolutionRule):
    def backward(self, dy: Any, wants_dx: bool) -> Any:
        dx = super().backward(dy, wants_dx)
        self.gradients["kernel"][..., 64:, :] = 0
        return dx


class Channels(NumpyEngine):
    """The kernel of a convolution has no gradient beyond 64 input channels."""

    rule_set = rule_set(Conv2D, _ForgetsChannels)


class _RepeatsMasks(DropoutRule[Dropout]):
    def forward(self, x: Any, training: bool) -> Any:
        if self.mask is not None and self.mask.shape[-1] > 256:
            places = np.arange(self.mask.shape[-1]) % 256
            self.mask = self.mask[..., places]
        return super().forward(x, training)


class Masks(NumpyEngine):
    """The masks of the first 256 samples are used again for the others."""

    rule_set = rule_set(Dropout, _RepeatsMasks)


class _MovesFewChannels(BatchNormRule):
    def _move(self, mean: Any, variance: Any, samples: int) -> None:
        kept = self.tensors["moving_mean"][:, 128:].copy()
        super()._move(mean, variance, samples)
        self.tensors["moving_mean"][:, 128:] = kept


class Statistics(NumpyEngine):
    """The moving means beyond the 128th channel stay as they are."""

    rule_set = rule_set(BatchNorm, _MovesFewChannels)


class Tensors(NumpyEngine):
    """The gradients of the tensors from the 33rd on are half of the right ones."""

    def gradients(self, net: Any, batch: Batch, loss: Any) -> Gradients:
        found = super().gradients(net, batch, loss)
        weights = {
            name: values * (1.0 if number < 32 else 0.5)
            for number, (name, values) in enumerate(found.weights.items())
        }
        return found._replace(weights=weights)


class RepeatedLastBatch(NumpyEngine):
    """Predictions are made by 1,024, and the last batch repeats the one before it."""

    def predict(self, net: Any, x: Any) -> Any:
        found = super().predict(net, x).copy()
        rest = len(x) % 1024
        if rest and len(x) > 8192:
            found[-rest:] = found[-rest - 1024 : -1024]
        return found


class _DividesByZero(BatchNormRule):
    """n / (n - 1) of a batch of one vector: the moving variance becomes NaN."""

    def _move(self, mean: Any, variance: Any, samples: int) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = variance * (np.float64(samples) / np.float64(samples - 1))
        for moving, now in (
            (self.tensors["moving_mean"], mean),
            (self.tensors["moving_variance"], variance),
        ):
            moving *= self.layer.moving_decay
            moving += (1.0 - self.layer.moving_decay) * now


class BatchOfOne(NumpyEngine):
    """Rejected by the bookkeeping of all engines before the moving variance becomes NaN."""

    convention, conventions = "torch", ("torch",)  # type: ignore[assignment]
    rule_set = rule_set(BatchNorm, _DividesByZero)


class BatchOfOneUnchecked(BatchOfOne):
    """The same with a loop of its own, which trains on any batch."""

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Generator[Any]:
        checked = training.training_epochs  # type: ignore[attr-defined]
        training.training_epochs = epoch_runs  # type: ignore[attr-defined]
        try:
            yield from super().fit(net, samples, recipe, plan)
        finally:
            training.training_epochs = checked  # type: ignore[attr-defined]


class RaisesValueError(NumpyEngine):
    """Refuses a batch of one by an error that does not look like advice."""

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Generator[Any]:
        if recipe.batch_size == 1:
            raise ValueError("Expected more than 1 value per channel")
        yield from super().fit(net, samples, recipe, plan)


class RejectsLate(NumpyEngine):
    """Rejects a last batch of one after it has moved the weights."""

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Generator[Any]:
        if len(samples.x) % recipe.batch_size == 1:
            net.parameters += 1
            raise EngineError("a last batch of one")
        yield from super().fit(net, samples, recipe, plan)


Change = Callable[[Any], Any]


def as_in_memory(values: Any) -> Any:
    """Return the values in the order in which they lie in memory."""
    return np.reshape(np.ravel(values, "K"), np.shape(values))


def ignoring_bytes(values: Any) -> Any:
    """Return the values as they are read in the byte order of the machine."""
    return values.view(values.dtype.newbyteorder("="))


def written(values: Any) -> Any:
    """Write into the values and return them."""
    values[...] = values
    return values


def unmapped(values: Any) -> Any:
    """Return the values, unless they are of a subclass of numpy's arrays."""
    if type(values) is not np.ndarray:
        raise TypeError(f"{type(values).__name__} is not supported")
    return values


def _of_all(arrays: Mapping[Any, Any] | None, change: Change) -> Any:
    return None if arrays is None else {key: change(values) for key, values in arrays.items()}


class Misreading(NumpyEngine):
    """An engine that misreads one argument of one method."""

    method, argument = "", ""
    change: Change = staticmethod(as_in_memory)

    def _read(self, method: str, argument: str, values: Any) -> Any:
        return self.change(values) if (method, argument) == (self.method, self.argument) else values

    def _batch(self, method: str, batch: Batch) -> Batch:
        masks = _of_all(batch.masks, lambda mask: self._read(method, "masks", mask))
        x, y = self._read(method, "x", batch.x), self._read(method, "targets", batch.y)
        return batch._replace(x=x, y=y, masks=masks)

    def build(self, model: Any, weights: Any = None, *, seed: int = 0) -> Any:
        read = _of_all(weights, lambda values: self._read("build", "weights", values))
        return super().build(model, read, seed=seed)

    def predict(self, net: Any, x: Any) -> Any:
        return super().predict(net, self._read("predict", "x", x))

    def trace(self, net: Any, batch: Batch) -> Any:
        return super().trace(net, self._batch("trace", batch))

    def gradients(self, net: Any, batch: Batch, loss: Any) -> Gradients:
        return super().gradients(net, self._batch("gradients", batch), loss)

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Generator[Any]:
        x, y = self._read("fit", "x", samples.x), self._read("fit", "targets", samples.y)
        yield from super().fit(net, Samples(x, y), recipe, plan)


def misreading(method: str, argument: str, change: Change) -> type[Misreading]:
    """Return an engine that misreads an argument of a method."""
    fault = {"method": method, "argument": argument, "change": staticmethod(change)}
    return type("Misread", (Misreading,), fault)


class ReadOnlyResults(NumpyEngine):
    """A healthy engine, whose results cannot be written to."""

    def weights(self, net: Any) -> Any:
        found = super().weights(net)
        for values in found.values():
            values.flags.writeable = False
        return found

    def predict(self, net: Any, x: Any) -> Any:
        found = super().predict(net, x).copy()
        found.flags.writeable = False
        return found
