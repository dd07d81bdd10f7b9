"""The jax engine, as its users would write it: a pure forward pass, jax.grad, compiled steps over
donated buffers."""

from dlsys_bench.engines.jax.engine import JaxEngine

__all__ = ["JaxEngine"]
