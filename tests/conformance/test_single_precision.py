"""Faults in float32 alone are found in float32, and tolerances are those of the arithmetic."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis.errors import UnsatisfiedAssumption
from single_precision import FAULTS, HalfGradients

from dlsys_bench.conformance.check import AT
from dlsys_bench.conformance.expectation import COPIES, NOISE, SHARP, Expectation
from dlsys_bench.conformance.finding import BrokenError
from dlsys_bench.conformance.ladder import select
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.oracle.rounding import Noise
from dlsys_bench.conformance.result import Status
from dlsys_bench.conformance.runner import LocalRunner
from dlsys_bench.conformance.trial import Options
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.layers import BatchNorm, GroupNorm, Layer, LayerNorm
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model

FEW = Options(examples=8, shrink=0.0)


def runner(engine: type[NumpyEngine]) -> LocalRunner:
    return LocalRunner(lambda dtype: engine("cpu", dtype), FEW)


@pytest.mark.parametrize("engine", FAULTS, ids=lambda engine: engine.__name__)
def test_a_fault_in_float32_alone_is_found_there(engine: type[NumpyEngine]) -> None:
    here, check = runner(engine), FAULTS[engine]
    assert here.run(check).status is Status.PASSED
    result = here.run(f"{check}{AT}float32")
    assert result.status is Status.FAILED
    assert result.name == f"{check}{AT}float32"


@pytest.mark.slow
@pytest.mark.parametrize("engine", FAULTS, ids=lambda engine: engine.__name__)
def test_a_climb_finds_a_fault_in_float32_alone(engine: type[NumpyEngine]) -> None:
    here = runner(engine)
    failed = next(
        result
        for check in select(None, engine.dtypes)
        if (result := here.run(check.name)).status is Status.FAILED
    )
    assert failed.rung != "distribution"
    assert failed.name.endswith(f"{AT}float32")


def expect(
    compute: Any = lambda oracle: {"y": oracle.rounding.array(np.arange(1.0, 9.0))},
    dtype: str = "float32",
    **options: Any,
) -> Expectation:
    return Expectation(compute, NOISE[dtype], **options)


def test_rounding_errors_are_accepted_and_those_of_half_precision_are_not() -> None:
    values = np.pi * np.arange(1.0, 9.0)
    for dtype, worse in (("float64", "float32"), ("float32", "float16")):
        expected = expect(lambda oracle: {"y": oracle.rounding.array(values)}, dtype)
        expected.check("y", values.astype(dtype), "y")
        with pytest.raises(BrokenError, match="difference"):
            expected.check("y", values.astype(worse), "y")


def test_a_cancellation_widens_the_tolerance_and_is_rejected_if_nothing_is_left() -> None:
    def difference(oracle: Oracle, size: float) -> dict[str, Any]:
        large = oracle.rounding.array(np.array([1.0, 1.0 + size]))
        return {"y": np.diff(large)}

    for size, sharp in ((0.1, True), (1e-5, False)):
        expected = expect(lambda oracle, size=size: difference(oracle, size))
        expected.check("y", expected.values["y"] + 2e-7, "y")
        assert (expected.sharp == expected.compared) == sharp
        if not sharp:
            with pytest.raises(UnsatisfiedAssumption):
                expected.reject_unless_sharp()


def test_an_example_that_diverges_by_a_rounding_error_is_rejected() -> None:
    def diverge(oracle: Oracle) -> dict[str, Any]:
        if isinstance(oracle.rounding, Noise):
            raise DivergedError(1, 1, np.nan)
        return {"y": np.ones(3)}

    expected = expect(diverge)
    expected.check("y", np.full(3, 1.01), "y")
    with pytest.raises(UnsatisfiedAssumption):
        expected.reject_unless_sharp()


def test_terms_that_cancel_have_a_tolerance_whatever_their_errors() -> None:
    for seed in range(1000):
        terms = np.random.default_rng(seed).standard_normal(2)

        def cancel(oracle: Oracle, terms: Any = terms) -> dict[str, Any]:
            return {"y": (oracle.rounding.array(terms) / terms) @ [1.0, -1.0]}

        expected = expect(cancel, scales=lambda values: {"y": 0.0})
        # The rounding error of one of the terms.
        expected.check("y", 2.0**-24, f"seed {seed}")


def test_wrong_values_are_found_whatever_the_condition() -> None:
    expected = expect(
        lambda oracle: {"y": np.diff(oracle.rounding.array(np.array([1.0, 1.00001])))}
    )
    for wrong in (np.nan, np.inf, 1.0):
        with pytest.raises(BrokenError):
            expected.check("y", np.array([wrong]), "y")


def test_a_declared_tolerance_is_relative_to_the_scale() -> None:
    expected = expect(declared=1e-3)
    expected.check("y", np.arange(1.0, 9.0) * (1 + 9e-4), "y")
    with pytest.raises(BrokenError):
        expected.check("y", np.arange(1.0, 9.0) * 1.003, "y")


def test_the_errors_are_evaluated_only_where_they_are_needed() -> None:
    calls = []

    def compute(oracle: Oracle) -> dict[str, Any]:
        calls.append(oracle)
        return {"y": oracle.rounding.array(np.ones(3))}

    expected = expect(compute)
    expected.check("y", np.ones(3), "y")
    assert len(calls) == 1
    expected.check("y", 1 + NOISE["float32"] * np.ones(3), "y")
    assert len(calls) == 1 + COPIES


def test_noise_is_of_its_size_and_keeps_ties_and_zeros() -> None:
    noise = Noise(0.01, (0,))
    values = np.random.default_rng(0).standard_normal((2000,)).astype("float32").astype(float)
    relative = noise.array(values) / values - 1
    assert np.abs(relative).min() >= 0.00499
    assert np.abs(relative).max() <= 0.01501
    assert abs(np.abs(relative).mean() - 0.01) < 0.0005
    assert abs((relative > 0).mean() - 0.5) < 0.05
    assert (noise.array(values) != noise.array(values)).any()
    assert len(set(noise.array(np.full(50, 1.5)))) == 1
    assert (noise.array(np.zeros(3)) == 0).all()
    copies = np.stack([values + 1e-30j, values])
    moved = noise.array(copies, axes=1).real
    assert (moved[0] == moved[1]).all()


def test_a_float16_gradient_is_far_outside_the_tolerance() -> None:
    result = runner(HalfGradients).run("gradient/dense@float32")
    assert result.finding is not None
    assert result.finding.difference is not None
    assert result.finding.allowed is not None
    assert result.finding.difference > 4 * result.finding.allowed


def test_the_least_sharp_tolerance_finds_a_mantissa_of_eleven_bits() -> None:
    assert SHARP * NOISE["float32"] < 2.0**-12


def test_the_derivative_is_rounded_independently_where_a_backward_pass_cancels() -> None:
    noise, like = Noise(0.01, (0,)), np.zeros((1, 400))
    spread = noise.spread(np.array([[1.0 + 1.0j]]), like)
    assert abs(np.corrcoef(spread.real[0], spread.imag[0])[0, 1]) < 0.2
    assert not np.iscomplexobj(noise.spread(np.array([[1.0]]), like))


def slopes_by_moments(x: Any, dy: Any, deviation: Any, axis: int) -> Any:
    """Return the derivative by x of a normalised x as PyTorch's layer norm computes it, by products
    with values that are not centred."""
    count, mean = x.dtype.type(x.shape[axis]), x.mean(axis, keepdims=True)
    total, mixed = dy.sum(axis, keepdims=True), (dy * x).sum(axis, keepdims=True)
    slope = (total * mean - mixed) / deviation**3 / count
    return dy / deviation + slope * x - slope * mean - total / deviation / count


@pytest.mark.rotates("norms whose values are not centred", 2)
@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize(
    ("layer", "axis"), [(LayerNorm(), 1), (GroupNorm(groups=1), 1), (BatchNorm(), 0)], ids=str
)
def test_a_backward_pass_with_values_that_are_not_centred_is_accepted(
    layer: LayerNorm | GroupNorm | BatchNorm, axis: int, count: int
) -> None:
    for distance, seed in product((0, 1, 10, 100), range(100)):
        generator = np.random.default_rng(seed)
        shape = (3, count) if axis else (count, 3)
        x = (distance + generator.standard_normal(shape)).astype("float32")
        y = generator.standard_normal(shape).astype("float32")
        centred = x - x.mean(axis, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis, keepdims=True) + np.float32(layer.epsilon))
        prediction = centred / deviation
        slopes = slopes_by_moments(x, 2 * (prediction - y) / np.float32(x.size), deviation, axis)
        expected = expect(partial(normalized, layer, x, y))
        what = f"seed {seed}, {distance} from zero: the"
        expected.check("prediction", prediction, f"{what} prediction")
        expected.check("slopes", slopes, f"{what} slopes")
        if distance == 0 and count > 2:
            expected.reject_unless_sharp()


def normalized(layer: Layer, x: Any, y: Any, oracle: Oracle) -> dict[str, Any]:
    """Return the prediction in training mode, and the slopes of its loss by x."""
    model = Model("normalized", x.shape[1:], (layer,))
    network = oracle.build(model, Plan(0).weights(model))
    batch = Batch(x, y, training=True)
    slopes = oracle.gradients(network, batch, MeanSquaredError()).x
    return {"prediction": oracle.trace(network, batch)[-1], "slopes": slopes}
