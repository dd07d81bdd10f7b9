"""The numpy engine: the forward and the backward pass of each layer, next to each other."""

from dlsys_bench.engines.numpy.engine import NumpyEngine

__all__ = ["NumpyEngine"]
