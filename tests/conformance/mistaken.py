"""Engines with one mistake each, of the kinds that a diagnosis names."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np

from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.dense import DenseRule
from dlsys_bench.engines.numpy.ruleset import NUMPY_RULES
from dlsys_bench.engines.plan import Array, epoch_batch_sizes
from dlsys_bench.spec.layers import Dense


class _ForgetsRows(DenseRule):
    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        dx = super().backward(dy, wants_dx)
        self.gradients["kernel"][:, 512:] = 0
        return dx


class ForgetsRows(NumpyEngine):
    """Kernel rows beyond the 512th never learn."""

    rule_set = NUMPY_RULES._replace(rules={**NUMPY_RULES.rules, Dense: _ForgetsRows})


class _Changed(NumpyEngine):
    """Trains by a recipe, a plan and samples that are changed before."""

    def change(self, samples: Any, recipe: Any, plan: Any) -> tuple[Any, Any, Any]:
        raise NotImplementedError

    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Generator[Epoch]:
        return super().fit(net, *self.change(samples, recipe, plan))


class HalfRate(_Changed):
    """Every update is half the expected one."""

    def change(self, samples: Any, recipe: Any, plan: Any) -> tuple[Any, Any, Any]:
        rate = recipe.optimizer.learning_rate / 2
        return (
            samples,
            replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=rate)),
            plan,
        )


class OneEpoch(NumpyEngine):
    """Natively, the network learns in the first epoch only."""

    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Generator[Epoch]:
        if plan.parity:
            yield from super().fit(net, samples, recipe, plan)
            return
        (first,) = super().fit(net, samples, replace(recipe, epochs=1, steps=None), plan)
        for number, _ in enumerate(epoch_batch_sizes(len(samples.x), recipe, plan), 1):
            yield replace(first, epoch=number)


class SeedZeroIsNone(_Changed):
    """`if seed:` where the seed is tested against None."""

    def change(self, samples: Any, recipe: Any, plan: Any) -> tuple[Any, Any, Any]:
        seed = plan.seed or int.from_bytes(os.urandom(3), "big")
        return samples, recipe, plan if plan.parity else replace(plan, seed=seed)


class StopsEarly(_Changed):
    """One update fewer than the recipe's limit on the steps."""

    def change(self, samples: Any, recipe: Any, plan: Any) -> tuple[Any, Any, Any]:
        steps = recipe.steps and max(1, recipe.steps - 1)
        return samples, replace(recipe, steps=steps), plan


def reporting(figure: Callable[[list[float]], float]) -> type[NumpyEngine]:
    """Return an engine that reports a function of the running losses so far."""

    class Reports(NumpyEngine):
        def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Generator[Epoch]:
            losses: list[float] = []
            for epoch in super().fit(net, samples, recipe, plan):
                losses.append(epoch.running_loss)
                yield replace(epoch, running_loss=float(figure(losses)))

    return Reports


BestSoFar = reporting(min)
EpochBefore = reporting(lambda losses: losses[-2] if len(losses) > 1 else losses[0])
FirstEpoch = reporting(lambda losses: losses[0])
MeanOfEpochs = reporting(lambda losses: float(np.mean(losses)))


def _smoothed(losses: list[float]) -> float:
    mean = losses[0]
    for loss in losses[1:]:
        mean = 0.7 * mean + 0.3 * loss
    return mean


Smoothed = reporting(_smoothed)


class CachedPredictions(NumpyEngine):
    """Natively, a prediction of data that were predicted before is not computed again."""

    def predict(self, net: Any, x: Array) -> Array:
        cache = vars(net).setdefault("predicted", {})
        key = x.tobytes()
        if key not in cache:
            cache[key] = super().predict(net, x)
        found: Array = cache[key].copy()
        return found

    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Generator[Epoch]:
        for epoch in super().fit(net, samples, recipe, plan):
            if plan.parity:
                vars(net).pop("predicted", None)
            yield epoch
