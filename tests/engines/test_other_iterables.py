"""Engines whose `fit` returns something else than a generator of epochs."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from dlsys_bench.data import load
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import closing, train_replicas
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.replicas import OneByOne
from dlsys_bench.errors import EngineError
from dlsys_bench.runs.run import resolve, run, train
from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Case, Study
from dlsys_bench.timing.epoch_benchmark import EpochBenchmark, Workload, train_rounds

MODEL = Model("small", (28, 28, 1), (Flatten(), Dense(10)))
RECIPE = Recipe(SGD(0.1), batch_size=500, epochs=2, samples=1000)
ARM = Arm("only", MODEL, {"quick": RECIPE})
CASE = Case(Study("small", "small", "a test", "digits", (ARM,)), ARM)
SMALL = Workload("regularization/fashion", "ffn", 64, 4)


class Lists(NumpyEngine):
    """Trains to the end, and returns the list of its epochs."""

    def fit(self, *args: Any) -> Any:
        return list(super().fit(*args))


class Iterates(NumpyEngine):
    """Returns an iterator, which cannot be closed."""

    def fit(self, *args: Any) -> Any:
        return iter(list(super().fit(*args)))


class Returns(NumpyEngine):
    """Returns `found`."""

    found: Any = None

    def fit(self, *args: Any) -> Any:
        return self.found


class Loss(NamedTuple):
    running_loss: float


@pytest.mark.parametrize("kind", [Lists, Iterates])
def test_any_iterable_of_epochs_trains(kind: type[Engine]) -> None:
    result = run(CASE, kind(), load("digits"))
    expected = run(CASE, NumpyEngine(), load("digits"))
    assert len(result.history) == 2
    assert result.last is not None
    assert expected.last is not None
    assert result.last.test_accuracy == expected.last.test_accuracy
    training = EpochBenchmark(kind(), SMALL, SMALL.samples(), 3)
    training()
    training.stop()
    assert len(train_rounds(kind(), SMALL, 2).losses) == 2
    replicas, samples = OneByOne(kind(), [MODEL] * 2, [Plan(0), Plan(1)]), load("digits")
    split = resolve(CASE, kind(), samples, "quick").prepare(0).train
    histories = train_replicas(replicas, split, RECIPE, [Plan(0), Plan(1)])
    assert [len(history) for history in histories] == [2, 2]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "fit returned NoneType"),
        ([], "fit yielded no epoch"),
        ([Loss(1.0)], "fit yielded Loss: it has to yield an Epoch"),
    ],
)
def test_anything_else_is_an_error_of_the_engine(found: Any, message: str) -> None:
    engine = Returns()
    engine.found = found
    with pytest.raises(EngineError, match=message):
        run(CASE, engine, load("digits"))
    with pytest.raises(EngineError, match=message):
        train_rounds(engine, SMALL, 2)


def test_an_error_of_the_caller_ends_the_training() -> None:
    closed = []

    class Watched(NumpyEngine):
        def fit(self, *args: Any) -> Any:
            try:
                yield from super().fit(*args)
            finally:
                closed.append(True)

    def on_epoch(epoch: object) -> None:
        raise KeyError("mine")

    resolved = resolve(CASE, Watched(), load("digits"), "quick")
    with pytest.raises(KeyError) as raised:
        train(resolved, resolved.prepare(0), Plan(0), on_epoch)
    # The traceback still holds the frame of the training: only closing ends it.
    assert raised.tb is not None
    assert closed == [True]


def test_closing_closes_what_can_be_closed() -> None:
    with closing(iter(())) as epochs, pytest.raises(EngineError):
        next(epochs)
