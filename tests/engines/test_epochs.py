"""A training is a generator of epochs: closed early, interleaved with another, and without effect
on the random state and the settings of its caller."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import train, training_epochs
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.loss_scale import LossScaler
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DivergedError, LossScaleError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout
from dlsys_bench.spec.loss_scale import SMALLEST, LossScale
from dlsys_bench.spec.losses import MeanSquaredError, SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

LAYERS = (Dense(5), BatchNorm(), Activation("tanh"), Dropout(0.5), Dense(3))
GENERATOR = np.random.default_rng(0)
SAMPLES = Samples(
    GENERATOR.standard_normal((30, 4)).astype("float32"), GENERATOR.integers(0, 3, 30)
)


@pytest.fixture(params=["numpy", "numba", "torch", "jax", "keras"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if reason := unavailable(request.param):
        pytest.skip(reason)
    return create(request.param)


def begin(engine: Engine, seed: int, epochs: int = 3) -> tuple[Any, Any]:
    """Return a network and its training, which has not begun."""
    net = engine.build(to_convention(engine.convention, Model("m", (4,), LAYERS)), seed=seed)
    recipe = to_convention(engine.convention, Recipe(Adam(), batch_size=8, epochs=epochs))
    return net, engine.fit(net, SAMPLES, recipe, Plan(seed))


def same(one: Weights, other: Weights) -> bool:
    return all(np.array_equal(values, other[name]) for name, values in one.items())


def global_states() -> Iterator[object]:
    """Yield what a training must not change for its caller."""
    yield random.getstate()
    yield np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    yield np.geterr()
    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    yield [(pool["filepath"], pool["num_threads"]) for pool in blas]
    if not unavailable("torch"):
        import torch

        yield torch.get_rng_state().tolist()
        yield torch.get_num_threads()
    if "tensorflow" in sys.modules:
        # What an operation without a seed would be given, which advances nothing.
        context = sys.modules["tensorflow.python.eager.context"].context()
        yield context._seed, context._seed and context._rng.getstate()


def test_a_closed_training_leaves_the_weights_of_its_last_epoch(engine: Engine) -> None:
    net, training = begin(engine, 1)
    next(training)
    weights = engine.weights(net)
    training.close()
    assert same(engine.weights(net), weights)
    assert list(training) == []
    # The network can be used and trained again, as one that was built from these weights.
    twin = engine.build(to_convention(engine.convention, Model("m", (4,), LAYERS)), weights)
    recipe = to_convention(engine.convention, Recipe(Adam(), batch_size=8, epochs=2))
    for each in (net, twin):
        train(engine, each, SAMPLES, recipe, Plan(7))
    assert same(engine.weights(net), engine.weights(twin))


def test_trainings_can_be_interleaved(engine: Engine) -> None:
    expected = []
    for seed in (1, 2):
        net, training = begin(engine, seed)
        assert len(list(training)) == 3
        expected.append(engine.weights(net))
    (one, first), (other, second) = begin(engine, 1), begin(engine, 2)
    for _ in range(3):
        next(first)
        next(second)
    assert same(engine.weights(one), expected[0])
    assert same(engine.weights(other), expected[1])


@pytest.fixture
def two_threads(engine: Engine) -> Iterator[None]:
    """Let BLAS have two threads once the engine has trained, since frameworks load their libraries
    at the first use. A limit of one that is left behind could not be seen if BLAS had one."""
    list(begin(engine, 9, epochs=1)[1])
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.usefixtures("two_threads")
def test_the_random_state_and_the_settings_are_the_callers(engine: Engine) -> None:
    if engine.name == "keras":
        import tensorflow

        tensorflow.random.set_seed(12)
    before = list(global_states())
    net, training = begin(engine, 1)
    assert list(global_states()) == before
    for _ in range(2):
        next(training)
        assert list(global_states()) == before
    # What the caller draws between two epochs does not change the training.
    random.random()
    np.random.random()  # noqa: NPY002
    if not unavailable("torch"):
        import torch

        torch.rand(3)
    drawn = list(global_states())
    next(training)
    assert list(global_states()) == drawn
    training.close()
    assert list(global_states()) == drawn
    expected, undisturbed = begin(engine, 1)
    list(undisturbed)
    assert same(engine.weights(net), engine.weights(expected))


def test_passes_between_epochs_do_not_change_the_training(engine: Engine) -> None:
    """The dropout layers of a pass without masks draw, but not from the stream of the training."""
    net, training = begin(engine, 1)
    for _ in training:
        engine.trace(net, Batch(SAMPLES.x, SAMPLES.y))
        engine.gradients(net, Batch(SAMPLES.x, SAMPLES.y), SparseCategoricalCrossEntropy())
    expected, undisturbed = begin(engine, 1)
    list(undisturbed)
    assert same(engine.weights(net), engine.weights(expected))


MODEL = Model("m", (1,), (Dense(1),))


def run(losses: list[float], epochs: int = 2, model: Model = MODEL, **options: Any) -> list[Epoch]:
    """Feed these losses of batches of 4, 4 and 2 to the bookkeeping."""
    recipe, found, left = Recipe(batch_size=4, epochs=epochs, **options), [], iter(losses)
    for epoch in training_epochs(model, 10, recipe, Plan(0)):
        for _ in epoch.steps():
            epoch.add(next(left), correct=1)
        found.append(epoch.end())
    return found


def test_the_figures_are_means_weighted_by_the_size_of_the_batches() -> None:
    first, second = run([1.0, 2.0, 5.0, 0.0, 0.0, 10.0])
    assert (first.epoch, first.steps, second.epoch, second.steps) == (1, 3, 2, 6)
    assert (first.running_loss, second.running_loss) == (2.2, 2.0)
    assert (first.running_accuracy, second.running_accuracy) == (0.3, 0.3)
    assert first.by_step is None
    (cut,) = run([1.0, 2.0], steps=2)
    assert (cut.steps, cut.running_loss, cut.running_accuracy) == (2, 1.5, 0.25)
    assert run([1.0] * 3, 1, loss=MeanSquaredError())[0].running_accuracy is None


def test_each_step_has_its_rate_and_its_samples() -> None:
    schedule = LearningRateRamp(0.1, 0.6, 6)
    _, second = run([1.0, 2.0, 5.0, 0.0, 0.0, 10.0], schedule=schedule)
    rates = [schedule.rate(step) for step in (3, 4, 5)]
    expected = {"learning_rate": rates, "batch_size": [4.0, 4.0, 2.0], "loss": [0.0, 0.0, 10.0]}
    assert second.by_step == expected
    recipe, plan = Recipe(batch_size=4, epochs=2), Plan(3)
    for number, epoch in enumerate(training_epochs(MODEL, 10, recipe, plan), start=1):
        chosen = np.concatenate([step.chosen for step in epoch.steps()])
        np.testing.assert_array_equal(chosen, plan.order(number, 10))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_raises_before_the_update(bad: float) -> None:
    with pytest.raises(DivergedError) as raised:
        run([1.0, 2.0, 3.0, 1.0, bad, 2.0])
    assert (raised.value.epoch, raised.value.batch) == (2, 2)


def test_a_loss_scale_that_fell_names_its_batch_and_can_be_pickled() -> None:
    scaler = LossScaler(LossScale(4 * SMALLEST))
    for epoch in training_epochs(MODEL, 10, Recipe(batch_size=4, epochs=2), Plan(0)):
        epoch.add_all([1.0, 2.0, 3.0])
        assert scaler.error(epoch) is None
        for finite in (True, False, True) if epoch.number == 1 else (False, False, False):
            scaler.update(finite)
    error = pickle.loads(pickle.dumps(scaler.error(epoch)))
    assert isinstance(error, LossScaleError)
    assert (error.epoch, error.batch, error.loss) == (2, 2, 2.0)
    assert "fell below its smallest value in epoch 2, batch 2" in str(error)


def test_the_clock_stops_while_the_caller_works(monkeypatch: pytest.MonkeyPatch) -> None:
    now, seconds = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    for epoch in training_epochs(MODEL, 10, Recipe(batch_size=4, epochs=2), Plan(0)):
        epoch.add_all([1.0, 1.0, 1.0])
        now[0] += 2.0
        seconds.append(epoch.end().seconds)
        now[0] += 50.0
    assert seconds == [2.0, 2.0]
