"""Settings of the whole suite: drawn examples, compile caches, and the gates of the fast tier."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from frameworks import framework_of
from hypothesis import HealthCheck, settings
from tiers import deselect

from dlsys_bench.engines.registry import engines
from dlsys_bench.entry_points import LEFT_OUT

# Examples that a test draws. CI draws the same ones every time, so that a failure is due to the
# change; the slow tier draws more.
EXAMPLES = {"fast": 30, "slow": 200}

# Without --dlsys-engine, numpy trains every arm of the notebooks, and each other engine these
# studies or arms.
STUDIES_OF_ENGINE = {
    "numba": ("regularization/lenet5-tanh", "eggholder"),
    "torch": ("regularization/lenet5-tanh", "dying-relu", "perceptron"),
    "torch-bf16": ("regularization/lenet5-tanh",),
    "jax": ("regularization/lenet5-tanh",),
    "keras": ("regularization/lenet5-tanh", "cyclical-learning-rate"),
    # Each kernel of a network takes the C++ compiler a second and more, and a dense one has few.
    "torch-compile": ("regularization/fashion-mlp/vanilla",),
    "keras-jit": ("regularization/fashion-mlp/vanilla",),
}

# The engine that trains the larger networks of each group, in the slow tier. Arms without reference
# runs are left out: tests/workloads shows that they train.
ENGINE_OF_GROUP = {
    "resnet": "numba",
    "depthwise": "torch",
    "transformer": "torch",
    "regularizers": "numba",
}

# Gates in the fast tier, by engine, and studies of which one run takes 4 to 20 seconds in numpy,
# whose gates are in the slow tier alone, as are those of engines that compile, and of the one that
# multiplies in bfloat16, which few CPUs do quickly.
FAST_GATES = {
    "numpy": 2,
    "other engines": 1,
    **dict.fromkeys(("jax", "keras", "keras-jit", "torch-bf16", "torch-compile"), 0),
}
STUDIES_OF_SLOW_TIER = (
    "batch-size-sweep",
    "cyclical-batch-size",
    "cyclical-learning-rate",
    "learning-rate-range-test",
    "regularization/fashion",
    "regularization/lenet5-overlap-tanh",
    "regularization/lenet5-sigmoid",
)

# What JAX compiles is kept between runs, for this process and for those that tests start.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "dlsys-bench-tests"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# So is bytecode, where Python may not write it beside the modules: the tests start several hundred
# processes, and compiling the package takes most of the time of a short one.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(CACHE / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for of_temporary_modules in (CACHE / "bytecode").rglob("pytest-of-*"):
        shutil.rmtree(of_temporary_modules, ignore_errors=True)

for tier, count in EXAMPLES.items():
    settings.register_profile(
        tier,
        max_examples=count,
        derandomize=bool(os.environ.get("CI")),
        print_blob=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("slow" if config.getoption("slow") else "fast")


def engine_of(item: pytest.Item) -> str | None:
    """Return the engine that is a parameter of a test, if one is."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = [getattr(value, "engine", value) for value in values]
    return next((name for name in names if isinstance(name, str) and name in engines()), None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let one worker of pytest-xdist run all tests of a framework, which it then imports once."""
    engine = engine_of(item)
    if engine and engines()[engine].needs and item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(framework_of(engine)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out gates that no tier has, and let the commit select those of the fast tier."""
    if config.getoption("dlsys_engine"):
        return
    left_out = []
    for item in items:
        case = item.callspec.params.get("dlsys_case") if hasattr(item, "callspec") else None
        if case is None:
            continue
        names = {case.case.study.name, case.case.name}
        large = ENGINE_OF_GROUP.get(case.case.study.group)
        if large is not None:
            unjudged = case.case.arm.reason_unjudged(case.case.dataset, "quick")
            item.add_marker(pytest.mark.slow)
            left_out += [item] if unjudged or case.engine != large else []
        elif names.isdisjoint(STUDIES_OF_ENGINE.get(case.engine, names)):
            left_out.append(item)
        elif case.case.study.name in STUDIES_OF_SLOW_TIER:
            item.add_marker(pytest.mark.slow)
        else:
            group = case.engine if case.engine in FAST_GATES else "other engines"
            item.add_marker(pytest.mark.rotates(f"gates of {group}", FAST_GATES[group]))
    deselect(config, items, left_out)


def pytest_collection_finish() -> None:
    """Leave what the whole session needs out of each garbage collection.

    Hypothesis collects garbage in each thread that it first runs in, which takes a second with all
    tests and frameworks in memory.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def scipy_stats() -> None:
    """Load the slow part of SciPy, which each pytest inside a test would load and forget."""
    importlib.import_module("scipy.stats")


@pytest.fixture
def pytester(scipy_stats: None, pytester: pytest.Pytester) -> pytest.Pytester:
    return pytester


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Let processes that the test starts receive interrupts, which a shell's background ignores.

    Popen's preexec_fn would fork, of which JAX warns where another test has imported it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _separate_remarks() -> Iterator[None]:
    """Forget which entry points one test left out, which a pytest inside the next would print."""
    before = dict(LEFT_OUT)
    yield
    LEFT_OUT.clear()
    LEFT_OUT.update(before)
