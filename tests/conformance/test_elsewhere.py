"""A check that trains in another process, with engines that behave differently there."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import enter

from dlsys_bench import check_engine
from dlsys_bench.conformance.elsewhere import HASH_SEED
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import LocalRunner, engine_factory
from dlsys_bench.conformance.trial import EngineTarget, Options
from dlsys_bench.engines.numpy import NumpyEngine

CHECK = "determinism/process"
HASHES = "5"
ENGINES = f"""
import os, threading, time
from dataclasses import replace
import numpy as np
from dlsys_bench.engines.numpy import NumpyEngine

ELSEWHERE = os.environ[{HASH_SEED!r}] != {HASHES!r}


class HasAThread(NumpyEngine):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        if ELSEWHERE:
            threading.Thread(target=time.sleep, args=(1000,)).start()


class Crashes(NumpyEngine):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        if ELSEWHERE:
            os.abort()


class CannotBeCreated(NumpyEngine):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        if ELSEWHERE:
            raise OSError("the device is in use")


class IsNotANumber(NumpyEngine):
    def weights(self, net):
        found = super().weights(net)
        return {{k: v * np.nan for k, v in found.items()}} if ELSEWHERE else found


class Hangs(NumpyEngine):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        if ELSEWHERE:
            time.sleep(1000)


class HashesANameToDrop(NumpyEngine):
    kind = "dropout"  # The masks of this kind of layer come from the hash of its name.

    def fit(self, net, samples, recipe, plan):
        kinds = {{layer.kind for layer in net.model.layers}}
        if self.kind in kinds:
            plan = replace(plan, seed=hash(self.kind) % 2**32)
        return super().fit(net, samples, recipe, plan)


class HashesANameToDropChannels(HashesANameToDrop):
    kind = "spatial_dropout"


class HashesANameToAttend(HashesANameToDrop):
    kind = "multi_head_attention"


class Loosened(NumpyEngine):
    loosens = {{"{CHECK}": (0.01, "the sums of this engine depend on the process")}}

    def weights(self, net):
        found = super().weights(net)
        return {{k: v * 1.005 for k, v in found.items()}} if ELSEWHERE else found
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv(HASH_SEED, HASHES)
    (tmp_path / "engines_elsewhere.py").write_text(ENGINES)


def run(engine: str, seconds: float = 60.0) -> CheckResult:
    """Return the result of the check for an engine of the module, or for a built-in one."""
    target = EngineTarget(engine if engine == "numpy" else f"engines_elsewhere:{engine}")
    return LocalRunner(engine_factory(*target), Options(seconds=seconds), target).run(CHECK)


@pytest.mark.rotates("healthy engines in two processes", 1)
@pytest.mark.parametrize("engine", ["numpy", "HasAThread", "Loosened"])
def test_a_healthy_engine_passes(engine: str) -> None:
    assert run(engine).status is Status.PASSED


@pytest.mark.rotates("faulty engines in two processes", 3)
@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("Crashes", "another process ended by SIGABRT as it trained"),
        ("CannotBeCreated", "OSError: the device is in use"),
        ("IsNotANumber", "differs by nan between two processes"),
        ("HashesANameToDrop", "between two processes with seed 1"),
        ("HashesANameToDropChannels", "between two processes with seed 1"),
        ("HashesANameToAttend", "between two processes with seed 1"),
    ],
)
def test_an_engine_that_fails_in_another_process_is_found(engine: str, message: str) -> None:
    result = run(engine)
    assert result.status is Status.FAILED
    assert message in result.message()


def test_a_process_that_hangs_is_ended() -> None:
    result = run("Hangs", seconds=0.3)
    assert result.status is Status.TIMEOUT
    assert "a training in another process does not end" in result.message()


def test_an_engine_that_is_given_as_a_class_is_told_how_to_take_part() -> None:
    (result,) = check_engine(NumpyEngine, checks=[CHECK])
    assert result.status is Status.DECLARED
    assert 'check_engine("package.module:Class")' in str(result.reason)
