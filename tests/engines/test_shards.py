"""Training in shards equals training on whole batches, with the same bits for any threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.numpy import shards
from dlsys_bench.engines.numpy.shards import (
    BlockingBarrier,
    run_shards,
    run_threads,
    run_whole,
    shard_slices,
)
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
)
from dlsys_bench.spec.losses import CategoricalCrossEntropy, Loss, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam
from dlsys_bench.spec.recipe import Recipe

TANH = Activation("tanh")
MODEL = Model(
    "shards",
    (6, 6, 2),
    (
        BatchNorm(),
        Conv2D(3, (3, 3), padding="same"),
        TANH,
        Dropout(0.3),
        BatchNorm(moving_decay=0.8),
        AveragePool(),
        Conv2D(4, (2, 2)),
        TANH,
        MaxPool((2, 2), (1, 1)),
        Flatten(),
        Dense(5),
        TANH,
        BatchNorm(),
        Dropout(0.5),
        Dense(3),
    ),
)
RNG = np.random.default_rng(0)
IMAGES = Samples(RNG.standard_normal((45, 6, 6, 2)), RNG.integers(0, 3, 45))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut shards of four samples, so that small batches have several, of different sizes."""
    cut(monkeypatch)


def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MIN_SHARD_SAMPLES", 4)
    monkeypatch.setattr(shards, "MIN_SHARD_VALUES", 1)


@pytest.fixture(params=["numpy", "numba"])
def engine(request: pytest.FixtureRequest) -> str:
    if reason := unavailable(request.param):
        pytest.skip(reason)
    return str(request.param)


def trained(
    name: str,
    plan: Plan,
    dtype: str = "float64",
    convention: str = "keras",
    batch_size: int = 19,
    loss: Loss = CategoricalCrossEntropy(),  # noqa: B008
) -> tuple[Weights, Any]:
    engine = create(name, "cpu", dtype)
    net = engine.build(to_convention(convention, MODEL), seed=3)
    recipe = Recipe(Adam(0.01), batch_size=batch_size, epochs=3, loss=loss)
    recipe = to_convention(convention, recipe)
    history = train(engine, net, IMAGES, recipe, plan)
    return engine.weights(net), [(epoch.running_loss, epoch.running_accuracy) for epoch in history]


@pytest.mark.parametrize(
    ("samples", "values", "sizes"),
    [
        (1, 10**9, [1]),
        (63, 10**6, [63]),
        (64, 10**6, [32, 32]),
        (65, 10**6, [32, 33]),
        (128, 22_014, [64, 64]),
        (127, 11_000, [127]),
        (200, 10**6, [50] * 4),
        (8, 2068, [8]),
        (1000, 1539, [500, 500]),
        (1000, 1400, [1000]),
    ],
)
def test_the_shards_of_a_batch_depend_only_on_its_size(
    samples: int, values: int, sizes: list[int]
) -> None:
    assert [part.stop - part.start for part in shard_slices(samples, values)] == sizes
    assert len(shard_slices(100_000, values)) == shards.MAX_SHARDS


