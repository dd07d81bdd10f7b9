"""The conventions of frameworks that the records of attention and of convolutions state."""

from __future__ import annotations

import numpy as np
import pytest

from dlsys_bench.conformance.strategies import nonzero_weights
from dlsys_bench.data import join_inputs
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.graph import Node
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import Conv2D, MultiHeadAttention
from dlsys_bench.spec.model import Model

WITHIN = 1e-12


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_torch_with_packed_kernels(causal: bool) -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    import torch

    model = Model("m", (5, 6), (MultiHeadAttention(3, causal=causal),))
    engine, weights = create("numpy", dtype="float64"), nonzero_weights(model, 1)
    own = {name.partition(".")[2]: torch.from_numpy(values) for name, values in weights.items()}
    packed = ("query", "key", "value")
    theirs = torch.nn.MultiheadAttention(6, 3, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([own[f"{name}_kernel"].T for name in packed]),
            "in_proj_bias": torch.cat([own[f"{name}_bias"] for name in packed]),
            "out_proj.weight": own["output_kernel"].T,
            "out_proj.bias": own["output_bias"],
        }
    )
    x = np.random.default_rng(0).standard_normal((4, 5, 6))
    later = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    with torch.no_grad():
        expected, _ = theirs(*[torch.from_numpy(x)] * 3, attn_mask=later)
    actual = engine.predict(engine.build(model, weights), x)
    np.testing.assert_allclose(actual, expected.numpy(), rtol=WITHIN, atol=WITHIN)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("engine", ["torch", "jax", "keras"])
def test_heads_of_one_value_are_not_taken_for_as_many_positions(engine: str, context: bool) -> None:
    """Keras on TensorFlow adds such biases along the positions."""
    if reason := unavailable(engine):
        pytest.skip(reason)
    attention = MultiHeadAttention(3, key_size=1, context=context)
    inputs = (Input("x", (3, 2)), Input("context", (3, 4)))[: 1 + context]
    node = Node("attention", attention, tuple(each.name for each in inputs))
    model = Model("m", inputs=inputs, layers=(node,))
    generator, weights = np.random.default_rng(0), nonzero_weights(model, 1)
    x = join_inputs({i.name: generator.standard_normal((4, *i.shape)) for i in inputs})
    expected, actual = (
        own.predict(own.build(model, weights), x)
        for own in (create("numpy", dtype="float32"), create(engine, dtype="float32"))
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_to_a_context_is_that_of_torch(causal: bool) -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    import torch

    attention = MultiHeadAttention(3, causal=causal, context=True)
    inputs = Input("query", (5, 6)), Input("context", (5 if causal else 7, 4))
    node = Node("attention", attention, ("query", "context"))
    model = Model("m", inputs=inputs, layers=(node,))
    engine, weights = create("numpy", dtype="float64"), nonzero_weights(model, 1)
    own = {name.partition(".")[2]: torch.from_numpy(values) for name, values in weights.items()}
    parts = "query", "key", "value"
    theirs = torch.nn.MultiheadAttention(
        6, 3, kdim=4, vdim=4, batch_first=True, dtype=torch.float64
    )
    theirs.load_state_dict(
        {f"{name[0]}_proj_weight": own[f"{name}_kernel"].T for name in parts}
        | {
            "in_proj_bias": torch.cat([own[f"{name}_bias"] for name in parts]),
            "out_proj.weight": own["output_kernel"].T,
            "out_proj.bias": own["output_bias"],
        }
    )
    x = join_inputs(
        {i.name: np.random.default_rng(0).standard_normal((4, *i.shape)) for i in inputs}
    )
    query, context = (torch.from_numpy(np.ascontiguousarray(x[i.name])) for i in inputs)
    later = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    with torch.no_grad():
        expected, _ = theirs(query, context, context, attn_mask=later)
    actual = engine.predict(engine.build(model, weights), x)
    np.testing.assert_allclose(actual, expected.numpy(), rtol=WITHIN, atol=WITHIN)


def test_a_depthwise_kernel_is_that_of_keras_with_its_last_axes_as_one() -> None:
    generator = np.random.default_rng(0)
    channels, multiplier = 3, 2
    kernel = generator.standard_normal((2, 2, channels, multiplier))
    x = generator.standard_normal((4, 5, 5, channels))
    layer = Conv2D(channels * multiplier, (2, 2), groups=channels, use_bias=False)
    engine, model = create("numpy", dtype="float64"), Model("m", (5, 5, channels), (layer,))
    network = engine.build(model, {"conv2d_1.kernel": kernel.reshape(2, 2, 1, -1)})
    actual = engine.predict(network, x)
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))
    # Output channel c multiplier + m is that of channel c with kernel m, as in DepthwiseConv2D.
    expected = np.einsum("nhwcij,ijcm->nhwcm", windows, kernel).reshape(actual.shape)
    np.testing.assert_allclose(actual, expected, rtol=WITHIN, atol=WITHIN)
