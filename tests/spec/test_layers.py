"""The layers: shapes, parameters and invalid options, for every layer of the table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.errors import SpecError
from dlsys_bench.spec.layers import (
    LAYERS,
    AveragePool,
    Conv2D,
    GroupNorm,
    Layer,
    LayerNorm,
    MaxPool,
    RMSNorm,
    Shape,
)
from dlsys_bench.spec.record import from_dict

INPUTS: tuple[Shape, ...] = ((6, 7, 3), (5,))


def fits(layer: Layer, shape: Shape) -> bool:
    try:
        layer.output_shape(shape)
    except SpecError:
        return False
    return True


@pytest.mark.parametrize("kind", LAYERS)
@given(data=st.data())
def test_a_layer_survives_json(kind: str, data: st.DataObject) -> None:
    layer = data.draw(strategies.layers(kind))
    assert from_dict(layer.to_dict()) == layer


@pytest.mark.parametrize("kind", LAYERS)
@given(data=st.data())
def test_every_tensor_of_a_layer_has_an_initialiser(kind: str, data: st.DataObject) -> None:
    layer = data.draw(strategies.layers(kind))
    shape = next(shape for shape in INPUTS if fits(layer, shape) or shape is INPUTS[-1])
    if fits(layer, shape):
        assert {*layer.parameters(shape), *layer.state(shape)} <= set(layer.initializers())


@pytest.mark.parametrize(
    ("kind", "options", "shape", "message"),
    [(kind, *invalid) for kind, layer in LAYERS.items() for invalid in layer.invalid_inputs],
)
def test_invalid_inputs_raise(
    kind: str, options: dict[str, Any], shape: Shape, message: str
) -> None:
    layer = LAYERS[kind].of(**options)
    with pytest.raises(SpecError) as error:
        layer.output_shape(shape)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(
    size=st.integers(1, 12),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.sampled_from(["valid", "same"]),
)
def test_a_convolution_has_one_output_per_window(
    size: int, kernel: int, stride: int, padding: str
) -> None:
    layer = Conv2D.of(filters=1, kernel_size=kernel, strides=stride, padding=padding)
    if padding == "valid" and kernel > size:
        return
    (before, after), _ = layer.pads((size, size, 1))
    starts = range(0, size + before + after - kernel + 1, stride)
    assert layer.output_shape((size, size, 1)) == (len(starts), len(starts), 1)
    if padding == "same":
        # As few zeros as possible, with the extra one of an odd number at the end.
        assert len(starts) == -(-size // stride)
        assert after - before in (0, 1)


@given(
    size=st.integers(1, 12),
    pool=st.integers(1, 4),
    stride=st.none() | st.integers(1, 4),
    kind=st.sampled_from([AveragePool, MaxPool]),
)
def test_a_pool_has_one_output_per_window(
    size: int, pool: int, stride: int | None, kind: type[AveragePool]
) -> None:
    if pool > size:
        return
    layer = kind.of(pool_size=pool, strides=stride)
    starts = range(0, size - pool + 1, stride or pool)
    assert layer.output_shape((size, size, 2)) == (len(starts), len(starts), 2)


def test_the_norms_of_samples_have_the_tensors_of_keras() -> None:
    shape = (4, 4, 6)
    assert LayerNorm().parameters(shape) == {"gamma": (6,), "beta": (6,)}
    assert RMSNorm().parameters(shape) == {"gamma": (6,)}
    assert GroupNorm(groups=3).parameters(shape) == {"gamma": (6,), "beta": (6,)}
    for norm in (LayerNorm(), RMSNorm(), GroupNorm(groups=3)):
        assert norm.state(shape) == {}
        assert norm.least_samples((6,)) == 1