@pytest.mark.parametrize("convention", ["keras", "torch"])
@pytest.mark.parametrize(
    "loss",
    [CategoricalCrossEntropy(), CategoricalCrossEntropy(0.1, 1, (0.5, 2.0, 1.0))],
    ids=["plain", "weighted"],
)
def test_shards_train_as_one_batch(
    engine: str, loss: Loss, convention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parity mode the masks are equal. The last batch has 7 samples, which is one shard.

    Where labels are ignored or weighted, a shard counts by the weights of its answers.
    """
    plan = Plan(5, parity=True)
    whole, losses = trained(engine, plan, convention=convention, loss=loss)
    cut(monkeypatch)
    parts, losses_of_shards = trained(engine, plan, convention=convention, loss=loss)
    for name, values in whole.items():
        np.testing.assert_allclose(
            parts[name], values, rtol=0, atol=1e-9 * np.abs(values).max(), err_msg=name
        )
    np.testing.assert_allclose(losses_of_shards, losses, rtol=1e-9)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_do_not_depend_on_the_threads(
    engine: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in ("1", "2", "3", "8"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(trained(engine, Plan(5), dtype))
    for weights, losses in found[1:]:
        assert losses == found[0][1]
        for name, values in weights.items():
            np.testing.assert_array_equal(values, found[0][0][name], err_msg=name)


@pytest.mark.usefixtures("small")
def test_each_shard_draws_its_own_masks(engine: str) -> None:
    """The outputs of the first dropout for constant images differ between shards."""
    model = Model("drops", (50,), (Dropout(0.5), Activation("elu"), Dense(1)))
    made = create(engine, "cpu", "float64")
    net: Any = made.build(model, seed=1)
    train(
        made,
        net,
        Samples(np.ones((8, 50)), np.ones((8, 1))),
        Recipe(loss=MeanSquaredError(), batch_size=8, epochs=1),
        Plan(1),
    )
    # The last output of each shard for a constant image.
    first, second = (own.rules[0].buffer("y", (1, 50, 4), np.float64) for own in net.shards(2))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)


@pytest.mark.usefixtures("small")
def test_two_concurrent_trainings_do_not_affect_each_other(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    expected = [trained(engine, Plan(seed)) for seed in range(4)]
    found: dict[int, Any] = {}

    def one(seed: int) -> None:
        found[seed] = trained(engine, Plan(seed))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=900)
    for seed, (weights, losses) in enumerate(expected):
        assert found[seed][1] == losses
        assert all(np.array_equal(found[seed][0][name], values) for name, values in weights.items())


@pytest.mark.usefixtures("small")
def test_a_loss_that_is_not_finite_ends_the_training_at_the_same_batch(engine: str) -> None:
    made = create(engine, "cpu", "float64")
    net = made.build(Model("d", (2,), (Dense(1),)), seed=1)
    y = np.ones((24, 1))
    y[13] = np.inf
    recipe = Recipe(SGD(0.01), batch_size=8, epochs=1, shuffle=False, loss=MeanSquaredError())
    with pytest.raises(DivergedError) as raised:
        train(made, net, Samples(np.ones((24, 2)), y), recipe, Plan(1))
    assert (raised.value.epoch, raised.value.batch) == (1, 2)


def passing(number: int, fails: int | None = None) -> Generator[int, list[int], list[int]]:
    losses = list((yield number))
    if fails == number:
        raise ZeroDivisionError(f"shard {number}")
    more = yield sum(losses) + number
    return [*losses, *more]


@pytest.mark.parametrize("fails", [0, 1])
def test_a_thread_that_fails_ends_the_others(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def work(thread: int, count: int, broken: Any) -> int:
        if thread == fails:
            raise ZeroDivisionError(f"{thread} of {count}")
        while not broken[0]:
            time.sleep(0.001)
        return thread

    with pytest.raises(ZeroDivisionError, match=f"{fails} of 2"):
        run_threads(work, 8)
    assert run_threads(lambda thread, count, broken: count, 8) == 2


@pytest.fixture(params=["blocking", "spinning"])
def barrier(request: pytest.FixtureRequest) -> Any:
    """Return a barrier: the one of the operating system, and the compiled one."""
    if request.param == "blocking":
        return BlockingBarrier
    pytest.importorskip("numba")
    from dlsys_bench.engines.numba.spin_barrier import SpinBarrier

    return SpinBarrier


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_each_shard_receives_what_all_yield(
    barrier: Any, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert run_shards([passing(number) for number in range(3)], barrier) == [[0, 1, 2, 3, 4, 5]] * 3
    assert run_whole(passing(7)) == [7, 14]


@pytest.mark.parametrize("threads", ["1", "2", "3"])
@pytest.mark.parametrize("fails", [0, 2])
def test_an_error_of_a_shard_is_raised(
    barrier: Any, threads: str, fails: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with pytest.raises(ZeroDivisionError, match=f"shard {fails}"):
        run_shards([passing(number, fails) for number in range(3)], barrier)
    # The barrier can be used again.
    assert len(run_shards([passing(number) for number in range(3)], barrier)) == 3


@pytest.mark.parametrize("stopped", [1, 2])
def test_an_interrupt_leaves_no_thread_waiting(
    barrier: Any, stopped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    pool = shards._pool(os.getpid(), 2)
    handed_out = iter(range(1, 99))

    class Stopping:
        def submit(self, *arguments: Any) -> Any:
            if next(handed_out) == stopped:
                raise KeyboardInterrupt
            return pool.submit(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(shards, "_pool", lambda *arguments: Stopping())
        with pytest.raises(KeyboardInterrupt):
            run_shards([passing(number) for number in range(3)], barrier)
    assert run_shards([passing(number) for number in range(3)], barrier) == [[0, 1, 2, 3, 4, 5]] * 3
