"""The output of every layer, in training and outside, against its definition."""

from __future__ import annotations

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.subjects import SUBJECTS, drawn, networks, size
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.strategies import Example, nonzero_weights
from dlsys_bench.engines.base import Batch
from dlsys_bench.plan import Plan
from dlsys_bench.spec.convention import follow
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.spec.zoo import MODELS


def compare(trial: Trial, example: Example) -> None:
    """Every layer's output, from the first on; then what is predicted."""
    engine, oracle = trial.engine, trial.oracle
    net, truth = engine.build(example.model, example.weights), oracle.build(example.model, example.weights)
    expected = oracle.trace(truth, example.batch)
    for name, found, right in zip(example.model.names, engine.trace(net, example.batch), expected, strict=True):
        close(f"the output of {name}", found, right, trial.tolerance * size(right), layer=name)
    right = oracle.predict(truth, example.batch.x)
    close("predict", engine.predict(net, example.batch.x), right, trial.tolerance * size(right))


@check("forward", *SUBJECTS)
def forward(trial: Trial, subject: str) -> None:
    trial.search(drawn(trial, subject), lambda example: compare(trial, example))


@check("forward", "network")
def network(trial: Trial, subject: str) -> None:
    """Drawn networks of up to six layers."""
    trial.search(networks(trial), lambda example: compare(trial, example))


LARGE = "lenet5-tanh/bn+bn"


@check("forward", "lenet5")
def lenet5(trial: Trial, subject: str) -> None:
    """A network of real size, on more images than the drawn ones have."""
    compare(trial, large(trial))


def large(trial: Trial) -> Example:
    """LeNet-5 on 12 drawn images."""
    model = follow(trial.engine.conventions[0], MODELS[LARGE])
    x = trial.generator.random((12, *model.input_shape))
    y = trial.generator.integers(0, 10, 12)
    batch = Batch(x, y, Plan(trial.seed).masks(model, 0, 12), training=True)
    return Example(model, nonzero_weights(model, trial.seed), batch, CategoricalCrossEntropy(), trial.seed)
