"""Eggholder regression by depth (nb4, PyTorch): test RMSE and training time against the number of
parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dlsys_bench.data import Samples, prepare
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.notebooks.claims import CLAIMS, PUBLISHED
from dlsys_bench.notebooks.zoo import EGGHOLDER_WIDTHS, eggholder
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, ArmRun, BenchmarkSize, Metric, Study

ONE_LAYER = Recipe(
    SGD(1e-7, momentum=0.9),
    batch_size=1000,
    epochs=50,
    loss=MeanSquaredError(),
    scaling="raw",
    shuffle=True,
)
DEEPER = replace(ONE_LAYER, optimizer=SGD(1e-4, momentum=0.9), epochs=20)


def rmse(run: ArmRun) -> Mapping[str, Any]:
    """Train one network and measure the test RMSE in evaluation mode and, as published, in training
    mode, with the statistics of test batches of 1000."""
    data = prepare(run.dataset, scaling="raw", dtype=run.engine.dtype)
    net = run.engine.build(run.model, seed=run.seed)
    history = train(
        run.engine, net, Samples(data.train.x, data.train.y), run.recipe, Plan(run.seed)
    )
    x, y = data.test.x, np.asarray(data.test.y, np.float64)
    evaluated = np.asarray(run.engine.predict(net, x), np.float64)
    size = run.recipe.batch_size
    parts = [
        run.engine.trace(net, Batch(x[at : at + size], y[at : at + size]))[-1]
        for at in range(0, len(x), size)
    ]
    return {
        "test_rmse": float(np.sqrt(((evaluated - y) ** 2).mean())),
        "test_rmse_in_training_mode": float(np.sqrt(((np.concatenate(parts) - y) ** 2).mean())),
        "train_seconds": sum(epoch.seconds for epoch in history),
        "parameters": run.model.counts.trainable,
        "layers": len(run.arm.options["widths"]),
    }


UNSETTLED = (
    "after three epochs the moving statistics have not settled, so that rounding alone changes the "
    "error in evaluation mode by several standard deviations; --tier full trains longer"
)


def _arm(widths: tuple[int, ...]) -> Arm:
    full = ONE_LAYER if len(widths) == 1 else DEEPER
    recipes = {"quick": replace(full, epochs=3), "full": full}
    unjudged: dict[str | tuple[str, str], str] = {"quick": UNSETTLED} if len(widths) > 1 else {}
    return Arm(
        "-".join(map(str, widths)),
        eggholder(widths),
        recipes,
        unjudged,
        options={"widths": list(widths)},
    )


EGGHOLDER = Study(
    "eggholder",
    "Regression of the Eggholder function: one, two and three hidden layers of many widths",
    "nb4",
    "eggholder",
    tuple(_arm(widths) for widths in EGGHOLDER_WIDTHS),
    metric=Metric("test_rmse", higher_is_better=False),
    plots=("eggholder",),
    measure=rmse,
    claims=CLAIMS,
    published=PUBLISHED,
    benchmarks=(BenchmarkSize("128-256-128", 1000, 20), BenchmarkSize("16-16-16", 1000, 50)),
)

STUDIES = (EGGHOLDER,)
