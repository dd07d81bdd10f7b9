"""The numpy engine with its passes over memory fused and compiled."""

from dlsys_bench.engines.numba.engine import NumbaEngine

__all__ = ["NumbaEngine"]
