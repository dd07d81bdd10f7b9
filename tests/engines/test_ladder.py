"""Put every registered engine through the conformance ladder, one test per engine and check.

The fast tier runs some of the checks and draws few examples for each; the slow tier draws as many
as `dlsys-bench conform` does. What a check covers needs no hand-written test for one engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dlsys_bench.conformance.check import AT, Check
from dlsys_bench.conformance.engine_checks import make_runner, report_to_pytest
from dlsys_bench.conformance.ladder import select
from dlsys_bench.conformance.runner import (
    LocalRunner,
    Runner,
    engine_factory,
)
from dlsys_bench.conformance.trial import EngineTarget, Options
from dlsys_bench.engines.registry import engines, one_of_each, unavailable

# Each example of a search is a model, which some engines compile.
FAST = Options(examples=8)
COMPILED_FAST = Options(examples=3)
FULL = Options()

# An engine that multiplies in bfloat16, with 8 bits, misses the ladder's tolerances by design:
# test_torch_precision.py compares it with the rounding that it declares.
OUTSIDE = ("torch-bf16",)

# These compile each model anew.
COMPILED = ("jax", "keras", "keras-jit", "keras-jax", "torch-compile")

# The budgets of the fast tier for the checks in the highest precision and for the others together:
# the number of checks, or for an engine that compiles seconds, since there a long training costs
# as much as many small checks.
BUDGETS = {
    "numpy": (120, 15),
    "numba": (10, 4),
    "torch": (15, 8),
    "jax": (6, 4),
    "keras": (6, 4),
    "keras-jax": (2, 1),
    # They follow a plan as their parents do; test_tuned.py covers their own paths.
    "torch-compile": (0, 0),
    "keras-jit": (0, 0),
}

# The seconds of a check on an engine that compiles, by rung; on the other rungs, a second.
SECONDS = {"step": 4, "state": 2, "trajectory": 4, "evaluation": 2, "determinism": 4}

# Keras has one backend per process, so its second one runs in a process of its own.
IN_OWN_PROCESS = engines().keys() - one_of_each(engines())


def marks_of(engine: str, check: Check) -> pytest.MarkDecorator:
    """Return the mark that limits a check's part in the fast tier."""
    if check.rung == "distribution":  # Compiled, it takes half a minute.
        return pytest.mark.slow if engine in COMPILED else pytest.mark.rotates("distribution", 1)
    lower = AT in check.name
    group = f"checks of {engine} in {'lower' if lower else 'the highest'} precision"
    cost = SECONDS.get(check.rung, 1) if engine in COMPILED else 1
    return pytest.mark.rotates(group, BUDGETS[engine][lower], cost=cost)


def parameters() -> Iterator[Any]:
    """Yield each engine with each check that it supports."""
    for engine, entry in engines().items():
        if "cpu" not in entry.devices or engine in OUTSIDE:
            continue
        for check in select(None, entry.dtypes):
            name, marks = f"{engine}-{check.name}", marks_of(engine, check)
            yield pytest.param(engine, check.name, id=name, marks=marks)


class Runners(dict[tuple[str, Options], Runner]):
    """The runners of this session, made when they are first needed."""

    def __missing__(self, key: tuple[str, Options]) -> Runner:
        engine, options = key
        if engine in IN_OWN_PROCESS:
            self[key] = make_runner(engine, options=options)
        else:
            self[key] = LocalRunner(engine_factory(engine, "cpu"), options, EngineTarget(engine))
        return self[key]


@pytest.fixture(scope="module")
def runners() -> Iterator[Runners]:
    made = Runners()
    yield made
    for runner in made.values():
        runner.close()


@pytest.mark.parametrize(("engine", "check"), list(parameters()))
def test_conformance(
    runners: Runners, engine: str, check: str, request: pytest.FixtureRequest
) -> None:
    if reason := unavailable(engine):
        pytest.skip(reason)
    few = COMPILED_FAST if engine in COMPILED else FAST
    options = FULL if request.node.get_closest_marker("slow") else few
    report_to_pytest(runners[engine, options].run(check))
