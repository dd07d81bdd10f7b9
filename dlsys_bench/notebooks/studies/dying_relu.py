"""Dying ReLU: narrow and deep networks whose every prediction is the same (nb2, nb4; Lu et al.
2019).

A run trains many networks on one draw of the data and counts those that have collapsed, by either
notebook's rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples, prepare
from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.replicas import in_blocks
from dlsys_bench.errors import DivergedError
from dlsys_bench.notebooks.claims import CLAIMS
from dlsys_bench.notebooks.zoo import narrow
from dlsys_bench.spec.initializers import Normal
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.optimizers import Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Study, Trial

FLAT = 1e-3
"""nb2 calls a network collapsed whose predictions on 1000 fresh points have a variance of this or
less."""

NAMED = 20
"""So many networks that diverged are named, with where they did."""

LIKE_NB2 = Recipe(Adam(0.001), batch_size=64, epochs=2, loss=MeanSquaredError(), scaling="raw")
LIKE_NB4 = replace(LIKE_NB2, epochs=20)

NETWORKS = {"quick": 200, "full": 1000}


class Counted(NamedTuple):
    """What became of a block of networks."""

    flat: int
    identical: int
    failed: dict[int, DivergedError]
    loss: list[float]


def count(outputs: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which networks are flat (nb2), and which give identical predictions (nb4). outputs (R, N, 1)
    -> (R,) each."""
    values = outputs[..., 0].astype(np.float64)
    # Of the first hundred: nb4 asks no more.
    return values.var(axis=1) <= FLAT, np.ptp(values[:, :100], axis=1) == 0.0


def collapse(trial: Trial) -> Mapping[str, Any]:
    """Train all networks of a run, and count."""
    data = prepare(trial.dataset, scaling="raw", dtype=trial.engine.dtype)
    train, fresh = Samples(data.train.x, data.train.y), data.test.x
    plans = trial.plans

    def work(block: range) -> Counted:
        mine = [plans[number] for number in block]
        replicas = trial.engine.replicate(trial.model, mine)
        histories = replicas.fit(train, trial.recipe, mine)
        good = np.array([replica not in replicas.failures for replica in range(len(mine))])
        flat, identical = count(replicas.predict(fresh)[good])
        losses = [history[-1].running_loss for history in histories if history]
        failed = {block.start + replica: why for replica, why in sorted(replicas.failures.items())}
        return Counted(int(flat.sum()), int(identical.sum()), failed, losses)

    parts = in_blocks(trial.engine, trial.model, trial.recipe, len(plans), work)
    failed = {network: why for part in parts for network, why in part.failed.items()}
    finished = len(plans) - len(failed)
    if not finished:
        raise next(iter(failed.values()))
    flat, identical = sum(part.flat for part in parts), sum(part.identical for part in parts)
    chosen = flat if trial.arm.options["rule"] == "flat" else identical
    return {
        "networks": finished,
        "failed": len(failed),
        "failures": [f"network {network}: {why}" for network, why in failed.items()][:NAMED],
        "flat": flat,
        "identical": identical,
        "collapsed": chosen,
        "collapse_fraction": chosen / finished,
        "train_loss": float(np.mean([loss for part in parts for loss in part.loss])),
    }


def _arm(
    name: str,
    activation: str,
    recipe: Recipe,
    rule: str,
    *,
    linear_first: bool = False,
    dataset: str | None = None,
    stddev: float | None = None,
) -> Arm:
    start = None if stddev is None else Normal(stddev)
    quick = replace(recipe, epochs=2)
    return Arm(
        name,
        narrow(activation, linear_first=linear_first, start=start),
        {"quick": quick, "full": recipe},
        dataset=dataset,
        networks=NETWORKS,
        options={"rule": rule},
    )


DYING_RELU = Study(
    "dying-relu",
    "Ten hidden layers of width 2: how many networks end in one constant",
    "nb2, nb4",
    "absolute",
    (
        _arm("relu", "relu", LIKE_NB2, "flat"),
        _arm("leaky_relu", "leaky_relu", LIKE_NB2, "flat"),
        # nb4's kernel scale cannot be read: Glorot uniform stands in, and a normal of deviation 1
        # beside it.
        _arm("nb4/relu", "relu", LIKE_NB4, "identical", linear_first=True),
        _arm("nb4/relu, normal(1)", "relu", LIKE_NB4, "identical", linear_first=True, stddev=1.0),
        # Its leaky figure is of another target; what it left out is the same target for both.
        _arm(
            "nb4/leaky_relu on |x sin 5x|",
            "leaky_relu",
            LIKE_NB4,
            "identical",
            linear_first=True,
            dataset="absolute-sine",
        ),
        _arm("nb4/leaky_relu", "leaky_relu", LIKE_NB4, "identical", linear_first=True),
    ),
    metric="collapse_fraction",
    plots=("collapse",),
    measure=collapse,
    appendix=CLAIMS,
)

STUDIES = (DYING_RELU,)
