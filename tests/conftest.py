"""Hypothesis settings: the same examples every time in CI, so a failure there is the change's
own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much],
}
settings.register_profile("ci", max_examples=200, derandomize=True, print_blob=True, **common)  # type: ignore[arg-type]
settings.register_profile("dev", max_examples=50, **common)  # type: ignore[arg-type]
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# Without --dlsys-engine, numpy trains every arm and each other these studies; with it, the named
# engine trains all.
SAMPLED = {
    "numba": ("regularization/lenet5-tanh", "eggholder"),
    "torch": ("regularization/lenet5-tanh", "dying-relu", "perceptron"),
    "torch-bf16": ("regularization/lenet5-tanh",),
    "jax": ("regularization/lenet5-tanh",),
    "keras": ("regularization/lenet5-tanh", "cyclical-learning-rate"),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("dlsys_engine"):
        return
    left_out = []
    for item in items:
        chosen = getattr(item, "callspec", None) and item.callspec.params.get("dlsys_case")  # type: ignore[attr-defined]
        if chosen and chosen.case.study.name not in SAMPLED.get(
            chosen.engine, (chosen.case.study.name,)
        ):
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Processes begun here hear interrupts, though those of a shell's background ignore them, and
    so would theirs.

    Not by Popen's preexec_fn: it forks, of which JAX, if another test has loaded it, warns.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
