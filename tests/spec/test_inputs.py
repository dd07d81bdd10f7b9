"""Models of several inputs: JSON, the summary, operations and errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import find as shortest
from hypothesis import given, settings

from dlsys_bench.conformance import strategies
from dlsys_bench.errors import SpecError
from dlsys_bench.report.tables import summary_table
from dlsys_bench.spec.convention import protocol
from dlsys_bench.spec.graph import Node, parallel, serial
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import LAYERS, Add, Concat, Dense, Embedding, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import from_dict
from dlsys_bench.timing.flops import multiply_adds, training_flops

WORDS, AGE = Input("words", (4,), "int"), Input("age", (2,))
TOWERS = (
    parallel(serial(Embedding(7, 3), Flatten(), source="words"), serial(source="age")),
    Dense(2),
)
MODEL = Model("m", inputs=(WORDS, AGE), layers=TOWERS)


def test_inputs_come_before_the_nodes() -> None:
    assert [row.inputs for row in MODEL.table] == [
        ("words",),
        ("embedding_1",),
        ("flatten_1", "age"),
        ("concat_1",),
    ]
    assert MODEL.shapes == ((4,), (2,), (4, 3), (12,), (14,), (2,))
    assert [(row.sources, row.value) for row in MODEL.table] == [
        ((0,), 2),
        ((2,), 3),
        ((3, 1), 4),
        ((4,), 5),
    ]
    assert MODEL.learns == (False, False, True, True, True, True)
    assert MODEL.vocabularies == {"words": 7}


def test_layers_start_at_the_first_input() -> None:
    layers = (Dense(2), Node("join", Add(), ("dense_1", "other")))
    model = Model("m", inputs=(Input("first", (3,)), Input("other", (2,))), layers=layers)
    assert [row.inputs for row in model.table] == [("first",), ("dense_1", "other")]


def test_inputs_are_part_of_the_json_and_of_the_protocol() -> None:
    stored = MODEL.to_dict()
    assert list(stored) == ["kind", "name", "layers", "connections", "inputs"]
    assert stored["inputs"] == [
        {"kind": "input", "name": "words", "shape": [4], "dtype": "int"},
        {"kind": "input", "name": "age", "shape": [2]},
    ]
    assert from_dict(stored) == MODEL
    others = [
        Model("m", inputs=(AGE, WORDS), layers=TOWERS),
        Model("m", inputs=(WORDS, Input("age", (3,))), layers=TOWERS),
    ]
    assert len({protocol(each) for each in (MODEL, *others)}) == 3


@settings(max_examples=30, deadline=None)
@given(model=strategies.models(kinds=tuple(LAYERS), input_counts=(2, 3)))
def test_a_drawn_model_survives_json_and_as_a_block(model: Model) -> None:
    assert from_dict(model.to_dict()) == model
    assert Model("drawn", inputs=model.inputs, layers=(model.block,)).shapes == model.shapes


def test_drawn_models_have_one_to_three_inputs_and_shrink() -> None:
    drawn = strategies.models(kinds=tuple(LAYERS), input_counts=(1, 2, 3))
    for count in (1, 2, 3):
        smallest = shortest(
            drawn,
            lambda model, count=count: len(model.input_table) == count,  # type: ignore[misc]
        )
        assert len(smallest.layers) <= 2 * count


def test_the_summary_lists_the_inputs() -> None:
    rows = summary_table(MODEL).rows
    assert rows[:2] == [
        ("words", "input of token ids", "", "(None, 4)", "0"),
        ("age", "input of floats", "", "(None, 2)", "0"),
    ]
    assert rows[4][:3] == ("concat_1", "", "flatten_1, age")


def test_an_input_needs_no_gradient() -> None:
    layers = (parallel(serial(Dense(2), source="age"), serial(Dense(2), source="size")), Dense(1))
    model = Model("m", inputs=(AGE, Input("size", (3,))), layers=layers)
    assert multiply_adds(model) == [4, 6, 0, 4]
    assert training_flops(model) == 2 * (2 * 4 + 2 * 6 + 3 * 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"inputs": (AGE, Input("size", (2,))), "layers": (Node("a", Dense(1), "sise"),)},
            "node 'a' takes 'sise', which is no node (did you mean \"size\"?); known before it: "
            "age, size",
        ),
        (
            {
                "inputs": (AGE, WORDS),
                "layers": (parallel(serial(source="age"), serial(Dense(2), source="words")),),
            },
            "dense takes floats, but its input consists of token ids: put an embedding before it",
        ),
        ({"inputs": (AGE, AGE), "layers": (Dense(1),)}, "two inputs have the name 'age'"),
        (
            {"inputs": (AGE, Input("size", (2,))), "layers": (Dense(1),)},
            "no node takes the input size: leave it out, or use it",
        ),
        (
            {"inputs": (AGE, Input("a", (2,))), "layers": (Node("a", Concat(), ("age", "a")),)},
            "two nodes, or a node and an input, have the name 'a'",
        ),
        (
            {"inputs": (AGE, Input("dense_1", (2,))), "layers": (Dense(1),)},
            "two nodes, or a node and an input, have the name 'dense_1'",
        ),
        (
            {"inputs": (AGE,), "input_shape": (2,), "layers": (Dense(1),)},
            "the inputs state their shapes and dtypes",
        ),
        ({"inputs": ("age",), "layers": (Dense(1),)}, "'age' is not an Input(name, shape)"),
        ({"inputs": AGE, "layers": (Dense(1),)}, "expected a tuple, such as (Input("),
        (
            {
                "inputs": (AGE, Input("size", (3,))),
                "layers": (parallel(serial(), serial(source="size"), join=Add()),),
            },
            "add takes inputs of one shape, but they are (2,) and (3,)",
        ),
    ],
)
def test_inputs_that_do_not_fit_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        Model("bad", **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("model 'bad'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", (2,)), "an input has the name ''; expected a string without a dot"),
        (("a.b", (2,)), "an input has the name 'a.b'"),
        (("age", ()), "input 'age': shape is (); expected (height, width, channels)"),
        (("age", 2), "input 'age': shape is 2; expected a tuple, such as (16,)"),
        (("age", (0,)), "input 'age': shape is (0,)"),
        (("words", (4, 4), "int"), "expected (positions,) for token ids"),
        (("words", (4,), "ids"), "input 'words': dtype is 'ids'; expected one of float, int"),
    ],
)
def test_an_input_that_is_none_raises(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(SpecError) as error:
        Input(*arguments)
    assert message in str(error.value)
