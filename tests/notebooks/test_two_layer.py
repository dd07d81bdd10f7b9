"""The backward pass of nb1 against autodiff and against central differences, on drawn sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsys_bench.data import load
from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.notebooks.studies.parameters import two_layer_gradients
from dlsys_bench.runs.run import run
from dlsys_bench.studies.registry import find

SIZES = st.tuples(*[st.integers(1, 6)] * 4)


def drawn(sizes: tuple[int, int, int, int], seed: int) -> list[Array]:
    samples, inputs, hidden, outputs = sizes
    generator = np.random.default_rng(seed)
    shapes = (
        (samples, inputs),
        (samples, outputs),
        (hidden, inputs),
        (hidden,),
        (outputs, hidden),
        (outputs,),
    )
    return [generator.standard_normal(shape) for shape in shapes]


@given(sizes=SIZES, seed=st.integers(0, 999))
def test_against_autodiff(sizes: tuple[int, int, int, int], seed: int) -> None:
    torch = pytest.importorskip("torch")
    x, y, *parameters = drawn(sizes, seed)
    loss, gradients = two_layer_gradients(x, y, *parameters)
    w1, b1, w2, b2 = (torch.tensor(p, requires_grad=True) for p in parameters)
    p = torch.sigmoid(torch.sigmoid(torch.tensor(x) @ w1.T + b1) @ w2.T + b2)
    expected = ((p - torch.tensor(y)) ** 2).sum() / (2 * len(x))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for actual, parameter in zip(gradients, (w1, b1, w2, b2), strict=True):
        np.testing.assert_allclose(actual, parameter.grad.numpy(), rtol=1e-9, atol=1e-13)


@given(sizes=SIZES, seed=st.integers(0, 999))
def test_against_central_differences(sizes: tuple[int, int, int, int], seed: int) -> None:
    x, y, *parameters = drawn(sizes, seed)
    _, gradients = two_layer_gradients(x, y, *parameters)
    for place, gradient in enumerate(gradients):
        at = tuple(np.random.default_rng(seed).integers(0, gradient.shape))
        losses = []
        for sign in (1, -1):
            moved = [p.copy() for p in parameters]
            moved[place][at] += sign * 1e-5
            losses.append(two_layer_gradients(x, y, *moved)[0])
        assert gradient[at] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("name", ["numpy", "torch", pytest.param("keras", marks=pytest.mark.slow)])
def test_the_study_compares_the_engine_with_the_formulas(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    (case,) = find("two-layer-backprop")
    figures = run(case, create(name, dtype="float64"), load(case.dataset), seed=1).figures
    assert figures["relative_error"] < 1e-9
    assert figures["loss"] == pytest.approx(figures["engine_loss"], rel=1e-9)
