"""The keras engine beyond the ladder: its losses, its errors, and its one backend per process.

With DLSYS_KERAS_ENGINE=keras-jax, and where TensorFlow is missing, these tests run on JAX.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from frameworks import framework_of

from dlsys_bench.conformance.drawing import shapes_for
from dlsys_bench.conformance.drawn_arrays import nonzero_weights
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import train, training_epochs
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DataError, EngineError
from dlsys_bench.spec import initializers, layers, losses, optimizers
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.graph import Node
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

BACKENDS = {"keras": "tensorflow", "keras-jax": "jax"}
REASONS = {name: unavailable(name) for name in BACKENDS}
ENGINE = os.environ.get("DLSYS_KERAS_ENGINE") or (
    "keras-jax" if REASONS["keras"] and not REASONS["keras-jax"] else "keras"
)
OTHER = "keras-jax" if ENGINE == "keras" else "keras"

pytestmark = [
    pytest.mark.skipif(bool(REASONS[ENGINE]), reason=str(REASONS[ENGINE])),
    pytest.mark.xdist_group(framework_of(ENGINE)),
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return create(ENGINE)


def linear(inputs: int, outputs: int = 1) -> Model:
    return Model("linear", (inputs,), (layers.Dense(outputs, use_bias=False),))


def test_only_kernels_of_attention_decay_by_kernels(engine: Engine) -> None:
    # In Keras, biases of attention have an axis for the heads, as if they were matrices.
    attention = layers.MultiHeadAttention(2)
    model = Model("attends", (3, 4), (attention, layers.Flatten(), layers.Dense(1)))
    model = to_convention(engine.convention, model)
    optimizer = optimizers.SGD(0.1, decay=WeightDecay(0.5, "decoupled", "kernels"))
    recipe = to_convention(engine.convention, Recipe(optimizer, 2, loss=losses.MeanSquaredError()))
    generator, given = np.random.default_rng(0), nonzero_weights(model, 3)
    samples = Samples(generator.random((2, 3, 4)), generator.random((2, 1)))
    ends = []
    for each in (engine, create("numpy")):
        network = each.build(model, given)
        train(each, network, samples, recipe, Plan(1, parity=True))
        ends.append(each.weights(network))
    for name, values in ends[1].items():
        np.testing.assert_allclose(ends[0][name], values, atol=1e-5, err_msg=name)


def test_every_tensor_starts_with_the_value_that_is_given(engine: Engine) -> None:
    for kind, record in layers.LAYERS.items():
        layer = record.of(**{name: values[0] for name, values in record.choices.items()})
        if layer.merges:
            continue
        bare = Model(kind, shapes_for(layer, True)[0], (layer,), input_dtype=layer.takes)
        model = to_convention(engine.convention, bare)
        given = nonzero_weights(model, 3)
        for name, values in engine.weights(engine.build(model, given)).items():
            np.testing.assert_array_equal(
                values, given[name].astype(values.dtype), f"{kind} {name}"
            )


# --- losses ---


@pytest.mark.parametrize(
    "loss", [losses.CategoricalCrossEntropy(), losses.SparseCategoricalCrossEntropy()]
)
def test_the_loss_of_a_softmax_is_the_loss_of_its_outputs(
    engine: Engine, loss: losses.Loss
) -> None:
    """Keras on TensorFlow would take the cross-entropy of the inputs of the softmax."""
    softmax = layers.Activation("softmax")
    trainable = Model("softmax", (3,), (layers.Dense(3, use_bias=False), softmax))
    x, y = np.random.default_rng(5).normal(size=(4, 3)), np.array([0, 1, 2, 0])
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    expected = np.mean(np.log(np.exp(p).sum(1)) - p[np.arange(4), y])
    net = engine.build(Model("softmax", (3,), (softmax,)))
    assert engine.gradients(net, Batch(x, y), loss).loss == pytest.approx(expected, abs=3e-6)
    net = engine.build(trainable, {"dense_1.kernel": np.eye(3)})
    recipe = Recipe(optimizers.SGD(0.0), 4, 1, loss=loss)
    (epoch,) = train(engine, net, Samples(x, y), recipe, Plan(0))
    assert epoch.running_loss == pytest.approx(expected, rel=1e-6)


def test_losses_of_steps_are_in_order_though_their_batches_end_out_of_order(engine: Engine) -> None:
    """Keras reports the ends of batches from threads.

    Batches of 2, 2 and 1 samples with the losses 1, 4 and 10 have the running means 1, 2.5 and 4.
    """
    from dlsys_bench.engines.keras.callbacks import EpochCallback

    schedule = LearningRateRamp(0.1, 0.2, 3)
    recipe = Recipe(optimizers.SGD(0.1), batch_size=2, epochs=1, schedule=schedule)
    net = engine.build(linear(1))
    (epoch_run,) = training_epochs(net.model, 5, recipe, Plan(0))
    callback = EpochCallback(net, epoch_run)
    callback.on_epoch_begin(0)
    for batch in range(3):
        callback.on_train_batch_begin(batch)
    for batch, mean in ((0, 1.0), (2, 4.0), (1, 2.5)):
        callback.on_train_batch_end(batch, {"loss": mean})
    callback.on_epoch_end(0, {"loss": 4.0})
    assert callback.ended.by_step is not None
    np.testing.assert_allclose(callback.ended.by_step["loss"], [1.0, 4.0, 10.0])


@pytest.mark.skipif(ENGINE != "keras", reason="Keras on JAX compiles in any case")
@pytest.mark.parametrize(
    ("steps", "plan", "uncompiled"),
    [
        (6, Plan(0, parity=True), True),
        (7, Plan(0, parity=True), False),
        (2, Plan(0), False),
    ],
    ids=["few steps with a plan", "many steps with a plan", "few steps natively"],
)
def test_only_few_steps_with_a_plan_are_not_compiled(
    engine: Engine, steps: int, plan: Plan, uncompiled: bool
) -> None:
    network = engine.build(linear(3))
    samples = Samples(np.eye(3), np.eye(3)[:, :1])
    recipe = Recipe(optimizers.SGD(0.1), 3, epochs=steps, loss=losses.MeanSquaredError())
    train(engine, network, samples, recipe, plan)
    assert network.network.run_eagerly is uncompiled


@pytest.mark.skipif(ENGINE != "keras", reason="Keras on JAX compiles in any case")
def test_a_step_with_a_layer_that_keras_compiles_is_compiled(engine: Engine) -> None:
    convolution = layers.Conv2D.of(filters=2, kernel_size=1, groups=2)
    network = engine.build(Model("groups", (2, 2, 2), (convolution, layers.Flatten())))
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 2))
    recipe = Recipe(optimizers.SGD(0.1), 3, epochs=1, loss=losses.MeanSquaredError())
    train(engine, network, Samples(x, x.reshape(3, 8)), recipe, Plan(0, parity=True))
    assert network.network.run_eagerly is False
    engine.predict(network, x)
    assert network.network.predict_function is not None


@pytest.mark.skipif(ENGINE != "keras", reason="Keras on JAX knows the size of each batch")
@pytest.mark.parametrize(("samples", "branches"), [(17, 0), (16, 1), (13, 2)])
def test_a_step_branches_only_for_parts_that_some_batch_lacks(
    engine: Engine, samples: int, branches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches have six samples in three parts, and the last batch has the rest."""
    import keras

    conditions = []

    def cond(condition: object, compute: object, otherwise: object) -> object:
        conditions.append(condition)
        return choose(condition, compute, otherwise)

    choose = keras.ops.cond
    monkeypatch.setattr(keras.ops, "cond", cond)
    x = np.random.default_rng(0).standard_normal((samples, 3))
    recipe = Recipe(optimizers.SGD(0.1), 6, epochs=2, loss=losses.MeanSquaredError(), shuffle=False)
    ends = []
    for parts in (None, 3):
        network = engine.build(linear(3), {"dense_1.kernel": np.ones((3, 1))})
        own = replace(recipe, accumulate=parts)
        train(engine, network, Samples(x, x[:, :1]), own, Plan(0))
        ends.append(engine.weights(network)["dense_1.kernel"])
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-6)
    assert len(conditions) == branches


