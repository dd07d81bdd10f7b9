"""What an engine draws natively follows the law that its model names."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dlsys_bench.engines.plan import draw
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import INITIALIZERS, Distribution, Initializer
from dlsys_bench.spec.layers import Conv2D, Dense, Flatten
from dlsys_bench.spec.model import Model

# Tests per (engine, initialiser, tensor): 4 engines x 9 laws x 2. Each may cry wolf once in 2e5,
# all together in 3000.
ALPHA = 5e-6


def law_is_followed(values: np.ndarray, law: Distribution) -> bool:
    flat = np.asarray(values, np.float64).ravel()
    if law.family == "constant":
        return bool((flat == law.value).all())
    expected = {
        "uniform": lambda: stats.uniform(law.low, law.high - law.low),
        "normal": lambda: stats.norm(0, law.stddev),
        "truncated_normal": lambda: stats.truncnorm(-2, 2, 0, law.stddev),
    }[law.family]()
    return bool(stats.kstest(flat, expected.cdf).pvalue > ALPHA)


@pytest.mark.parametrize("kind", INITIALIZERS)
@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "jax", "keras"])
def test_an_engine_draws_from_the_named_law(name: str, kind: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    start: Initializer = to_convention(engine.convention, INITIALIZERS[kind].of())
    layers = (
        Conv2D(40, (5, 3), kernel_initializer=start),
        Flatten(),
        Dense(7, kernel_initializer=start),
    )
    model = Model("drawn", (9, 8, 6), layers)
    weights = engine.weights(engine.build(model, seed=3))
    for tensor in model.tensors:
        if tensor.name.endswith("kernel"):
            assert law_is_followed(weights[tensor.name], start.distribution(tensor.fans)), (
                f"{tensor.name} by {name}: {start}"
            )


@pytest.mark.parametrize("kind", INITIALIZERS)
def test_a_wrong_fan_is_seen(kind: str) -> None:
    start = INITIALIZERS[kind].of()
    model = Model("drawn", (200,), (Dense(20, kernel_initializer=start),))
    kernel = model.tensors[0]
    law, doubled = (
        start.distribution(kernel.fans),
        start.distribution(kernel.fans._replace(fan_in=kernel.fans.fan_in * 2)),
    )
    drawn = draw(doubled, kernel.shape, np.random.default_rng(0))
    assert law_is_followed(drawn, law) == (law == doubled)


@pytest.mark.parametrize("name", ["torch", "keras"])
def test_another_frameworks_way_is_refused_with_what_to_do(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    foreign = "keras" if engine.convention == "torch" else "torch"
    model = to_convention(
        foreign, Model("m", (3,), (Dense(2, kernel_initializer=INITIALIZERS["he_normal"].of()),))
    )
    with pytest.raises(EngineError, match="he_normal: truncated is"):
        engine.build(model)
