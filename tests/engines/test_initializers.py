"""The draw of a plan follows the distribution that the model names.

The conformance checks of the rung `initializer` cover what the engines draw themselves.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dlsys_bench.engines.plan import draw
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import INITIALIZERS, Distribution
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.model import Model

# The false-alarm rate of one test.
ALPHA = 5e-6


def follows(values: np.ndarray, distribution: Distribution) -> bool:
    flat = np.asarray(values, np.float64).ravel()
    if distribution.family == "constant":
        return bool((flat == distribution.value).all())
    expected = {
        "uniform": lambda: stats.uniform(distribution.low, distribution.high - distribution.low),
        "normal": lambda: stats.norm(0, distribution.stddev),
        "truncated_normal": lambda: stats.truncnorm(-2, 2, 0, distribution.stddev),
    }[distribution.family]()
    return bool(stats.kstest(flat, expected.cdf).pvalue > ALPHA)


@pytest.mark.parametrize("kind", INITIALIZERS)
def test_a_draw_with_a_wrong_fan_is_noticed(kind: str) -> None:
    start = INITIALIZERS[kind].of()
    model = Model("drawn", (200,), (Dense(20, kernel_initializer=start),))
    kernel = model.tensors[0]
    named = start.distribution(kernel.fans)
    doubled = start.distribution(kernel.fans._replace(fan_in=kernel.fans.fan_in * 2))
    drawn = draw(named, kernel.shape, np.random.default_rng(0))
    assert follows(drawn, named)
    assert follows(drawn, doubled) == (named == doubled)


@pytest.mark.parametrize("name", ["torch", "keras"])
def test_an_initializer_of_another_convention_is_refused(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    foreign = "keras" if engine.convention == "torch" else "torch"
    model = to_convention(
        foreign, Model("m", (3,), (Dense(2, kernel_initializer=INITIALIZERS["he_normal"].of()),))
    )
    with pytest.raises(EngineError, match="he_normal: truncated is"):
        engine.build(model)