# --- errors, and what is imported when ---


def test_labels_out_of_range_are_refused(engine: Engine) -> None:
    net, samples = engine.build(linear(1, 3)), Samples(np.ones((2, 1)), np.array([0, 3]))
    with pytest.raises(DataError, match=r"y\[1\] is 3"):
        train(engine, net, samples, Recipe(), Plan(0))
    with pytest.raises(DataError, match=r"y\[1\] is 3"):
        engine.gradients(net, Batch(samples.x, samples.y), losses.CategoricalCrossEntropy())


@pytest.mark.parametrize("name", ["block/1", "two words", "é", "%s", "training"])
def test_a_node_may_have_a_name_that_keras_does_not_accept(engine: Engine, name: str) -> None:
    node = Node(name, layers.Dense(2), "input")
    model = Model("named", (3,), (node, Node("last", layers.Dense(1), name)))
    x, y = np.ones((4, 3), engine.dtype), np.ones((4, 1), engine.dtype)
    recipe = Recipe(optimizers.SGD(0.1), 2, epochs=1, loss=losses.MeanSquaredError())
    net = engine.build(model, nonzero_weights(model, 3))
    train(engine, net, Samples(x, y), to_convention(engine.convention, recipe), Plan(0))
    assert f"{name}.kernel" in engine.weights(net)


