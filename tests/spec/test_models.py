"""Models and recipes: published counts, names, JSON, conventions and invalid options."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from dlsys_bench.conformance import strategies
from dlsys_bench.errors import SpecError
from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.zoo import MODELS
from dlsys_bench.report.tables import summary_table
from dlsys_bench.spec.clipping import ClipNorm
from dlsys_bench.spec.convention import CONVENTIONS, deviations, to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.initializers import INITIALIZERS, Fans
from dlsys_bench.spec.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import CategoricalCrossEntropy, SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, SGD, Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import RECORDS, from_dict

COUNTS = [claim for claim in claims() if claim.get("metric", "").startswith("params_")]


def test_there_are_48_published_counts() -> None:
    assert len(COUNTS) == 48


@pytest.mark.parametrize("claim", COUNTS, ids=lambda claim: claim["id"])
def test_the_counts_are_those_of_the_notebooks(claim: dict[str, object]) -> None:
    model = MODELS[f"{str(claim['study']).removeprefix('regularization/')}/{claim['arm']}"]
    assert getattr(model.counts, str(claim["metric"]).removeprefix("params_")) == claim["value"]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_the_zoo_survives_json(name: str) -> None:
    assert from_dict(MODELS[name].to_dict()) == MODELS[name]


def test_the_published_shapes_of_the_overlapping_lenet() -> None:
    shapes = MODELS["lenet5-overlap-tanh/dropout"].shapes
    for shape in ((28, 28, 6), (27, 27, 6), (23, 23, 16), (11, 11, 16), (7, 7, 120), (5880,)):
        assert shape in shapes


@given(model=strategies.models())
def test_a_summary_adds_up(model: Model) -> None:
    rows = summary_table(model).rows
    assert sum(int(row[-1].replace(",", "")) for row in rows) == model.counts.total
    assert len(set(model.names)) == len(rows)


def test_a_layer_that_does_not_accept_its_input_raises() -> None:
    with pytest.raises(
        SpecError,
        match=r"model 'mine', layer 2 of 2: conv2d: the kernel 5x5 is larger than its input 4x4x2",
    ):
        Model("mine", (6, 6, 1), (Conv2D(2, (3, 3)), Conv2D(2, (5, 5))))


@pytest.mark.parametrize("shape", [(), (0,), (28, 0), (28, 28, -1), (2, 2, 2, 2)])
def test_an_invalid_input_shape_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match="input_shape is"):
        Model("mine", shape, (Flatten(),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 3}, "model 3: the name is not a string"),
        ({"input_shape": 28}, r"input_shape is 28; expected a tuple, such as \(28, 28, 1\)"),
        ({"input_shape": None}, "input_shape is None; expected a tuple"),
        ({"input_shape": (True,)}, "input_shape is"),
        (
            {"layers": Dense(3)},
            r"layers is Dense\(.*\); expected a tuple, such as \(Dense\(10\),\)",
        ),
        ({"layers": None}, "layers is None; expected a tuple"),
        ({"input_dtype": ["int"]}, r"input_dtype is \['int'\] .*; expected one of float, int"),
        ({"input_shape": (2**40,), "layers": (Dense(2**30),)}, r"has more than 2\*\*60 values"),
        ({"input_shape": (2**70,), "layers": (Dropout(),)}, r"has more than 2\*\*60 values"),
    ],
)
def test_a_model_of_anything_else_raises(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as error:
        Model(**{"name": "mine", "input_shape": (4,), "layers": (Dense(3),), **options})
    assert "\n" not in str(error.value)


def test_a_network_of_sequences_treats_each_position_alike() -> None:
    model = Model("m", (5, 4), (Dense(6), BatchNorm(), Dense(3)))
    assert model.output_shape == (5, 3)
    assert model.counts == Model("m", (4,), model.layers).counts


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_converted_record_has_no_deviations(convention: str) -> None:
    model = Model("mine", (4,), (Dense(2), BatchNorm()))
    for record in (
        model,
        Recipe(Adam()),
        Recipe(SGD(momentum=0.9)),
        *(kind.of() for kind in INITIALIZERS.values()),
    ):
        assert deviations(convention, to_convention(convention, record)) == []


def test_the_conventions_differ_in_every_record_that_names_them() -> None:
    everything = [
        BatchNorm(),
        WeightDecay(coupling="coupled"),
        ClipNorm(),
        LossScale(),
        *(kind.of() for kind in (*OPTIMIZERS.values(), *INITIALIZERS.values())),
        CategoricalCrossEntropy(class_weights=(1.0, 2.0)),
        SparseCategoricalCrossEntropy(class_weights=(1.0, 2.0)),
    ]
    named = {kind for kind, record in RECORDS.items() if record.conventions}
    found = {r.kind for r in everything if deviations("torch", to_convention("keras", r))}
    assert found == named


def test_an_unknown_convention_raises() -> None:
    with pytest.raises(SpecError, match="unknown convention 'kears'"):
        to_convention("kears", BatchNorm())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"optimizer": "adam"}, "expected a record, such as Adam()"),
        ({"loss": "mse"}, "loss is 'mse'; expected one of CategoricalCrossEntropy"),
        ({"scaling": "zscore"}, "scaling is 'zscore'"),
        ({"validation_split": 1.0}, "validation_split is 1.0"),
        ({"optimiser": 3}, "no option 'optimiser' (did you mean \"optimizer\"?)"),
    ],
)
def test_an_invalid_recipe_raises(options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        Recipe.of(**options)
    assert message in str(error.value)


def test_moving_decay_replaces_that_of_every_batch_norm() -> None:
    model = MODELS["lenet5-tanh/bn+bn"]
    adapted = Recipe(moving_decay=0.5).adapt(model)
    norms = [layer for layer in adapted.layers if isinstance(layer, BatchNorm)]
    assert {layer.moving_decay for layer in norms} == {0.5}
    assert len(norms) == sum(isinstance(layer, BatchNorm) for layer in model.layers)
    assert Recipe().adapt(model) is model


def test_the_distributions_of_the_initialisers() -> None:
    fans = Fans(50, 100)
    found = {kind: record.of().distribution(fans) for kind, record in INITIALIZERS.items()}
    assert found["glorot_uniform"].high == pytest.approx((6 / 150) ** 0.5)
    assert found["he_uniform"].high == pytest.approx((6 / 50) ** 0.5)
    assert found["fan_in_uniform"].high == pytest.approx(50**-0.5)
    assert found["glorot_normal"].stddev * 0.8796256610342398 == pytest.approx((2 / 150) ** 0.5)
    assert found["he_normal"].stddev * 0.8796256610342398 == pytest.approx((2 / 50) ** 0.5)
    assert INITIALIZERS["he_normal"].of(truncated=False).distribution(fans).stddev == pytest.approx(
        0.2
    )
