"""Several inputs on their way through data, engines and replicas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.conformance.finding import BrokenError
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.data import Dataset, Samples, join_inputs, prepare, split_inputs
from dlsys_bench.engines.augmentation import augment
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DataError, EngineError, SpecError
from dlsys_bench.runs.run import resolve, run
from dlsys_bench.spec.augmentation import HorizontalFlip, InputNoise, Shift
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import Dense, Embedding, Flatten
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Case, Study

MODEL = Model(
    "words-and-age",
    inputs=(Input("words", (4,), "int"), Input("age", (2,))),
    layers=(
        parallel(serial(Embedding(7, 3), Flatten(), source="words"), serial(source="age")),
        Dense(2),
    ),
)
RECIPE = to_convention("torch", Recipe(SGD(0.1), batch_size=8, epochs=2, scaling="raw"))
GENERATOR = np.random.default_rng(0)
X = strategies.inputs(MODEL, 20, GENERATOR)
Y = GENERATOR.integers(0, 2, 20)
ENGINES = ["numpy", "numba", "torch"]


def engine_of(name: str) -> Any:
    if reason := unavailable(name):
        pytest.skip(reason)
    return create(name, dtype="float64")


def test_an_index_selects_samples_of_every_input() -> None:
    words, age = split_inputs(X[3:5]).values()
    np.testing.assert_array_equal(words, X["words"][3:5])
    np.testing.assert_array_equal(age, X["age"][3:5])
    assert (words.shape, age.shape) == ((2, 4), (2, 2))
    plain = np.ones((2, 3))
    assert split_inputs(plain)["x"] is plain


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "there are no inputs"),
        ({"a": 3.0}, "input 'a' is array(3.); expected an array (N, ...) of numbers"),
        (
            {"a": np.ones((2, 1)), "b": np.ones((3, 1))},
            "input 'a' has 2 samples, but input 'b' has 3: they have to be equal",
        ),
        ({"a": np.full((30, 2), None)}, "input 'a' is object of shape (30, 2); expected an array"),
        ({"a": [[1], [2, 3]]}, "input 'a' has samples of different shapes"),
        ({"": [1]}, "an input has the name ''; expected a string"),
        ({1: [1]}, "an input has the name 1; expected a string"),
        ([1, 2], "join_inputs takes an array for each name"),
    ],
)
def test_arrays_that_cannot_be_joined_raise(arrays: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        join_inputs(arrays)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


WORDS, AGE = X["words"], X["age"]
BEYOND = WORDS.copy()
BEYOND[0, 1] = 7
WRONG = {
    "missing": (join_inputs({"words": WORDS}), "x lacks 'age', but model 'words-and-age' takes"),
    "unknown": (
        join_inputs({"words": WORDS, "aeg": AGE}),
        "x lacks 'age' and has 'aeg' (did you mean \"age\"?)",
    ),
    "extra": (join_inputs({"words": WORDS, "age": AGE, "size": AGE}), "x has 'size', but model"),
    "plain": (WORDS, "x lacks 'words', 'age'"),
    "mapping": ({"words": WORDS, "age": AGE}, "data.join_inputs(x) makes one array of them"),
    "shape": (
        join_inputs({"words": WORDS, "age": AGE[:, :1]}),
        "x['age'] has shape (20, 1) and type float64, but model 'words-and-age' takes floats of "
        "shape (N, 2)",
    ),
    "axes": (
        join_inputs({"words": WORDS, "age": AGE[:, None]}),
        "floats of shape (N, 2); x['age'].reshape(-1, 2) has that shape",
    ),
    "text": (join_inputs({"words": WORDS, "age": AGE.astype(str)}), "x['age'] has shape"),
    "fraction": (
        join_inputs({"words": WORDS + 0.5, "age": AGE}),
        "takes token ids, but x['words'] (float64) has values that are not whole numbers",
    ),
    "token": (
        join_inputs({"words": BEYOND, "age": AGE}),
        "x['words'][0, 1] is 7, but the vocabulary of model 'words-and-age' has 7 tokens",
    ),
    "large token": (
        join_inputs({"words": WORDS + 2**40, "age": AGE}),
        f"x['words'][0, 0] is {WORDS[0, 0] + 2**40}, but the vocabulary",
    ),
    "nan": (
        join_inputs({"words": np.full(WORDS.shape, np.nan), "age": AGE}),
        "x['words'] (float64) has values that are not whole numbers",
    ),
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("case", WRONG)
def test_inputs_that_a_model_does_not_take_raise(case: str, name: str) -> None:
    engine, (x, message) = engine_of(name), WRONG[case]
    with pytest.raises(DataError) as error:
        engine.predict(engine.build(MODEL), x)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_of_one_input_takes_no_names() -> None:
    plain = Model("plain", (2,), (Dense(1),))
    with pytest.raises(DataError, match="x has 'words', 'age', but model 'plain' takes one input"):
        NumpyEngine().predict(NumpyEngine().build(plain), X)


@pytest.mark.parametrize("name", ENGINES)
def test_gradients_have_the_form_of_x(name: str) -> None:
    engine = engine_of(name)
    net = engine.build(MODEL, Plan(0).weights(MODEL))
    found = engine.gradients(net, Batch(X, Y), CategoricalCrossEntropy()).x
    assert found.dtype.names == ("age",)
    assert found["age"].shape == AGE.shape


@pytest.mark.parametrize("name", ENGINES)
def test_replicas_train_on_inputs_of_their_own(name: str) -> None:
    engine, plans = engine_of(name), [Plan(1, parity=True), Plan(2, parity=True)]
    own = [Samples(X, Y), Samples(X[::-1].copy(), Y)]
    replicas = engine.replicate(MODEL, plans)
    train_replicas(replicas, own, RECIPE, plans)
    outputs = replicas.predict(np.stack([each.x for each in own]))
    assert np.array_equal(outputs[1], replicas.predict(own[1].x)[1])
    for replica, (plan, samples) in enumerate(zip(plans, own, strict=True)):
        net = engine.build(MODEL, plan.weights(MODEL))
        train(engine, net, samples, RECIPE, plan)
        np.testing.assert_allclose(outputs[replica], engine.predict(net, samples.x), rtol=1e-9)
        assert len(replicas.trace(X)) == len(MODEL.layers)


def test_engines_do_not_diverge_and_a_divergence_is_found() -> None:
    numpy, torch = engine_of("numpy"), engine_of("torch")
    samples, plan = Samples(X, Y), Plan(3)
    assert first_divergence(numpy, torch, MODEL, RECIPE, samples, plan, 1e-9) is None

    class ReadsOneSample(NumpyEngine):
        def fit(self, net: Any, samples: Samples, recipe: Recipe, plan: Plan) -> Any:
            x = samples.x.copy()
            x["age"] = x["age"][:1]
            return super().fit(net, Samples(x, samples.y), recipe, plan)

    broken = ReadsOneSample(dtype="float64")
    found = first_divergence(broken, torch, MODEL, RECIPE, samples, plan, 1e-9)
    assert found is not None
    assert found.step == 1


def test_an_augmentation_changes_the_input_that_it_names() -> None:
    x = join_inputs({"photo": np.random.default_rng(0).random((5, 4, 4, 1)), "age": AGE[:5]})
    flipped = augment(x, Recipe(augment=(HorizontalFlip(1.0, input="photo"),)), Plan(0), 1)
    np.testing.assert_array_equal(flipped["photo"], x["photo"][:, :, ::-1])
    np.testing.assert_array_equal(flipped["age"], x["age"])
    model = Model(
        "m",
        inputs=(Input("photo", (4, 4, 1)), Input("age", (2,))),
        layers=(parallel(serial(Flatten()), serial(source="age")), Dense(2)),
    )
    for record, message in (
        (Shift(), "shift: input is ''; model 'm' takes the inputs photo, age"),
        (Shift(1, input="foto"), "input is 'foto' (did you mean \"photo\"?)"),
        (Shift(1, input="age"), "shift takes images"),
    ):
        with pytest.raises(SpecError) as error:
            record.require(model)
        assert message in str(error.value)
    with pytest.raises(SpecError, match="the input of model 'plain' has no name"):
        InputNoise(input="age").require(Model("plain", (2,), (Dense(2),)))


def dataset(x: Any = X) -> Dataset:
    return Dataset("own", x, Y, x, Y, ("no", "yes"))


def test_a_study_trains_on_several_inputs() -> None:
    arm = Arm("a", MODEL, {"quick": RECIPE})
    case = Case(Study("s", "Words and age", "ours", "own", (arm,)), arm)
    found = run(case, NumpyEngine(), dataset(), tier="quick", seed=1)
    assert found.status == "finished"
    assert len(found.history) == 2

    class OneArray(NumpyEngine):
        lacks = {"inputs": "not written yet"}  # noqa: RUF012

    with pytest.raises(EngineError, match="lacks, inputs: not written yet"):
        resolve(case, OneArray(), dataset(), "quick")
    other = dataset(join_inputs({"words": WORDS, "size": AGE}))
    with pytest.raises(DataError, match="dataset \"own\": x lacks 'age' and has 'size'"):
        resolve(case, NumpyEngine(), other, "quick")


def test_several_inputs_are_not_scaled() -> None:
    kept = prepare(dataset(), scaling="raw").train.x
    assert [str(kept[name].dtype) for name in ("words", "age")] == ["int64", "float32"]
    with pytest.raises(
        DataError, match='scaling="unit" scales pixels, but the data have the named inputs'
    ):
        prepare(dataset(), scaling="unit")
    huge = dataset(join_inputs({"words": WORDS, "age": 1e300 * np.abs(AGE)}))
    with pytest.raises(DataError, match="age reaches .*, too large for float32"):
        prepare(huge, scaling="raw")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (join_inputs({"a": np.array(["x"] * 20)[:, None]}), "x_train['a'] is <U1 of shape (20, 1)"),
        (join_inputs({"a": np.full((20, 1), np.nan)}), "x_train['a'][0, 0] is nan"),
        (X[:0], "x_train is a structured array of shape (0,)"),
    ],
)
def test_a_dataset_of_wrong_inputs_raises(x: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        dataset(x)
    assert message in str(error.value)


def test_replicas_with_other_inputs_raise() -> None:
    own = [Samples(X, Y), Samples(join_inputs({"words": WORDS, "size": AGE}), Y)]
    plans = [Plan(1), Plan(2)]
    with pytest.raises(DataError, match=r"replica 1 has the inputs \('words', 'size'\), replica 0"):
        train_replicas(NumpyEngine().replicate(MODEL, plans), own, RECIPE, plans)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dx: split_inputs(dx), "the gradient with respect to x: actual builtins.dict"),
        (lambda dx: dx["age"], "the inputs in the gradient with respect to x: actual None"),
        (lambda dx: join_inputs({"words": dx["age"]}), "actual ('words',), expected ('age',)"),
        (
            lambda dx: join_inputs({"age": dx["age"][:, :1]}),
            "the shape of the gradient with respect to x['age']: actual (20, 1)",
        ),
        (
            lambda dx: join_inputs({"age": dx["age"].astype("float32")}),
            "the dtype of the gradient with respect to x['age']: actual float32",
        ),
    ],
)
def test_the_guard_names_the_input_of_a_wrong_gradient(change: Any, message: str) -> None:
    class Wrong(NumpyEngine):
        def gradients(self, *arguments: Any) -> Any:
            found = super().gradients(*arguments)
            return found._replace(x=change(found.x))

    guard = Guard(Wrong(dtype="float64"))
    with pytest.raises(BrokenError) as error:
        guard.gradients(guard.build(MODEL), Batch(X, Y), CategoricalCrossEntropy())
    assert message in error.value.finding.summary


def test_the_guard_notices_an_input_that_is_written() -> None:
    class Writes(NumpyEngine):
        def predict(self, net: Any, x: Any) -> Any:
            found = super().predict(net, x)
            x["age"][0, 0] += 1
            return found

    guard = Guard(Writes(dtype="float64"))
    with pytest.raises(BrokenError, match="predict wrote into an array that it was given"):
        guard.predict(guard.build(MODEL), X.copy())
