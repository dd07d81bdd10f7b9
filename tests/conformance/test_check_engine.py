"""Checking an engine from Python, and from the tests of a project."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from dlsys_bench import NotConformingError, check_engine, parametrize_with_checks
from dlsys_bench.conformance.finding import Fault
from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.result import Status
from dlsys_bench.conformance.runner import LocalRunner, engine_factory
from dlsys_bench.conformance.trial import LEAST, Options, Trial
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.dense import DenseRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.errors import UserError
from dlsys_bench.spec.layers import MaxPool
from dlsys_bench.spec.optimizers import RMSprop

HERE = Path(__file__).parent
FEW = Options(examples=8)


class HalfBias(NumpyEngine):
    """A broken twin: its dense layers learn their biases at half the speed."""

    def build(self, model: Any, weights: Any = None, *, seed: int = 0) -> Any:
        net = super().build(model, weights, seed=seed)
        for rule in net.rules:
            if isinstance(rule, DenseRule):
                rule.backward = _halving(rule)  # type: ignore[method-assign]
        return net


def _halving(rule: DenseRule) -> Any:
    whole = rule.backward

    def backward(dy: Array, wants_dx: bool) -> Array | None:
        dx = whole(dy, wants_dx)
        if rule.layer.use_bias:
            rule.gradients["bias"][...] *= 0.5
        return dx

    return backward


class NoPools(NumpyEngine):
    """An engine without max pools and RMSprop, and with one declaration that is stale."""

    lacks = {  # noqa: RUF012
        "layer:max_pool": "not written yet",
        "optimizer:rmsprop": "nor this",
        "function:sigmoid": "written since",
    }

    def build(self, model: Any, weights: Any = None, *, seed: int = 0) -> Any:
        if any(isinstance(layer, MaxPool) for layer in model.layers):
            raise NotImplementedError("max_pool")
        return super().build(model, weights, seed=seed)

    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Any:
        if isinstance(recipe.optimizer, RMSprop):
            raise NotImplementedError("rmsprop")
        return super().fit(net, samples, recipe, plan)


def test_a_finding_names_the_layer_the_tensor_and_the_smallest_example() -> None:
    with pytest.raises(NotConformingError) as raised:
        check_engine(HalfBias, checks=["forward/dense", "gradient/dense", "loss"])
    results = {result.name: result for result in raised.value.results}
    assert results["forward/dense"].status is Status.PASSED
    finding = results["gradient/dense"].finding
    assert finding is not None
    assert (finding.layer, finding.tensor) == ("dense_2", "dense_2.bias")
    # As small as it gets: one layer under the last, the fewest samples.
    assert finding.example is not None
    assert "dense(units=3), dense(units=2); 1 sample," in finding.example
    assert results["loss/hinge"].status is Status.NOT_REACHED
    assert "the rung gradient broke" in str(results["loss/hinge"].reason)
    assert "not reached, on higher rungs:" in str(raised.value)


def test_beyond_continues_above_a_rung_that_breaks() -> None:
    results = check_engine(
        HalfBias, "collect", checks=["gradient/dense", "checkpoint"], options=FEW, beyond=True
    )
    others = [check.name for check in select(["checkpoint"], NumpyEngine.dtypes)]
    assert [result.name for result in results] == ["gradient/dense", *others]
    assert [result.status for result in results] == [
        Status.FAILED,
        *[Status.PASSED] * len(others),
    ]


def test_what_an_engine_lacks_is_declared_with_its_reason() -> None:
    results = {
        o.name: o
        for o in check_engine(
            NoPools(), options=FEW, checks=["forward/max_pool", "forward/network", "step/rmsprop"]
        )
    }
    assert results["forward/max_pool"].status is Status.DECLARED
    assert results["forward/max_pool"].reason == "layer:max_pool: not written yet"
    assert results["step/rmsprop"].reason == "optimizer:rmsprop: nor this"
    assert results["forward/network"].status is Status.PASSED


def test_a_declared_lack_that_works_is_stale() -> None:
    checks = ["shapes/sigmoid", "shapes/max_pool", "forward/sigmoid"]
    results = {
        result.name: result
        for result in check_engine(NoPools, "collect", checks=checks, options=FEW)
    }
    finding = results["shapes/sigmoid"].finding
    assert finding is not None
    assert finding.fault is Fault.STALE_DECLARATION
    assert "remove it" in finding.summary
    assert "'function:sigmoid' (function:sigmoid: written since)" in finding.summary
    assert results["shapes/max_pool"].status is Status.DECLARED
    # It says nothing about the other checks, so it does not break the rung.
    assert results["forward/sigmoid"].status is Status.DECLARED
    statuses = [result.status for result in results.values()]
    assert statuses.count(Status.FAILED) == 1


def test_a_declared_lack_is_reported_when_the_budget_has_ended() -> None:
    # Hypothesis takes it for a failure and tries again; the end of the time once passed it over, on
    # a slow machine.
    (result,) = check_engine(
        NoPools, "collect", checks=["trajectory/fit-max_pool"], options=Options(budget=1e-6)
    )
    assert result.status is Status.DECLARED


def test_an_error_of_a_check_is_raised_when_the_budget_has_ended() -> None:
    def body(example: int) -> None:
        raise ZeroDivisionError(str(example))

    with pytest.raises(ZeroDivisionError, match="0"):
        Trial(engine_factory("numpy", "cpu"), options=Options(budget=1e-6)).search(
            st.integers(0, 9), body
        )


def test_an_example_that_cannot_be_compared_is_not_counted() -> None:
    compared = []

    def body(example: int) -> None:
        assume(example > 3)
        compared.append(example)

    trial = Trial(engine_factory("numpy", "cpu"), options=Options(budget=1e-6))
    trial.search(st.integers(0, 9), body)
    assert trial.drawn == len(compared) >= 3


def test_a_slow_engine_does_not_see_small_examples_alone() -> None:
    """Hypothesis draws a tenth of the examples small, before the others."""

    def largest(seed: int) -> int:
        sizes = list[int]()
        trial = Trial(engine_factory("numpy", "cpu"), options=Options(seed, budget=1e-6))
        trial.search(st.lists(st.integers(0, 9), max_size=60), lambda each: sizes.append(len(each)))
        assert len(sizes) == LEAST
        return max(sizes)

    # Of the first four among forty examples, the largest has three values on average.
    assert sum(map(largest, range(8))) / 8 > 5


def test_an_unknown_on_fail_raises_an_error() -> None:
    with pytest.raises(UserError, match='expected "raise" or "collect"'):
        check_engine("numpy", "ignore")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_healthy_engine_conforms_whatever_is_drawn(seed: int) -> None:
    here = LocalRunner(engine_factory("numpy", "cpu"), Options(seed=seed, examples=20))
    selected = [check for check in select(None) if check.rung != "distribution"]
    fine = (Status.PASSED, Status.DECLARED)
    failed = [o.message() for o in climb([here], selected) if o.status not in fine]
    assert not failed


@parametrize_with_checks(["numpy", NoPools], ["loss/hinge", "step/rmsprop"])
def test_the_decorator(check: Any) -> None:
    check()


def test_the_decorator_fails_skips_and_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import sys
        sys.path.insert(0, {str(HERE)!r})
        from dlsys_bench import parametrize_with_checks
        from test_check_engine import HalfBias, NoPools

        @parametrize_with_checks([HalfBias, NoPools()], ["gradient/dense", "gradient/max_pool"])
        def test_engine(check):
            check()
        """
    )
    pytester.runpytest("-p", "no:randomly").assert_outcomes(passed=1, failed=2, skipped=1)


