"""Dying ReLU: narrow, deep networks that predict one constant (nb2, nb4; Lu et al. 2019).

One run trains many networks on one draw of the data and counts the collapsed ones by the rule of
each notebook.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples, prepare
from dlsys_bench.engines.epochs import train_replicas
from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.replicas import in_blocks
from dlsys_bench.errors import DivergedError
from dlsys_bench.notebooks.claims import CLAIMS, PUBLISHED
from dlsys_bench.notebooks.zoo import narrow
from dlsys_bench.spec.initializers import Normal
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.optimizers import Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, ArmRun, Metric, Study

FLAT = 1e-3
"""nb2 calls a network collapsed if the variance of its predictions on 1000 fresh points is at most
this."""

NAMED = 20
"""The largest number of diverged networks that a result describes."""

LIKE_NB2 = Recipe(Adam(0.001), batch_size=64, epochs=2, loss=MeanSquaredError(), scaling="raw")
LIKE_NB4 = replace(LIKE_NB2, epochs=20)

NETWORKS = {"quick": 200, "full": 1000}


class BlockCounts(NamedTuple):
    """The outcome of a block of networks: the numbers of flat and of identical ones, the errors of
    those that diverged, and the final losses of the others."""

    flat: int
    identical: int
    failed: dict[int, DivergedError]
    loss: list[float]


def count(outputs: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the networks that are flat (nb2) and those with identical predictions (nb4).

    outputs (R, N, 1) -> two masks (R,).
    """
    values = outputs[..., 0].astype(np.float64)
    # nb4 compares the first hundred predictions only.
    return values.var(axis=1) <= FLAT, np.ptp(values[:, :100], axis=1) == 0.0


def collapse(run: ArmRun) -> Mapping[str, Any]:
    """Train all networks of a run and count the collapsed ones."""
    data = prepare(run.dataset, scaling="raw", dtype=run.engine.dtype)
    samples, fresh = Samples(data.train.x, data.train.y), data.test.x
    plans = run.plans

    def work(block: range) -> BlockCounts:
        block_plans = [plans[number] for number in block]
        replicas = run.engine.replicate(run.model, block_plans)
        histories = train_replicas(replicas, samples, run.recipe, block_plans)
        good = np.array([replica not in replicas.failures for replica in range(len(block))])
        flat, identical = count(replicas.predict(fresh)[good])
        losses = [history[-1].running_loss for history in histories if history]
        failed = {block.start + replica: why for replica, why in sorted(replicas.failures.items())}
        return BlockCounts(int(flat.sum()), int(identical.sum()), failed, losses)

    parts = in_blocks(run.engine, run.model, run.recipe, len(plans), work)
    failed = {network: why for part in parts for network, why in part.failed.items()}
    finished = len(plans) - len(failed)
    if not finished:
        raise next(iter(failed.values()))
    counts = {
        "flat": sum(part.flat for part in parts),
        "identical": sum(part.identical for part in parts),
    }
    collapsed = counts[run.arm.options["rule"]]
    return {
        "networks": finished,
        "failed": len(failed),
        "failures": [f"network {network}: {why}" for network, why in failed.items()][:NAMED],
        **counts,
        "collapsed": collapsed,
        "collapse_fraction": collapsed / finished,
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
    "Ten hidden layers of width 2: the fraction of networks that predict one constant",
    "nb2, nb4",
    "absolute",
    (
        _arm("relu", "relu", LIKE_NB2, "flat"),
        _arm("leaky_relu", "leaky_relu", LIKE_NB2, "flat"),
        # nb4's kernel scale is illegible: Glorot uniform and a normal distribution with a standard
        # deviation of 1 stand in for it.
        _arm("nb4/relu", "relu", LIKE_NB4, "identical", linear_first=True),
        _arm("nb4/relu, normal(1)", "relu", LIKE_NB4, "identical", linear_first=True, stddev=1.0),
        # nb4 measures leaky ReLU on another target; the last arm uses the target of its ReLU.
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
    metric=Metric("collapse_fraction", higher_is_better=False, is_fraction=True),
    plots=("collapse",),
    measure=collapse,
    claims=CLAIMS,
    published=PUBLISHED,
)

STUDIES = (DYING_RELU,)
