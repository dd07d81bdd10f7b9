"""Runs whose weights become non-finite after the last loss of an epoch, which was finite."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from dlsys_bench.data import load
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.runs.run import run
from dlsys_bench.studies.registry import find


class BreaksAtTheEnd(NumpyEngine):
    """Sets the weights to NaN after the last update."""

    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Generator[Epoch, None, None]:
        for epoch in super().fit(net, samples, recipe, plan):
            if epoch.steps == recipe.steps:
                for values in net.tensors.values():
                    values[...] = np.nan
            yield epoch


def test_the_batch_is_the_last_of_its_epoch() -> None:
    (case,) = find("regularization/fashion/ffn")
    data = load("digits")
    found = run(case, BreaksAtTheEnd(), data, tier="quick", seed=1)
    healthy = run(case, NumpyEngine(), data, tier="quick", seed=1).history
    batches = healthy[-1].steps - healthy[-2].steps
    assert (found.status, len(found.history)) == ("diverged", len(healthy) - 1)
    where = f"epoch {len(healthy)}, batch {batches}"
    assert found.reason is not None
    assert f"became nan in {where}:" in found.reason
