"""Networks trained in numpy alone: each layer's forward and backward side by side."""

from dlsys_bench.engines.numpy.engine import NumpyEngine

__all__ = ["NumpyEngine"]
