"""Attention to a context: its tensors, its masks, its operations, and inputs that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.errors import SpecError
from dlsys_bench.report.tables import summary_table
from dlsys_bench.spec.graph import Node, parallel, serial
from dlsys_bench.spec.initializers import Fans
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import Dense, Flatten, Layer, MultiHeadAttention
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import from_dict
from dlsys_bench.timing.flops import multiply_adds
from dlsys_bench.timing.roofline import step_phases

QUERY, CONTEXT = Input("query", (3, 4)), Input("context", (5, 6))
ATTENTION = MultiHeadAttention(2, drop_rate=0.1, context=True)


def model_of(layer: Layer, *inputs: Input) -> Model:
    given = inputs or (QUERY, CONTEXT)
    names = tuple(each.name for each in given)
    return Model("m", inputs=given, layers=(Node("attention", layer, names), Flatten(), Dense(1)))


MODEL = model_of(ATTENTION)


def test_keys_and_values_have_the_width_of_the_context() -> None:
    row = MODEL.table[0]
    assert row.output_shape == (3, 4)
    assert row.layer.parameters(*row.shapes) == {
        "query_kernel": (4, 4),
        "query_bias": (4,),
        "key_kernel": (6, 4),
        "key_bias": (4,),
        "value_kernel": (6, 4),
        "value_bias": (4,),
        "output_kernel": (4, 4),
        "output_bias": (4,),
    }
    fans = {tensor.name: tensor.fans for tensor in MODEL.tensors_of(0)}
    assert fans["attention.key_kernel"] == fans["attention.key_bias"] == Fans(6, 4)
    assert fans["attention.query_kernel"] == Fans(4, 4)
    assert row.mask is not None
    assert row.mask.shape == (2, 3, 5)


def test_the_tensors_of_self_attention_are_as_before() -> None:
    assert "context" not in MultiHeadAttention(2).to_dict()
    model = Model("m", (3, 6), (MultiHeadAttention(2, key_size=2, drop_rate=0.1),))
    shapes = {tensor.name.partition(".")[2]: tensor.shape for tensor in model.tensors}
    parts = ("query", "key", "value", "output")
    assert list(shapes) == [f"{part}_{what}" for part in parts for what in ("kernel", "bias")]
    assert shapes["key_kernel"] == (6, 4)
    assert shapes["output_kernel"] == (4, 6)
    assert model.tensors[-1].fans == Fans(4, 6)
    assert model.table[0].mask is not None
    assert model.table[0].mask.shape == (2, 3, 3)


def test_a_context_survives_json_and_is_in_the_summary() -> None:
    assert from_dict(MODEL.to_dict()) == MODEL
    row = summary_table(MODEL).rows[2]
    assert row[:3] == ("attention", "2 heads, context", "query, context")


def test_the_operations_and_bytes_depend_on_both_inputs() -> None:
    # Of kernels of 4 by 4 for three positions twice, of 6 by 4 for five twice, and of 3 by 5
    # weights in two heads of 2 twice.
    assert multiply_adds(MODEL)[0] == 2 * (3 * 16 + 5 * 24 + 3 * 5 * 4)
    recipe = Recipe(SGD(), batch_size=10, loss=MeanSquaredError())
    inputs, attended = 10 * 4 * (12 + 30), 10 * 4 * 12
    phases = step_phases(MODEL, recipe)
    assert phases["forward"].bytes == inputs + attended + 4 * MODEL.counts.trainable
    assert phases["backward"].bytes == inputs + attended + 4 * 13


def test_parallel_branches_may_end_in_a_context() -> None:
    branches = parallel(serial(), serial(source="context"), join=ATTENTION)
    model = Model("m", inputs=(QUERY, CONTEXT), layers=(branches,))
    assert model.table[0].inputs == ("query", "context")


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        (
            {"heads": 3},
            (QUERY, CONTEXT),
            "multi_head_attention: 3 heads do not divide 4 channels: choose another number",
        ),
        (
            {"heads": 2},
            (QUERY, Input("context", (6,))),
            "multi_head_attention: the context takes a sequence (positions, channels), but its "
            "input is (6,)",
        ),
        (
            {"heads": 2},
            (Input("query", (4, 4, 1)), CONTEXT),
            "multi_head_attention takes a sequence (positions, channels), but its input is (4, 4,",
        ),
        (
            {"heads": 2, "causal": True},
            (QUERY, CONTEXT),
            "causal attention takes a context of as many positions as the queries, 3, but it has 5",
        ),
        (
            {"heads": 2},
            (QUERY, CONTEXT, Input("other", (5, 6))),
            "multi_head_attention with context=True takes two inputs, not 3",
        ),
        ({"heads": 2}, (QUERY,), "multi_head_attention with context=True takes two inputs, not 1"),
        (
            {"heads": 2, "context": False},
            (QUERY, CONTEXT),
            "multi_head_attention with context=False takes one input, not 2: with context=True, "
            "keys and values are those of a second input",
        ),
        (
            {"heads": 2},
            (QUERY, Input("context", (5,), "int")),
            "multi_head_attention takes floats, but its input consists of token ids",
        ),
    ],
)
def test_a_context_that_does_not_fit_raises(
    options: dict[str, Any], inputs: tuple[Input, ...], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        model_of(MultiHeadAttention(**{"context": True, **options}), *inputs)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
