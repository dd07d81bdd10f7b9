"""A training that changes a setting of the process between two epochs is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dlsys_bench import check_engine
from dlsys_bench.engines.numpy.engine import NumpyEngine
from dlsys_bench.engines.numpy.subnormals import KNOWN, flush_subnormals, subnormals_flushed

GENERATORS = "fit draws from the generators of the process, or seeds them"

CHANGES: dict[str, tuple[Callable[[], object], str]] = {
    "seeds Python": (lambda: random.seed(1), GENERATORS),
    "draws from numpy": (lambda: np.random.random(), GENERATORS),  # noqa: NPY002
    "ignores overflows": (
        lambda: np.seterr(over="ignore"),
        "fit changed what numpy does at errors",
    ),
    "limits BLAS": (lambda: threadpool_limits(1, "blas"), "fit changed the threads of"),
    "flushes": (flush_subnormals, "fit changed whether subnormal numbers are zero in this thread"),
}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_setting_is_found(what: str) -> None:
    change, message = CHANGES[what]
    if change is flush_subnormals and not KNOWN:
        pytest.skip("subnormal numbers are kept on this platform")

    class Changes(NumpyEngine):
        def fit(self, *args: Any, **options: Any) -> Any:
            for epoch in super().fit(*args, **options):
                change()
                yield epoch

    # The settings of a thread end with it.
    with ThreadPoolExecutor(1) as thread:
        climbed = thread.submit(check_engine, Changes, "collect", checks=["determinism/alone"])
    (result,) = climbed.result()
    assert result.finding is not None
    assert message in result.message()


def test_a_context_that_holds_between_two_epochs_is_found() -> None:
    class Ignores(NumpyEngine):
        def fit(self, *args: Any, **options: Any) -> Any:
            with np.errstate(all="ignore"):
                yield from super().fit(*args, **options)

    (result,) = check_engine(Ignores, "collect", checks=["determinism/alone"])
    assert "fit changed what numpy does at errors" in result.message()


def test_a_setting_that_holds_inside_an_epoch_is_none_of_a_training() -> None:
    class Ignores(NumpyEngine):
        def fit(self, *args: Any, **options: Any) -> Any:
            epochs = super().fit(*args, **options)
            while True:
                with np.errstate(all="ignore"), subnormals_flushed():
                    epoch = next(epochs, None)
                if epoch is None:
                    return
                yield epoch

    check_engine(Ignores, checks=["determinism/alone"])
