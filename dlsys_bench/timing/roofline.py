"""The roofline of a training step: the least time that this machine needs for its work.

No step is faster than its operations at the measured peak of the matrix product, or than the bytes
that it has to move at the measured bandwidth. Each phase of a step is bound by the slower of both.
Williams, Waterman & Patterson 2009.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.runs.fields import Real, Struct
from dlsys_bench.spec import optimizers
from dlsys_bench.spec.layers import Embedding, Flatten
from dlsys_bench.spec.model import Model, TableRow
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.timing.flops import multiply_adds, training_flops
from dlsys_bench.timing.peak import Meter, copy_meter, product_meter

MOMENTS: dict[type[optimizers.Optimizer], Callable[[Any], int]] = {
    optimizers.SGD: lambda record: int(record.momentum > 0),
    optimizers.Adam: lambda record: 2,
    optimizers.RMSprop: lambda record: 1,
}
"""The number of values that an optimiser keeps for each parameter."""


ROOFLINE = Struct(
    {
        **dict.fromkeys(("matrix_peak_gflops", "bandwidth_gigabytes_per_second"), Real(least=0)),
        **dict.fromkeys(("bound_microseconds", "fraction"), Real(least=0)),
        "phases": Struct(
            {},
            others=Struct(
                dict.fromkeys(("megaflop", "megabytes", "bound_microseconds"), Real(least=0))
            ),
        ),
    },
    optional=frozenset({"fraction"}),
)
"""The fields of a stored bound."""


class Phase(NamedTuple):
    """The operations of the matrix products of a phase, and the bytes that it has to move."""

    operations: float
    bytes: float

    def seconds(self, peak: float, bandwidth: float) -> float:
        """Return the least time of the phase."""
        return max(self.operations / peak, self.bytes / bandwidth)


def step_phases(model: Model, recipe: Recipe, itemsize: int = 4) -> dict[str, Phase]:
    """Return the phases of an update on a batch of the recipe: forward, backward and update.

    Bytes are what no implementation avoids: the inputs, the parameters, the values that a matrix
    product needs again for the gradient of its kernel, and the state of the optimiser. Gradients of
    parameters do not count, since an update may be fused with the product that computes them.
    """
    samples, products = recipe.batch_size, multiply_adds(model)
    rows = [row for row, count in zip(model.table, products, strict=True) if count]
    kept = {_origin(model, source) for row in rows for source in row.sources}
    inputs = samples * itemsize * _values(model, range(len(model.input_table)))
    values = samples * itemsize * _values(model, kept.difference(range(len(model.input_table))))
    again = [row for row in rows if any(model.learns[source] for source in row.sources)]
    looked_up = [row for row in model.table if isinstance(row.layer, Embedding)]
    every = itemsize * model.counts.trainable
    dense = every - itemsize * _size(model, looked_up)
    state = 1 + MOMENTS[type(recipe.optimizer)](recipe.optimizer) + (recipe.average is not None)
    forward = 2 * sum(products)
    return {
        "forward": Phase(samples * forward, inputs + values + dense),
        "backward": Phase(
            samples * (training_flops(model) - forward),
            samples * itemsize * _values(model, kept) + itemsize * _size(model, again),
        ),
        # The moments of the vectors that no sample looks up change, too.
        "update": Phase(0, 2 * state * (every if state > 1 else dense)),
    }


def _origin(model: Model, place: int) -> int:
    """Return the place of the values that are flattened to those at a place."""
    flattened = {row.value: row for row in model.table if isinstance(row.layer, Flatten)}
    while place in flattened:
        (place,) = flattened[place].sources
    return place


def _values(model: Model, places: Iterable[int]) -> int:
    """Return the number of values of a sample at some places."""
    return sum(math.prod(model.shapes[place]) for place in places)


def _size(model: Model, rows: Iterable[TableRow]) -> int:
    """Return the number of parameters of some layers."""
    return sum(math.prod(tensor.shape) for row in rows for tensor in model.tensors_of(row.place))


class Roofline:
    """The bound of an update of a model by a recipe on this machine, for a number of threads.

    `sample` measures the peaks once more; call it between the rounds of a benchmark.
    """

    def __init__(
        self, model: Model, recipe: Recipe, dtype: str = "float32", threads: int | None = None
    ) -> None:
        self.phases = step_phases(model, recipe, np.dtype(dtype).itemsize)
        # All that a step works on: what its last phase reads and writes, and the batch.
        held = self.phases["forward"].bytes + self.phases["update"].bytes / 2
        self.meters: tuple[Meter, Meter] = (
            product_meter(dtype, threads),
            copy_meter(held, threads),
        )

    def sample(self) -> None:
        """Measure both peaks once more."""
        for meter in self.meters:
            meter.sample()

    def info(self, seconds: float | None = None) -> dict[str, Any]:
        """Return the bound, by phase, and the fraction that an update of these seconds reaches."""
        peak, bandwidth = (meter.rate() for meter in self.meters)
        bounds = {name: phase.seconds(peak, bandwidth) for name, phase in self.phases.items()}
        bound = sum(bounds.values())
        reached = {} if seconds is None else {"fraction": bound / seconds}
        return reached | {
            "matrix_peak_gflops": peak / 1e9,
            "bandwidth_gigabytes_per_second": bandwidth / 1e9,
            "phases": {
                name: {
                    "megaflop": phase.operations / 1e6,
                    "megabytes": phase.bytes / 1e6,
                    "bound_microseconds": 1e6 * bounds[name],
                }
                for name, phase in self.phases.items()
            },
            "bound_microseconds": 1e6 * bound,
        }