def test_what_keras_cannot_do_is_refused_by_name(engine: Engine) -> None:
    dampened = optimizers.SGD(0.1, momentum=0.9, dampening=0.5, velocity="gradient")
    with pytest.raises(EngineError, match="velocity is 'gradient'"):
        engine.check(Recipe(dampened))
    with pytest.raises(EngineError, match="epsilon_added is 'after'"):
        engine.check(Recipe(optimizers.Adam(epsilon_added="after")))
    dense = layers.Dense(2, kernel_initializer=initializers.GlorotNormal(truncated=False))
    with pytest.raises(EngineError, match="glorot_normal: truncated is False"):
        engine.build(Model("plain", (2,), (dense,)))


def test_a_device_that_is_not_there_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlsys_bench.engines.keras import backend

    name = BACKENDS[ENGINE]
    without = backend.BACKENDS[name]._replace(has_gpu=lambda: False)
    monkeypatch.setitem(backend.BACKENDS, name, without)
    with pytest.raises(EngineError) as caught:
        create(ENGINE, device="cuda")
    assert (
        str(caught.value)
        == f'engine "{ENGINE}" finds no CUDA device on this machine: use --device cpu'
    )


@pytest.mark.skipif(bool(REASONS["keras-jax"]), reason=str(REASONS["keras-jax"]))
def test_keras_on_jax_has_no_float64() -> None:
    with pytest.raises(EngineError, match="no dtype 'float64'; it has float32"):
        create("keras-jax", dtype="float64")


def test_a_second_backend_in_one_process_is_refused(engine: Engine) -> None:
    from dlsys_bench.engines.keras import KerasEngine, KerasJaxEngine

    with pytest.raises(EngineError) as caught:
        (KerasJaxEngine if ENGINE == "keras" else KerasEngine)()
    assert str(caught.value) == (
        f'engine "{OTHER}" needs keras on {BACKENDS[OTHER]}, but this process already runs it on '
        f"{BACKENDS[ENGINE]}: use a separate process"
    )


def test_importing_the_engine_imports_no_framework() -> None:
    code = (
        "import sys, dlsys_bench.engines.keras; "
        "sys.exit(bool({'keras', 'tensorflow', 'jax'} & {*sys.modules}))"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.slow
def test_keras_squares_every_occurrence_of_a_token_by_itself() -> None:
    """The smallest example of what the engine declares for embeddings.

    The gradient of the token is 1 + 1, so the moving mean of its square is 0.1 * 4.
    """
    import keras
    import tensorflow as tf

    variable = keras.Variable(np.zeros((1, 1)), dtype="float32")
    optimizer = keras.optimizers.RMSprop(0.1, rho=0.9)
    twice = tf.IndexedSlices(tf.ones((2, 1)), tf.constant([0, 0]), tf.constant([1, 1]))
    optimizer.apply([twice], [variable])
    velocity = keras.ops.convert_to_numpy(keras.ops.copy(optimizer._velocities[0]))
    assert velocity == pytest.approx(0.1 * (1 + 1))
