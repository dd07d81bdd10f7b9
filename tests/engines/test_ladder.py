"""Put every registered engine through the conformance ladder, one test per engine and check.

The fast tier draws few examples per check; the slow tier draws as many as `dlsys-bench conform`
does. An engine that conforms here needs no hand-written test of what a check already covers.
"""

from __future__ import annotations

from functools import cache

import pytest
from frameworks import framework_of

from dlsys_bench.conformance.engine_checks import runner_of
from dlsys_bench.conformance.ladder import chosen
from dlsys_bench.conformance.outcome import Status
from dlsys_bench.conformance.runner import Here, Options, Runner, command, maker
from dlsys_bench.engines.registry import engines, unavailable

FAST = Options(examples=3, budget=0.5)
FULL = Options()

# bfloat16 keeps 8 bits: an engine that computes in it cannot meet the ladder's tolerance.
OUTSIDE = {"torch-bf16": "a product is rounded to 8 bits; see test_torch_precision.py"}

# Keras has one backend per process: the second one runs its checks in a process of its own.
IN_OWN_PROCESS = ("keras-jax",)


def parameters() -> list[object]:
    found = []
    for engine, entry in engines().items():
        if "cpu" not in entry.devices or engine in OUTSIDE:
            continue
        for check in chosen(None):
            group = pytest.mark.xdist_group(framework_of(engine))
            name = f"{engine}-{check.name}"
            found += [
                pytest.param(engine, check.name, FAST, id=name, marks=group),
                pytest.param(
                    engine, check.name, FULL, id=f"{name}-full", marks=[group, pytest.mark.slow]
                ),
            ]
    return found


@cache
def runner(engine: str, options: Options) -> Runner:
    if engine in IN_OWN_PROCESS:
        return runner_of(engine, options=options)
    return Here(maker(engine, "cpu"), options, command(engine, "cpu"))


@pytest.mark.parametrize(("engine", "check", "options"), parameters())
def test_conformance(engine: str, check: str, options: Options) -> None:
    if reason := unavailable(engine):
        pytest.skip(reason)
    outcome = runner(engine, options).run(check)
    if outcome.status is Status.DECLARED:
        pytest.skip(f"declared: {outcome.reason}")
    if outcome.status is Status.FAILED:
        pytest.fail(outcome.message(), pytrace=False)
