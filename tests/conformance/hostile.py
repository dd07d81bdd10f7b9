"""Engines that do what no engine should. Each breaks one thing of the healthy numpy engine."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import numpy as np

from dlsys_bench.engines.base import Gradients
from dlsys_bench.engines.numpy import NumpyEngine


class Hangs(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        time.sleep(1000)


class HangsInC(NumpyEngine):
    """Where no Python signal handler is ever called."""

    def trace(self, *args: Any, **options: Any) -> Any:
        ctypes.PyDLL(None).sleep(1000)


class Crashes(NumpyEngine):
    def gradients(self, *args: Any, **options: Any) -> Any:
        os.abort()


class Exits(NumpyEngine):
    def predict(self, *args: Any, **options: Any) -> Any:
        raise SystemExit("done")


class Dies(NumpyEngine):
    """Without a word."""

    def predict(self, *args: Any, **options: Any) -> Any:
        os._exit(3)


class DiesOfSoftmax(NumpyEngine):
    def build(self, model: Any, *args: Any, **options: Any) -> Any:
        if "softmax" in str(model):
            os._exit(3)
        return super().build(model, *args, **options)


class WrongShape(NumpyEngine):
    def predict(self, *args: Any) -> Any:
        return super().predict(*args).T


class WrongDtype(NumpyEngine):
    def predict(self, *args: Any) -> Any:
        return super().predict(*args).astype("float16")


class NotAnArray(NumpyEngine):
    def trace(self, *args: Any) -> Any:
        return [y.tolist() for y in super().trace(*args)]


class NotANumber(NumpyEngine):
    def gradients(self, *args: Any) -> Any:
        found = super().gradients(*args)
        return Gradients(found.loss, found.weights, np.full_like(found.x, np.nan))


class LosesATensor(NumpyEngine):
    def weights(self, *args: Any) -> Any:
        found = super().weights(*args)
        found.pop(next(iter(found)), None)
        return found


class WritesIntoX(NumpyEngine):
    def predict(self, net: Any, x: Any) -> Any:
        found = super().predict(net, x)
        x *= 2
        return found


class WritesIntoLabels(NumpyEngine):
    def fit(self, net: Any, samples: Any, *args: Any, **options: Any) -> Any:
        yield from super().fit(net, samples, *args, **options)
        samples.y[...] = 0


class ReturnsViews(NumpyEngine):
    def weights(self, net: Any) -> Any:
        return {name: tensor[0] for name, tensor in net.tensors.items()}


class ReusesItsOutput(NumpyEngine):
    buffer = np.empty((2000, 50))

    def predict(self, net: Any, x: Any) -> Any:
        found = super().predict(net, x)
        view = self.buffer.reshape(-1)[: found.size].reshape(found.shape)
        view[...] = found
        return view


class Prints(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        print("epoch 1/10 \x00 }{")
        return super().fit(*args, **options)


class PrintsInC(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        os.write(1, b"\xff\xfe garbage\n")
        return super().fit(*args, **options)


class RaisesInFit(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


class CannotBeMade(NumpyEngine):
    def __init__(self, *args: Any, **options: Any) -> None:
        raise ImportError("libfast.so.3: cannot open shared object file")


class NoHistory(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Any:
        for _ in super().fit(*args, **options):
            pass


class Undecided(NumpyEngine):
    """Another answer each time."""

    def trace(self, *args: Any) -> Any:
        return [y + np.random.default_rng().normal(0, 1e-3, y.shape) for y in super().trace(*args)]
