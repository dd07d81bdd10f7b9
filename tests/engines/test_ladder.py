"""Put every registered engine through the conformance ladder, one test per engine and check.

The fast tier draws few examples per check; the slow tier draws as many as `dlsys-bench conform`
does. What a check covers needs no hand-written test for one engine.
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
    replay_command,
)
from dlsys_bench.conformance.trial import Options
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

# Of the checks in the highest precision, and of the others together, the commit selects as many as
# given for the fast tier.
FAST_CHECKS = {
    "numpy": (240, 30),
    "numba": (20, 8),
    "torch": (20, 12),
    "jax": (6, 4),
    "keras": (6, 4),
    "keras-jax": (2, 1),
    # They follow a plan as their parents do; test_tuned.py covers their own paths.
    "torch-compile": (0, 0),
    "keras-jit": (0, 0),
}

# Keras has one backend per process, so its second one runs in a process of its own.
IN_OWN_PROCESS = engines().keys() - one_of_each(engines())


def fast_marks(engine: str, check: Check) -> list[pytest.MarkDecorator]:
    """Return the marks that limit a check's part in the fast tier."""
    if check.rung == "distribution":
        return [pytest.mark.rotates("distribution", 1, slow_twin=True)]
    lower = AT in check.name
    count = FAST_CHECKS[engine][lower]
    group = f"checks of {engine} in {'lower' if lower else 'the highest'} precision"
    return [pytest.mark.rotates(group, count, slow_twin=True)]


def parameters() -> Iterator[Any]:
    """Yield engine, check and options: each pair with few examples, and slowly with all."""
    for engine, entry in engines().items():
        if "cpu" not in entry.devices or engine in OUTSIDE:
            continue
        for check in select(None, entry.dtypes):
            name = f"{engine}-{check.name}"
            options = COMPILED_FAST if engine in COMPILED else FAST
            marks = fast_marks(engine, check)
            yield pytest.param(engine, check.name, options, id=name, marks=marks)
            yield pytest.param(engine, check.name, FULL, id=f"{name}-full", marks=pytest.mark.slow)


class Runners(dict[tuple[str, Options], Runner]):
    """The runners of this session, made when they are first needed."""

    def __missing__(self, key: tuple[str, Options]) -> Runner:
        engine, options = key
        if engine in IN_OWN_PROCESS:
            self[key] = make_runner(engine, options=options)
        else:
            self[key] = LocalRunner(
                engine_factory(engine, "cpu"), options, replay_command(engine, "cpu")
            )
        return self[key]


@pytest.fixture(scope="module")
def runners() -> Iterator[Runners]:
    made = Runners()
    yield made
    for runner in made.values():
        runner.close()


@pytest.mark.parametrize(("engine", "check", "options"), list(parameters()))
def test_conformance(runners: Runners, engine: str, check: str, options: Options) -> None:
    if reason := unavailable(engine):
        pytest.skip(reason)
    report_to_pytest(runners[engine, options].run(check))
