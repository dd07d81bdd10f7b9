"""The replicas of the torch engine: their draws, their device and their failures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.history import Histories
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import BatchError
from dlsys_bench.notebooks.zoo import narrow
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import FanInUniform, GlorotNormal, HeUniform, Normal
from dlsys_bench.spec.layers import (
    Activation,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GroupNorm,
    MaxPool,
)
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam
from dlsys_bench.spec.recipe import Recipe

if reason := unavailable("torch"):
    pytest.skip(reason, allow_module_level=True)

import torch
from torch.utils._python_dispatch import TorchDispatchMode

LENET = to_convention(
    "torch",
    Model(
        "small",
        (8, 8, 2),
        (
            BatchNorm(),
            Conv2D(3, (3, 3), padding="same"),
            Activation("tanh"),
            BatchNorm(),
            MaxPool(),
            Conv2D(4, (2, 2), strides=(2, 1)),
            Activation("relu"),
            Flatten(),
            Dense(5),
            BatchNorm(),
            Dense(3),
        ),
    ),
)
DROPPED = to_convention("torch", Model("dropped", (200,), (Dropout(0.5), Dense(1, use_bias=False))))


def images(seed: int, count: int = 26) -> Samples:
    generator = np.random.default_rng(seed)
    return Samples(generator.standard_normal((count, 8, 8, 2)), generator.integers(0, 3, count))


def same(one: Weights, other: Weights) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_replica_starts_as_a_single_network_of_its_seed(dtype: str) -> None:
    engine = create("torch", dtype=dtype)
    starts = [HeUniform(), GlorotNormal(), FanInUniform(), Normal(0.3)]
    models = [
        to_convention(
            "torch",
            Model(
                "m",
                (9, 9, 2),
                (
                    Conv2D(5, (3, 3), kernel_initializer=start),
                    BatchNorm(),
                    Flatten(),
                    Dense(6, kernel_initializer=start, bias_initializer=start),
                ),
            ),
        )
        for start in starts
    ]
    plans = [Plan(seed) for seed in (5, 5, 0, 77)]
    replicas = engine.replicate(models, plans)
    for replica, (model, plan) in enumerate(zip(models, plans, strict=True)):
        assert same(replicas.weights(replica), engine.weights(engine.build(model, seed=plan.seed)))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.01)])
def test_without_dropout_a_replica_trains_as_a_single_network_of_its_seed(
    shuffle: bool, optimizer: Any
) -> None:
    """Outside parity mode, too: each replica has its own generator for shuffling.

    Without shuffling, all replicas share their batches.
    """
    engine = create("torch", dtype="float64")
    recipe = to_convention("torch", Recipe(optimizer, batch_size=6, epochs=3, shuffle=shuffle))
    plans = [Plan(seed) for seed in (3, 8, 3)]
    replicas = engine.replicate(LENET, plans)
    histories = train_replicas(replicas, images(0), recipe, plans)
    for replica, plan in enumerate(plans):
        net = engine.build(LENET, seed=plan.seed)
        single = train(engine, net, images(0), recipe, plan)
        for name, tensor in engine.weights(net).items():
            # The gradient of a bias before batch norm is rounding error, which Adam divides by its
            # epsilon.
            np.testing.assert_allclose(
                replicas.weights(replica)[name], tensor, rtol=0, atol=1e-8, err_msg=name
            )
        np.testing.assert_allclose(
            [epoch.running_loss for epoch in histories[replica]],
            [epoch.running_loss for epoch in single],
            rtol=1e-9,
        )
    first, other, again = (replicas.weights(replica) for replica in range(3))
    np.testing.assert_allclose(again["dense_1.kernel"], first["dense_1.kernel"], rtol=0, atol=1e-8)
    assert np.abs(other["dense_1.kernel"] - first["dense_1.kernel"]).max() > 0.01


def kept(shuffle: bool, seeds: list[int]) -> Array:
    """Return the inputs that each replica kept in one step on one sample, (R, 200).

    The other rows of its kernel have not moved.
    """
    engine = create("torch", dtype="float64")
    plans = [Plan(seed) for seed in seeds]
    replicas = engine.replicate(DROPPED, plans)
    before = [replicas.weights(replica)["dense_1.kernel"] for replica in range(len(plans))]
    recipe = to_convention(
        "torch",
        Recipe(SGD(0.1), batch_size=1, epochs=1, steps=1, loss=MeanSquaredError(), shuffle=shuffle),
    )
    state = torch.get_rng_state()
    train_replicas(replicas, Samples(np.ones((1, 200)), np.full((1, 1), 9.0)), recipe, plans)
    assert torch.equal(torch.get_rng_state(), state), "the random state of the caller has changed"
    after = [replicas.weights(replica)["dense_1.kernel"] for replica in range(len(plans))]
    return np.array([new != old for new, old in zip(after, before, strict=True)])[..., 0]


@pytest.mark.parametrize("shuffle", [True, False])
def test_replicas_draw_their_dropout_independently(shuffle: bool) -> None:
    """This includes replicas of one seed.

    Of 200 fair coins, 60 to 140 show heads with a probability of 1 - 1e-8.
    """
    found = kept(shuffle, [4, 4, 4, 9])
    assert ((found.sum(axis=1) > 60) & (found.sum(axis=1) < 140)).all()
    for first in range(4):
        for second in range(first):
            assert 60 < (found[first] == found[second]).sum() < 140


def test_draws_depend_only_on_the_seeds() -> None:
    torch.manual_seed(1)
    first = kept(True, [4, 9])
    torch.manual_seed(2)
    np.testing.assert_array_equal(kept(True, [4, 9]), first)
    assert (kept(True, [4, 10])[0] != first[0]).any()


def test_a_replica_that_diverges_returns_to_the_start_of_the_epoch() -> None:
    engine = create("torch")
    model = Model("line", (3,), (Dense(4), Activation("tanh"), Dense(1)))
    generator = np.random.default_rng(0)
    samples = Samples(generator.standard_normal((40, 3)), generator.standard_normal((40, 1)))
    base = to_convention(
        "torch", Recipe(SGD(0.01), batch_size=10, epochs=6, loss=MeanSquaredError())
    )
    recipes = [
        replace(base, optimizer=replace(base.optimizer, learning_rate=rate))
        for rate in (0.01, 70.0, 0.05)
    ]
    plans = [Plan(seed) for seed in (0, 1, 2)]
    replicas = engine.replicate(model, plans)
    weights_by_epoch: list[Weights] = []
    epochs = []
    for epoch in replicas.fit(samples, recipes, plans):
        epochs.append(epoch)
        weights_by_epoch.append(replicas.weights(1))
    histories = Histories(3, epochs)
    failure = replicas.failures[1]
    with pytest.raises(type(failure)) as raised:
        train(engine, engine.build(model, seed=1), samples, recipes[1], plans[1])
    assert str(raised.value) == str(failure)
    assert 1 < failure.epoch < 6
    assert len(histories[1]) == failure.epoch - 1
    for place in range(failure.epoch - 1, 6):
        assert same(weights_by_epoch[place], weights_by_epoch[failure.epoch - 2])
    assert same(replicas.weights(1), weights_by_epoch[failure.epoch - 2])
    for replica in (0, 2):
        net = engine.build(model, seed=plans[replica].seed)
        train(engine, net, samples, recipes[replica], plans[replica])
        for name, tensor in engine.weights(net).items():
            np.testing.assert_allclose(
                replicas.weights(replica)[name], tensor, rtol=1e-4, atol=1e-5
            )


class Asked(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the numbers that are read from the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_other_device() -> Iterator[None]:
    """Make `meta` the default device: a tensor made without a device then holds nothing, and
    cannot be combined with one that does."""
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("no_other_device")
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.1, 0.2)])
@pytest.mark.parametrize("parity", [True, False])
def test_every_tensor_is_on_the_engines_device(
    shuffle: bool, rates: tuple[float, ...], parity: bool
) -> None:
    """The CPU then refuses what a GPU would: tensors on two devices, and steps that wait."""
    engine = create("torch")
    model = to_convention("torch", Model("m", (8, 8, 2), (Dropout(0.3), *LENET.layers)))
    recipes = [
        to_convention("torch", Recipe(SGD(rate), batch_size=6, epochs=2, shuffle=shuffle))
        for rate in rates
    ]
    plans = [Plan(seed, parity=parity) for seed in (0, 1)]
    with torch.device("cpu"):
        replicas = engine.replicate(model, plans)
    with Asked() as asked:  # type: ignore[no-untyped-call]
        train_replicas(replicas, images(0), recipes, plans)
    assert asked.count == 0
    assert np.isfinite(replicas.predict(images(0).x)).all()
    assert [output.shape[:2] for output in replicas.trace(images(0).x)] == [(2, 26)] * 12


def test_a_batch_of_one_sample_is_refused() -> None:
    recipe = to_convention("torch", Recipe(batch_size=5))
    with pytest.raises(BatchError, match="batch_norm_. cannot train on a batch of 1 sample: "):
        train_replicas(create("torch").replicate(LENET, [Plan(0)]), images(0), recipe, [Plan(0)])


def test_a_group_of_one_value_is_normalised_to_beta() -> None:
    engine = create("torch")
    model = Model("one", (1,), (GroupNorm(groups=1), Dense(1)))
    weights = Plan(0).weights(model) | {"group_norm_1.beta": np.array([2.0])}
    net = engine.build(model, weights)
    batch = Batch(np.array([[5.0]]), np.array([[0.0]]), None, training=True)
    assert engine.trace(net, batch)[0] == pytest.approx(2.0, abs=1e-4)


def test_outputs_are_predicted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = create("torch", dtype="float64").replicate(LENET, [Plan(0), Plan(1)])
    whole, own = replicas.predict(images(0).x), np.stack([images(0).x, images(1).x])
    monkeypatch.setattr("dlsys_bench.engines.torch.replicas.PREDICTED_BYTES", 1)
    np.testing.assert_allclose(replicas.predict(images(0).x), whole, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(replicas.predict(own)[0], whole[0], rtol=1e-12, atol=1e-12)
    assert replicas.predict(images(0).x[:0]).shape == (2, 0, 3)


def test_a_thousand_networks_are_one_program() -> None:
    engine = create("torch")
    model = to_convention("torch", narrow("relu"))
    recipe = to_convention(
        "torch", Recipe(Adam(), batch_size=64, epochs=2, loss=MeanSquaredError())
    )
    x = np.random.default_rng(0).uniform(-1, 1, (3000, 1)).astype("float32")
    plans = [Plan(seed) for seed in range(1000)]
    assert engine.replicas_at_once(model, recipe) >= 1000
    replicas = engine.replicate(model, plans)
    histories = train_replicas(replicas, Samples(x, np.abs(x)), recipe, plans)
    better = [history[1].running_loss < history[0].running_loss for history in histories]
    assert np.mean(better) > 0.9
    assert not replicas.failures
    assert len(np.unique(replicas.predict(x[:1]).ravel())) > 100
