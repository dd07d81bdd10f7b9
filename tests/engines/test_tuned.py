"""The engines as their users tune them: torch.compile, and Keras with XLA and many steps per
call. The ladder compares their native trainings with the oracle; here is what it does not see."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples
from dlsys_bench.engines import compiler
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate

MODEL = Model("m", (3,), (BatchNorm(), Dense(5), Activation("tanh"), Dense(2)))
LINEAR = Model("line", (3,), (Dense(2),))


def needs(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)


def samples(count: int) -> Samples:
    generator = np.random.default_rng(0)
    return Samples(generator.standard_normal((count, 3)), generator.standard_normal((count, 2)))


def trained(name: str, model: Model, recipe: Recipe, plan: Plan) -> tuple[Any, dict[str, Any]]:
    """Return the epochs of a training in double precision that starts from weights of numpy."""
    engine = create(name, dtype="float64")
    model, recipe = to_convention(engine.convention, model), to_convention("keras", recipe)
    recipe = to_convention(engine.convention, recipe)
    net = engine.build(model, Plan(4).weights(model))
    return train(engine, net, samples(22), recipe, plan), engine.weights(net)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps per execution of each training of Keras, and whether XLA compiles them."""
    keras: Any = pytest.importorskip("keras")
    found: list[int] = []
    compile_of = keras.Model.compile

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        found.extend([options.get("steps_per_execution", 1), options.get("jit_compile", False)])
        return compile_of(self, *arguments, **options)

    monkeypatch.setattr(keras.Model, "compile", noted)
    return found


def test_steps_of_one_call_are_those_of_keras(request: pytest.FixtureRequest) -> None:
    """Three epochs of 6 batches, of which the last batch is smaller and the last epoch cut short,
    with a learning rate that changes at every step."""
    needs("keras-jit")
    create("keras-jit")
    calls = request.getfixturevalue("calls")
    recipe = Recipe(
        SGD(0.1, momentum=0.5),
        batch_size=4,
        epochs=3,
        shuffle=False,
        loss=MeanSquaredError(),
        schedule=CyclicalLearningRate(0.01, 0.1, 4),
    )
    plan = Plan(1, steps=15)
    history, weights = trained("keras-jit", MODEL, recipe, plan)
    assert calls == [6, True]
    expected, correct = trained("numpy", MODEL, recipe, plan)
    assert [epoch.steps for epoch in history] == [6, 12, 15]
    for found, right in zip(history, expected, strict=True):
        assert found.running_loss == pytest.approx(right.running_loss, rel=1e-5)
        np.testing.assert_allclose(found.by_step["loss"], right.by_step["loss"], rtol=1e-5)
    for tensor, values in correct.items():
        np.testing.assert_allclose(weights[tensor], values, rtol=0, atol=1e-5, err_msg=tensor)


def test_a_divergence_names_its_batch_among_the_steps_of_one_call() -> None:
    needs("keras-jit")
    recipe = Recipe(SGD(1e30), batch_size=4, epochs=2, shuffle=False, loss=MeanSquaredError())
    with pytest.raises(DivergedError) as expected:
        trained("numpy", LINEAR, recipe, Plan(1))
    with pytest.raises(DivergedError) as found:
        trained("keras-jit", LINEAR, recipe, Plan(1))
    assert (found.value.epoch, found.value.batch) == (expected.value.epoch, expected.value.batch)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_native_training_is_compiled_however_many_came_before(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile computes eagerly from the ninth program of one function on. The last batch of
    the epoch is smaller, and has no program."""
    needs("torch-compile")
    import torch
    from torch._dynamo.utils import counters

    count, limit = 10, nullcontext()
    if backend == "eager":  # It traces as every backend does, and generates no C++.
        real, count = torch.compile, 3
        # The undo of monkeypatch would hide this option from every later compilation.
        limit = torch._dynamo.config.patch(recompile_limit=2)
        monkeypatch.setattr(
            torch, "compile", lambda run, dynamic, options: real(run, backend=backend)
        )
    recipe = Recipe(Adam(), batch_size=9, epochs=1, shuffle=False, loss=MeanSquaredError())
    with limit:
        counters.clear()
        for width in range(count):
            model = Model("m", (3,), (Dense(1 + width), Dense(2)))
            history, weights = trained("torch-compile", model, recipe, Plan(1))
            expected, right = trained("torch", model, recipe, Plan(1))
            assert history[0].running_loss == pytest.approx(expected[0].running_loss, rel=1e-12)
            for tensor, values in right.items():
                np.testing.assert_allclose(weights[tensor], values, rtol=1e-9, err_msg=tensor)
        assert counters["stats"]["unique_graphs"] == count
        trained("torch-compile", LINEAR, recipe, Plan(1, parity=True))
        assert counters["stats"]["unique_graphs"] == count


@pytest.mark.parametrize(
    ("machine", "assumed"), [("x86_64", True), ("AMD64", True), ("aarch64", None), ("arm64", None)]
)
def test_the_vector_instructions_of_x86_alone_are_assumed(
    machine: str, assumed: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("torch")
    import torch

    from dlsys_bench.engines.torch.passes import compile_pass

    found: dict[str, Any] = {}
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(
        torch, "compile", lambda run, dynamic, options: found.update(options) or run
    )
    compile_pass(lambda x, y, masks: (y, y), size=None)
    assert found.get("cpp.vec_isa_ok") is assumed


@pytest.mark.parametrize(
    ("named", "headers", "message"),
    [
        ("", True, "needs a C++ compiler (g++ or clang++): apt-get install g++"),
        ("icpc", True, "needs a C++ compiler (g++ or clang++), and CXX=icpc is no program: "),
        (sys.executable, False, "needs the header files of Python for its C++ compiler: apt-get "),
        (sys.executable, True, None),
    ],
)
def test_a_missing_compiler_is_named_with_the_command_that_installs_it(
    named: str, headers: bool, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", named)
    monkeypatch.setattr(compiler, "COMPILERS", ("g++", "clang++"))
    monkeypatch.setattr(compiler, "INSTALL", "apt-get install g++")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    if headers:
        (tmp_path / "Python.h").touch()
    reason = unavailable("torch-compile")
    if message is None:
        assert reason is None
    else:
        assert (reason or "").startswith(f'engine "torch-compile" {message}')
