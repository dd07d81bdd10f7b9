"""Branching networks: numpy and numba against the automatic derivatives of torch."""

from __future__ import annotations

import re

import numpy as np
import pytest
from drawn_networks import normalises_several_values
from hypothesis import HealthCheck, given, seed, settings

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.data import Samples, split_inputs
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DataError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.layers import VARIANTS, AveragePool, BatchNorm, Dense, Embedding, Flatten
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

WITHIN = 1e-9
FAR = 1e-6
"""The distance from a kink below which rounding may select the other side."""

FEW = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=200)

BRANCHING = strategies.examples(tuple(VARIANTS), input_counts=(1, 2, 3)).filter(
    lambda example: (
        example.model.connections is not None and normalises_several_values(example.model)
    )
)


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
        found, wanted = (
            each.weights | ({} if each.x is None else split_inputs(each.x))
            for each in (actual, expected)
        )
        assert found.keys() == wanted.keys()
        for key, values in wanted.items():
            np.testing.assert_allclose(
                found[key], values, rtol=WITHIN, atol=WITHIN * largest, err_msg=key
            )


@pytest.mark.xdist_group("torch")
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


TOKENS = Model("tokens", (4,), (Embedding(5, 2), Flatten(), Dense(2)), input_dtype="int")


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "oracle"])
def test_token_ids_are_whole_numbers_of_the_vocabulary(name: str) -> None:
    if name != "oracle" and (reason := unavailable(name)):
        pytest.skip(reason)
    engine = Oracle() if name == "oracle" else create(name)
    network = engine.build(TOKENS)
    ids = np.array([[0, 4, 1, 2]])
    same = engine.predict(network, ids.astype("float32"))
    np.testing.assert_array_equal(engine.predict(network, ids), same)
    for wrong, message in (
        (ids + 1, "x[0, 1] is 5, but the vocabulary of model 'tokens' has 5 tokens"),
        (ids - 1, "x[0, 0] is -1, but"),
        (ids + 0.5, "takes token ids, but x (float64) has values that are not whole numbers"),
    ):
        samples = Samples(wrong, np.zeros(1, int))
        batch = Batch(samples.x, samples.y)
        loss = CategoricalCrossEntropy()
        recipe = to_convention(engine.convention, Recipe(batch_size=1, epochs=1))
        for call in (
            lambda: engine.predict(network, wrong),  # noqa: B023
            lambda: engine.gradients(network, batch, loss),  # noqa: B023
            lambda: engine.trace(network, batch),  # noqa: B023
            lambda: train(engine, network, samples, recipe, Plan(0)),  # noqa: B023
        ):
            with pytest.raises(DataError, match=re.escape(message)):
                call()


def test_numba_keeps_a_batch_norm_that_others_take_apart_from_its_pool() -> None:
    if reason := unavailable("numba"):
        pytest.skip(reason)
    pools = parallel(AveragePool(), serial(AveragePool(), AveragePool((1, 1))))
    model = Model("m", (4, 4, 2), (BatchNorm(), pools, Flatten(), Dense(2)))
    engine = create("numba", dtype="float64")
    assert engine.build(model).fused == {}
    alone = Model("m", (4, 4, 2), (BatchNorm(), AveragePool(), Flatten(), Dense(2)))
    assert set(engine.build(alone).fused) == {0}
