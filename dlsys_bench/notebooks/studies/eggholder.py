"""Eggholder regression by depth (nb4, PyTorch): test RMSE and training time against the number of
parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dlsys_bench.data import Samples, prepare
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.notebooks.claims import CLAIMS
from dlsys_bench.notebooks.zoo import EGGHOLDER_WIDTHS, eggholder
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Study, Trial

ONE_LAYER = Recipe(
    SGD(1e-7, momentum=0.9),
    batch_size=1000,
    epochs=50,
    loss=MeanSquaredError(),
    scaling="raw",
    shuffle=True,
)
DEEPER = replace(ONE_LAYER, optimizer=SGD(1e-4, momentum=0.9), epochs=20)


def rmse(trial: Trial) -> Mapping[str, Any]:
    """Train one network. The test RMSE in eval mode, and in training mode (the statistics of test
    batches of 1000), as published."""
    data = prepare(trial.dataset, scaling="raw", dtype=trial.engine.dtype)
    net = trial.engine.build(trial.model, seed=trial.seed)
    history = trial.engine.fit(
        net, Samples(data.train.x, data.train.y), trial.recipe, Plan(trial.seed)
    )
    x, y = data.test.x, np.asarray(data.test.y, np.float64)
    evaluated = np.asarray(trial.engine.predict(net, x), np.float64)
    size = trial.recipe.batch_size
    parts = [
        trial.engine.trace(net, Batch(x[at : at + size], y[at : at + size]))[-1]
        for at in range(0, len(x), size)
    ]
    return {
        "test_rmse": float(np.sqrt(((evaluated - y) ** 2).mean())),
        "test_rmse_in_training_mode": float(np.sqrt(((np.concatenate(parts) - y) ** 2).mean())),
        "train_seconds": sum(epoch.seconds for epoch in history),
        "parameters": trial.model.counts.trainable,
        "layers": len(trial.arm.options["widths"]),
    }


STRAYS = (
    "after three epochs the error in eval mode hangs on young moving statistics, and rounding alone moves it by "
    "spreads; --tier full trains on"
)


def _arm(widths: tuple[int, ...]) -> Arm:
    full = ONE_LAYER if len(widths) == 1 else DEEPER
    recipes = {"quick": replace(full, epochs=3), "full": full}
    unjudged: dict[str | tuple[str, str], str] = {"quick": STRAYS} if len(widths) > 1 else {}
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
    metric="test_rmse",
    plots=("eggholder",),
    measure=rmse,
    appendix=CLAIMS,
)

STUDIES = (EGGHOLDER,)
