"""The cases of the checks of replicas: a new layer or part of a recipe has to be in one of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from dlsys_bench.conformance.checks.replicas import CASES
from dlsys_bench.conformance.engine_checks import check_engine
from dlsys_bench.conformance.result import Status
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.numpy.engine import NumpyEngine
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.layers import LAYERS
from dlsys_bench.spec.recipe import PARTS, Recipe


def test_every_layer_is_in_a_model() -> None:
    kinds = {layer.kind for case in CASES.values() for layer in case.model.layers}
    kinds |= {row.layer.kind for case in CASES.values() for row in case.model.table}
    assert set(LAYERS) == kinds


def test_every_part_is_in_a_recipe() -> None:
    default = Recipe()
    for name in (*PARTS, "augment", "accumulate"):
        changed = [getattr(case.recipe, name) != getattr(default, name) for case in CASES.values()]
        assert any(changed), name


class OneMemory(NumpyEngine):
    """Copies the inputs of every training to the same memory, and trains replicas one by one."""

    replicate = Engine.replicate  # type: ignore[assignment]

    def __init__(self, device: str = "cpu", dtype: str = "") -> None:
        super().__init__(device, dtype)
        self.memory: dict[tuple[int, ...], Array] = {}

    def fit(self, net: Network, samples: Samples, recipe: Recipe, plan: Plan) -> Generator[Epoch]:
        """Train on the copy, which a training that starts in between replaces."""
        x = self.memory.setdefault(samples.x.shape, np.empty_like(samples.x))
        x[...] = samples.x
        yield from super().fit(net, replace(samples, x=x), recipe, plan)


def test_replicas_that_train_one_by_one_must_not_disturb_each_other() -> None:
    """One of them alone is compared, which starts neither first nor last."""
    check = "determinism/replicas-of-images"
    (result,) = check_engine(OneMemory, checks=[check], on_fail="collect")
    assert result.status is Status.FAILED
    assert "of replica 1 of 3" in result.message()
