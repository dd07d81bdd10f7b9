"""Branching networks: numpy and numba against the automatic derivatives of torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.layers import AveragePool, BatchNorm, Dense, Flatten
from dlsys_bench.spec.model import Model

WITHIN = 1e-9
FAR = 1e-6
"""The distance from a kink below which rounding may select the other side."""

FEW = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=200)

BRANCHING = strategies.examples().filter(lambda example: example.model.connections is not None)


def compare(example: Example) -> None:
    """Compare outputs and gradients of numpy and numba with those of torch."""
    if reason := unavailable("torch"):
        pytest.skip(reason)
    model, batch = to_convention("torch", example.model), example.batch
    outputs = Oracle().trace(Oracle().build(model, example.weights), batch)
    if strategies.kink_distance(model, batch.x, outputs) < FAR:
        return
    torch = create("torch", dtype="float64")
    network = torch.build(model, example.weights)
    expected = torch.gradients(network, batch, example.loss)
    largest = max(1.0, *(float(np.abs(g).max(initial=0.0)) for g in expected.weights.values()))
    for name in ("numpy", "numba"):
        if unavailable(name):
            continue
        engine = create(name, dtype="float64")
        own = engine.build(model, example.weights)
        for one, other in zip(engine.trace(own, batch), torch.trace(network, batch), strict=True):
            np.testing.assert_allclose(one, other, rtol=WITHIN, atol=WITHIN)
        actual = engine.gradients(own, batch, example.loss)
        for key, values in {**expected.weights, "x": expected.x}.items():
            given = actual.x if key == "x" else actual.weights[key]
            np.testing.assert_allclose(
                given, values, rtol=WITHIN, atol=WITHIN * largest, err_msg=key
            )


@seed(0)
@FEW
@given(example=BRANCHING)
def test_gradients_are_those_of_torch(example: Example) -> None:
    compare(example)


@pytest.mark.slow
@seed(1)
@MANY
@given(example=BRANCHING)
def test_gradients_of_many_networks_are_those_of_torch(example: Example) -> None:
    compare(example)


def test_numba_keeps_a_batch_norm_that_others_take_apart_from_its_pool() -> None:
    if reason := unavailable("numba"):
        pytest.skip(reason)
    pools = parallel(AveragePool(), serial(AveragePool(), AveragePool((1, 1))))
    model = Model("m", (4, 4, 2), (BatchNorm(), pools, Flatten(), Dense(2)))
    engine = create("numba", dtype="float64")
    assert engine.build(model).fused == {}
    alone = Model("m", (4, 4, 2), (BatchNorm(), AveragePool(), Flatten(), Dense(2)))
    assert set(engine.build(alone).fused) == {0}
