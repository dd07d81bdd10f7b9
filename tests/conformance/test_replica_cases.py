"""The cases of the checks of replicas: a new layer or part of a recipe has to be in one of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
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
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.replicas import OneByOne
from dlsys_bench.spec.layers import LAYERS
from dlsys_bench.spec.model import Model
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


class LastIsLarger(OneByOne):
    """Replicas that train one by one, of which the last is not what it was trained to be."""

    def weights(self, replica: int) -> Weights:
        """Return weights, which are twice as large for the last of three replicas."""
        return {n: w * (1 + (replica == 2)) for n, w in super().weights(replica).items()}


class WithLastLarger(NumpyEngine):
    """Has replicas of a class that derives from that of the package."""

    def replicate(self, model: Model | Sequence[Model], plans: Sequence[Plan]) -> LastIsLarger:  # type: ignore[override]
        """Return the replicas."""
        models = [model] * len(plans) if isinstance(model, Model) else model
        return LastIsLarger(self, models, plans)


def test_every_replica_of_a_derived_class_is_compared() -> None:
    checks = ["determinism/replicas"]
    (result,) = check_engine(WithLastLarger, checks=checks, on_fail="collect")
    assert result.status is Status.FAILED
    assert "of replica 2 of 3" in result.message()
