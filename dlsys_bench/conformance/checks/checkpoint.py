"""Weights that go out to a file and come back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.subjects import networks, size
from dlsys_bench.conformance.checks.trajectory import NETWORKS, _setting
from dlsys_bench.conformance.finding import broken, close
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.runs.checkpoint import load, save


@check("checkpoint", "weights")
def weights(trial: Trial, subject: str) -> None:
    """A network built from the weights of another has them to the bit, and predicts the same."""

    def body(example: Example) -> None:
        engine = trial.engine
        first = engine.build(example.model, example.weights)
        kept = engine.weights(first)
        second = engine.build(example.model, kept)
        for name, values in engine.weights(second).items():
            if not np.array_equal(values, kept[name]):
                raise broken(f"{name} is not what it was before it went out and in", tensor=name)
        right = engine.predict(first, example.batch.x)
        close(
            "predict", engine.predict(second, example.batch.x), right, trial.tolerance * size(right)
        )

    trial.search(networks(trial), body, examples=15)


NETWORK = next(name for name in NETWORKS if "batch_norm" in name)


@check("checkpoint", "file")
def file(trial: Trial, subject: str) -> None:
    """Half a training, a file, another network, the other half: as without the file in between."""
    engine, plan = trial.engine, Plan(3, parity=True)
    model, recipe, samples = _setting(trial, engine, NETWORK)
    net = engine.build(model, Plan(3).weights(model))
    train(engine, net, samples, recipe, plan)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.npz"
        save(path, model, engine.weights(net))
        known, kept = load(path)
    restored = engine.build(known, kept)
    for network in (net, restored):
        train(engine, network, samples, recipe, plan)
    for name, right in engine.weights(net).items():
        close(
            f"{name} of the restored network",
            engine.weights(restored)[name],
            right,
            10 * trial.tolerance * size(right),
            tensor=name,
        )
