"""The numpy engine in every way but the passes over memory that numba compiles."""

from __future__ import annotations

from dlsys_bench.engines.numba.awake import Awake
from dlsys_bench.engines.numba.losses import judge
from dlsys_bench.engines.numba.optimizers import STEPPERS
from dlsys_bench.engines.numba.rules import RULES
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.kit import Kit


class NumbaEngine(NumpyEngine):
    """numpy's products, layout and shards; what numpy does in many passes over memory, numba does in one."""

    name = "numba"
    kit = Kit(RULES, STEPPERS, judge, Awake)