class WrongOnce(NumpyEngine):
    """An engine whose first training in the process is wrong, as with memory that is not set."""

    trainings = 0

    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Any:
        WrongOnce.trainings += 1
        if WrongOnce.trainings == 1:
            rate = 1.5 * recipe.optimizer.learning_rate
            optimizer = replace(recipe.optimizer, learning_rate=rate)
            recipe = replace(recipe, optimizer=optimizer, schedule=None)
        return super().fit(net, samples, recipe, plan)


@pytest.mark.parametrize(
    "check", ["step/average", pytest.param("schedule/many-updates", marks=pytest.mark.slow)]
)
def test_an_error_that_the_search_for_its_step_does_not_repeat_is_kept(check: str) -> None:
    WrongOnce.trainings = 0
    (result,) = check_engine(WrongOnce, "collect", checks=[check], options=FEW)
    assert result.status is Status.FAILED


def test_a_runner_that_nobody_closes_ends_its_worker() -> None:
    """As the runners that parametrize_with_checks makes: pytest never closes a parameter."""
    runner = ProcessRunner("numpy")
    assert runner.dtypes()
    process = runner.process
    assert process is not None
    assert process.stdin is not None
    del runner
    gc.collect()
    assert process.returncode is not None
    assert process.stdin.closed


def test_a_class_that_is_no_engine_fails() -> None:
    class NotAnEngine:
        pass

    engine: Any = NotAnEngine
    (result,) = check_engine(engine, "collect", checks=["loss/hinge"])
    assert result.status is Status.FAILED
