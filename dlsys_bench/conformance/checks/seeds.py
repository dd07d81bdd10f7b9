"""What a seed decides: the masks of every layer, and the same weights in every process."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from unittest.mock import patch

import numpy as np

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.determinism import trained
from dlsys_bench.conformance.checks.support import example_loss, supported
from dlsys_bench.conformance.checks.training import regression_recipe
from dlsys_bench.conformance.checks.usage import common_targets, start_row
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.runner import engine_factory
from dlsys_bench.conformance.trial import EngineTarget, Options, Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.errors import NotApplicableError, UserError
from dlsys_bench.spec.layers import Dense, Dropout, Layer
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD

VALUES = 64
"""The number of values of a mask, of which two are equal by chance once in 10^19 pairs."""


@check("determinism", "dropout-layers", requires=["native", "layer:dense", "layer:dropout"])
def dropout_layers(trial: Trial) -> None:
    """No layer drops with one seed what it, or another layer, drops with one of the next seeds.

    Why: Runs with neighbouring seeds are independent only if they share no mask.
    Broken by: An engine that seeds the masks of a layer with the sum of the seed and the number of
    the layer.
    Fix: Seed with a sequence of both numbers, as `numpy.random.SeedSequence((seed, layer))`.
    """
    first = (Dropout(0.5),)
    second = (*first, Dense(VALUES, use_bias=False), Dropout(0.5))
    found: dict[bytes, str] = {}
    for which, layers, seeds in (("first", first, range(1, 6)), ("second", second, (1, 2))):
        for seed in seeds:
            here = f"the {which} layer with seed {seed}"
            earlier = found.setdefault(_mask(trial, layers, seed), here)
            if earlier != here:
                what = f"{here} drops the same values as {earlier}"
                raise broken(Fault.NOT_DETERMINISTIC, what, layer=f"dropout_{len(layers) // 2 + 1}")


def _mask(trial: Trial, layers: tuple[Layer, ...], seed: int) -> bytes:
    """Return what the last of some layers keeps natively of equal values: the rows of the kernel
    after it that an update moves."""
    loss = example_loss(trial)
    row = start_row(loss)
    kernels = {"dense_1.kernel": np.full((VALUES, VALUES), 1 / VALUES)} if layers[1:] else {}
    last = f"dense_{len(kernels) + 1}.kernel"
    start = np.repeat(row, VALUES, axis=0)
    model = Model("layers", (VALUES,), (*layers, Dense(row.shape[1], use_bias=False)))
    recipe = regression_recipe(trial, SGD(0.01), batch_size=1, epochs=1)
    network = trial.engine.build(supported(trial, model), {**kernels, last: start})
    samples = Samples(np.ones((1, VALUES)), common_targets(loss, 1))
    train(trial.engine, network, samples, recipe, Plan(seed))
    moved = trial.engine.weights(network)[last] != start.astype(trial.engine.dtype)
    kept: bytes = moved.any(axis=1).tobytes()
    return kept


@check("determinism", "process", requires=["native"], dtype="")
def process(trial: Trial) -> None:
    """Another process, in which Python hashes strings otherwise, ends the native training of a seed
    with the same weights.

    Why: A run is repeated in another process, on another day.
    Broken by: An engine that seeds with `hash(name)`, which differs from process to process, or
    with the address of an object.
    Fix: Seed with numbers of the plan and of the layer, or with `zlib.crc32` of a name.
    """
    if trial.target is None:
        reason = "another process has no name by which it could create the engine"
        raise NotApplicableError(reason)
    hashes = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    with (
        patch.dict(os.environ, PYTHONHASHSEED=hashes),
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        try:
            elsewhere = pool.submit(_trained_there, trial.target, trial.options).result()
        except UserError as error:
            reason = f"another process cannot create the engine: {error}"
            raise NotApplicableError(reason) from None
    for name, expected in trained(trial, seed=1).items():
        apart = float(np.abs(elsewhere[name] - expected).max())
        # Another process may place arrays otherwise in memory, which may change their rounding.
        if apart > 1e-3 * magnitude(expected):
            what = f"{name} differs by {apart:.3g} between two processes with seed 1"
            raise broken(Fault.NOT_DETERMINISTIC, what, tensor=name)


def _trained_there(target: EngineTarget, options: Options) -> Weights:
    """Return what a native training ends with in this process."""
    return trained(Trial(engine_factory(*target), options, dtype=""), seed=1)
