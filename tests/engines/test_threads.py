"""The numpy engine gives the same bits for the same seed, with any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dlsys_bench.engines.numpy.threads import one_thread

TRAINING = """
import hashlib
from dlsys_bench.data import load, prepare
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create
from dlsys_bench.notebooks.zoo import MODELS
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

data, engine = prepare(load("digits"), dtype="float32"), create("numpy")
recipe = Recipe(SGD(0.02, momentum=0.9), batch_size=64, epochs=1, steps=12)
net = engine.build(MODELS["{model}"], seed=5)
train(engine, net, data.train, recipe, Plan(5))
digest = hashlib.sha256(engine.predict(net, data.test.x).tobytes())
for tensor in engine.weights(net).values():
    digest.update(tensor.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.parametrize("model", ["lenet5-tanh/bn+dropout", "fashion-mlp/vanilla"])
def test_a_seed_gives_the_same_bits_with_any_number_of_threads(model: str) -> None:
    def bits(threads: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", TRAINING.format(model=model)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ
            | {"OPENBLAS_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return done.stdout

    assert bits(1) == bits(2) == bits(7)


def blas_threads() -> set[int]:
    return {
        library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
    }


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let BLAS have two threads, since a limit of one could not be seen to end if it had one."""
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.usefixtures("two_threads")
def test_the_limit_holds_until_the_last_thread_leaves() -> None:
    before = blas_threads()
    assert before == {2}
    with one_thread():
        with one_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == before

    def enter(_: int) -> set[int]:
        with one_thread():
            return blas_threads()

    with ThreadPoolExecutor(4) as pool:
        assert all(found == {1} for found in pool.map(enter, range(200)))
    assert blas_threads() == before
