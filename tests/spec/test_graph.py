"""Branching models: the builders, the table of nodes, JSON and errors."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from dlsys_bench.conformance import strategies
from dlsys_bench.errors import SpecError
from dlsys_bench.report.tables import summary_table
from dlsys_bench.spec.convention import protocol
from dlsys_bench.spec.graph import Node, parallel, residual, serial
from dlsys_bench.spec.layers import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Layer,
    MaxPool,
    ValueKind,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import from_dict

TANH = Activation("tanh")


def nodes(*layers: Layer, shape: tuple[int, ...] = (4,)) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.name, row.inputs) for row in Model("m", shape, layers).table]


def test_a_chain_is_stored_as_before_however_it_is_written() -> None:
    chain = Model("m", (4,), (Dense(3), TANH, Dense(2)))
    assert list(chain.to_dict()) == ["kind", "name", "input_shape", "layers"]
    named = [("dense_1", "input"), ("activation_1", "dense_1"), ("dense_2", "activation_1")]
    written = [
        Node(name, layer, each) for (name, each), layer in zip(named, chain.layers, strict=True)
    ]
    for other in (
        (serial(Dense(3), serial(), TANH), Dense(2)),
        (chain.block,),
        tuple(written),
    ):
        assert Model("m", (4,), other) == chain
        assert protocol(Model("m", (4,), other)) == protocol(chain)


def test_a_residual_block_adds_its_input() -> None:
    assert nodes(Dense(4), residual(TANH, Dense(4)), Dense(2)) == [
        ("dense_1", ("input",)),
        ("activation_1", ("dense_1",)),
        ("dense_2", ("activation_1",)),
        ("add_1", ("dense_2", "dense_1")),
        ("dense_3", ("add_1",)),
    ]
    assert nodes(residual(Dense(3), shortcut=Dense(3)))[-1] == ("add_1", ("dense_1", "dense_2"))


def test_branches_are_concatenated_along_the_channels() -> None:
    model = Model("m", (4, 4, 2), (parallel(MaxPool(), AveragePool(), Conv2D(3, (3, 3))),))
    assert model.shapes[1:] == ((2, 2, 2), (2, 2, 2), (2, 2, 3), (2, 2, 7))
    assert model.table[-1].sources == (1, 2, 3)


def test_named_nodes_take_what_they_name() -> None:
    model = Model(
        "m",
        (4,),
        (Node("a", Dense(4), "input"), Node("b", TANH, "a"), Node("c", Add(), ("b", "a"))),
    )
    assert [row.inputs for row in model.table] == [("input",), ("a",), ("b", "a")]
    assert [tensor.name for tensor in model.tensors] == ["a.kernel", "a.bias"]
    assert model.learns == (False, True, True, True)


@given(model=strategies.models())
def test_a_drawn_model_survives_json_and_as_a_block(model: Model) -> None:
    assert from_dict(model.to_dict()) == model
    assert Model("drawn", model.input_shape, (model.block,)).shapes == model.shapes


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "there are no layers"),
        ((3,), "3 is not a layer"),
        (
            (Node("a", Dense(3), ("b",)), Node("b", Dense(3), ("a",))),
            "nodes form a cycle: a takes b takes a",
        ),
        ((Node("a", Dense(3), ("a",)),), "nodes form a cycle: a takes a"),
        (
            (Node("a", Dense(3), ("inptu",)),),
            "node 'a' takes 'inptu', which is no node (did you mean \"input\"?)",
        ),
        (
            (Node("a", TANH, ("b",)), Node("b", TANH, ("input",)), Node("c", Add(), ("a", "b"))),
            "node 'a' takes 'b', which comes after it",
        ),
        (
            (Node("a", TANH, ("input",)), Node("a", TANH, ("input",))),
            "two nodes, or a node and an input, have the name 'a'",
        ),
        ((Node("input", TANH, ("input",)),), "a node and an input, have the name 'input'"),
        ((Node("a.b", TANH, ("input",)),), "a node has the name 'a.b', empty or with a dot"),
        (
            (Node("a", TANH, ("input",)), Node("b", TANH, ("input",))),
            "nothing takes the output of a: the last node is the output",
        ),
        ((residual(Dense(3)),), "add takes inputs of one shape, but they are (3,) and (4,)"),
        ((Add(),), "layer 1 of 1: add takes two inputs or more"),
        ((parallel(join=Concat()),), "concat takes two inputs or more"),
        ((Node("a", TANH, ("input", "input")),), "activation takes one input, not 2"),
        ((Node("a", TANH, None),), "node 'a': inputs is None; expected a name, or a tuple"),  # type: ignore[arg-type]
        ((Node("a", TANH, (5,)),), "('a', (5,)) connects no node: expected the name of a node"),  # type: ignore[arg-type]
        ((Node(5, TANH, "input"),), "(5, ('input',)) connects no node"),  # type: ignore[arg-type]
        ((serial(TANH, source=5),), "('activation_1', (5,)) connects no node"),  # type: ignore[arg-type]
        ((Node("a", residual(TANH), "input"),), "a node is one layer, and so is a join, but"),
        ((parallel(TANH, TANH, join=serial(Add())),), "is a block: write it among the layers"),
        ((parallel(TANH, TANH, join="concat"),), "'concat' is not a layer"),  # type: ignore[arg-type]
        ((parallel(TANH, TANH, join=Add),), "is not a layer"),  # type: ignore[arg-type]
    ],
)
def test_a_graph_that_does_not_fit_raises(layers: tuple[Layer, ...], message: str) -> None:
    with pytest.raises(SpecError) as error:
        Model("bad", (4,), layers)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("model 'bad'")


@pytest.mark.parametrize(
    ("layers", "input_dtype", "message"),
    [
        ((Dense(3),), "int", "dense takes floats, but its input consists of token ids: put an"),
        (
            (Embedding(3, 2),),
            "float",
            "embedding takes token ids, but its input consists of floats",
        ),
        ((residual(Embedding(3, 2)),), "int", "add takes floats, but its input consists of token"),
        ((Embedding(3, 2), Conv2D(1, (1, 1))), "int", "conv2d takes an image"),
        ((Embedding(3, 2),), "ids", "input_dtype is 'ids'; expected one of float, int"),
    ],
)
def test_an_input_of_the_wrong_kind_raises(
    layers: tuple[Layer, ...], input_dtype: ValueKind, message: str
) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        Model("bad", (4,), layers, input_dtype=input_dtype)


def test_a_model_of_token_ids_treats_positions_alike() -> None:
    model = Model("m", (5,), (Embedding(7, 3), Dense(2), Flatten(), Dense(2)), input_dtype="int")
    assert model.shapes == ((5,), (5, 3), (5, 2), (10,), (2,))
    assert model.counts.total == 7 * 3 + (3 * 2 + 2) + (10 * 2 + 2)
    assert model.to_dict()["input_dtype"] == "int"
    assert from_dict(model.to_dict()) == model
    assert model.vocabularies == {"input": 7}


def test_images_of_two_sizes_cannot_be_joined() -> None:
    with pytest.raises(SpecError, match=r"differ in the channels alone, but they are \(2, 2, 1\)"):
        Model("bad", (4, 4, 1), (parallel(MaxPool(), serial()), Flatten()))


def test_connections_belong_to_the_layers() -> None:
    model = Model("m", (4,), (residual(Dense(4)),))
    with pytest.raises(SpecError, match="there are 1 layers, but 2 connections"):
        from_dict(model.to_dict() | {"layers": [Dense(4).to_dict()]})


@pytest.mark.parametrize(
    ("connections", "message"),
    [
        ((("a",),), "('a',) connects no node"),
        ((("a", ("input",), "b"),), "connects no node"),
        ((("a", "input"),), "('a', 'input') connects no node"),
        (5, "connections is 5; expected a tuple of the name and the inputs of each"),
    ],
)
def test_connections_are_names(connections: Any, message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        Model("bad", (4,), (Dense(4),), connections)


def test_a_summary_shows_the_inputs_of_a_branching_model() -> None:
    branching = summary_table(Model("m", (4,), (residual(BatchNorm()), Dense(2))))
    assert "inputs" in branching.columns[2]
    assert branching.rows[1][2] == "batch_norm_1, input"
    assert len(summary_table(Model("m", (4,), (Dense(2),))).columns) == 4


def test_a_resnet_has_the_published_number_of_parameters() -> None:
    def unit(filters: int, stride: int = 1) -> Layer:
        first = Conv2D.of(
            filters=filters, kernel_size=3, strides=stride, padding="same", use_bias=False
        )
        second = Conv2D(filters, (3, 3), padding="same", use_bias=False)
        down = Conv2D.of(filters=filters, kernel_size=1, strides=stride, use_bias=False)
        relu = Activation("relu")
        shortcut = serial(down, BatchNorm()) if stride > 1 else serial()
        inner = (first, BatchNorm(), relu, second, BatchNorm())
        return serial(residual(*inner, shortcut=shortcut), relu)

    stem = (Conv2D(16, (3, 3), padding="same", use_bias=False), BatchNorm(), Activation("relu"))
    stages = [unit(16)] * 3 + [unit(32, 2)] + [unit(32)] * 2 + [unit(64, 2)] + [unit(64)] * 2
    model = Model(
        "resnet20", (32, 32, 3), (*stem, *stages, AveragePool((8, 8)), Flatten(), Dense(10))
    )
    # He et al. 2016, table 6: 0.27 million. With projections as shortcuts, 272,474.
    assert model.counts.trainable == 272_474
