"""Rounds of an engine's own training loop, and the check that they train."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Plan, count_steps
from dlsys_bench.engines.registry import create
from dlsys_bench.engines.work import is_little
from dlsys_bench.timing.benchmark import RoundOptions
from dlsys_bench.timing.epoch_benchmark import EpochBenchmark, Workload, moving, workloads
from dlsys_bench.timing.validity import NotTrainingError

SMALL = Workload("regularization/fashion", "ffn", 64, 4)


class Idle(NumpyEngine):
    """An engine that counts its epochs and does not learn."""

    def fit(self, net: Any, *args: Any) -> Any:
        before = net.parameters.copy()
        for epoch in super().fit(net, *args):
            net.parameters[...] = before
            yield epoch


class Raises(NumpyEngine):
    def fit(self, *args: Any) -> Any:
        raise RuntimeError("no")


def epoch_benchmark(engine: Any) -> EpochBenchmark:
    return EpochBenchmark(engine, SMALL, SMALL.samples(), 6)


def test_every_workload_is_an_arm() -> None:
    names = [str(work) for work in workloads()]
    assert names[0] == "lenet5-tanh-standard+bn-128"
    assert len(names) >= 11
    for work in workloads():
        assert work.case.arm.name == work.arm
        assert work.flops > 0


def test_every_workload_is_timed_with_an_optimised_program() -> None:
    rounds = RoundOptions()
    for work in workloads():
        steps = (rounds.rounds + rounds.warmup_rounds) * work.steps
        assert not is_little(work.case.arm.model, work.batch_size * steps, steps), work


def test_a_round_is_an_epoch_of_the_engine() -> None:
    epoch = epoch_benchmark(create("numpy"))
    for _ in range(4):
        epoch()
    losses = epoch.stop()
    assert len(epoch.losses) == 4
    assert losses == {
        "loss_first": epoch.losses[0],
        "loss_last": epoch.losses[-1],
        "first_epoch_seconds": epoch.first_seconds,
    }
    assert epoch.first_seconds > 0
    assert losses["loss_last"] < losses["loss_first"]


def test_a_training_that_does_not_learn_raises() -> None:
    epoch = epoch_benchmark(Idle())
    for _ in range(3):
        epoch()
    with pytest.raises(NotTrainingError):
        epoch.stop()


def test_errors_of_the_training_are_raised() -> None:
    with pytest.raises(RuntimeError, match="no"):
        epoch_benchmark(Raises())()


def test_a_bias_before_a_batch_norm_need_not_change() -> None:
    work = Workload("eggholder", "16-16-16", 1000, 50)
    model, recipe = work.case.arm.model, work.case.arm.recipe("full")
    named = moving(model, recipe, work._replace(steps=1).samples())
    left = {tensor.name for tensor in model.tensors} - set(named)
    assert left == {"dense_1.bias", "dense_2.bias", "dense_3.bias"}


def test_the_rounds_of_a_workload_may_be_shorter_than_its_schedule() -> None:
    longer = 0
    for work in workloads():
        samples, recipe = work.batch_size * work.steps, work.recipe_of_rounds(3)
        assert count_steps(samples, recipe, Plan(1)) >= 3 * work.steps
        longer += recipe.epochs > 3
    assert longer
