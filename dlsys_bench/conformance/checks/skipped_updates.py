"""Trainings of which some updates overflow under a loss scale, and are skipped.

An input that is zero in all batches but one, with zeros in its row of the first kernel, changes
neither the outputs nor the loss, however large it is in that batch: the *spike*. The gradient of
that row is the spike times that of the bias, so that it overflows under every scale above a limit,
which follows from the spike. The oracle trains without spikes, and leaves out the updates that the
definition skips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.checks.support import trainable
from dlsys_bench.conformance.expectation import SHARP_TRAINING, magnitude
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.oracle.engine import OracleNetwork
from dlsys_bench.conformance.oracle.loss_scale import updates_made
from dlsys_bench.conformance.oracle.optimizers import OracleState
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.history import History
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

INPUTS = 3
"""The number of inputs without a spike."""

KERNEL, BIAS = "dense_1.kernel", "dense_1.bias"


class PartialTraining:
    """A training by the oracle, batch by batch, of which some updates are skipped."""

    def __init__(self, oracle: Oracle, case: TrainingCase, network: OracleNetwork) -> None:
        self.oracle, self.case, self.network = oracle, case, network
        self.states: dict[str, OracleState] = {name: {} for name in network.tensors}
        self.steps = [step for epoch in case.updates() for step in epoch]
        self.rates: list[float] = []
        self.made = 0

    @property
    def batch(self) -> Batch:
        """The next batch."""
        chosen, samples = self.steps[len(self.rates)].chosen, self.case.samples
        return Batch(samples.x[chosen], samples.y[chosen])

    def advance(self, made: bool) -> None:
        """Make the next update, or skip it."""
        recipe, at = self.case.recipe, len(self.rates)
        assert recipe.loss_scale is not None
        counted = self.made if recipe.loss_scale.schedule_counts == "updates" else at
        if made:
            step = self.steps[at]._replace(number=self.made, learning_rate=recipe.rate(counted))
            self.oracle.update(self.network, self.case.samples, recipe, step, self.states)
        else:
            moved = self.oracle.moved_state(self.network, self.batch)
            self.network.tensors = self.network.tensors | moved
        self.rates.append(recipe.rate(counted))
        self.made += made

    def end(self) -> None:
        """Give the network the averages, if there are any."""
        self.network.tensors = self.oracle.evaluated(self.network, self.states)


class SpikedTraining(NamedTuple):
    """A training without spikes, the inputs with them, and whether each update is made."""

    case: TrainingCase
    x: Array
    made: list[bool]

    def run(self, oracle: Oracle, network: OracleNetwork) -> list[float]:
        """Train a network of the oracle, and return the learning rates."""
        training = PartialTraining(oracle, self.case, network)
        for made in self.made:
            training.advance(made)
        training.end()
        return training.rates


def spiked_case(trial: Trial, model: Model, recipe: Recipe, samples: int) -> TrainingCase:
    """Return a training whose model has an input for the spike of each sample, with zeros in its
    row of the first kernel."""
    way = trial.convention
    model = replace(model, input_shape=(INPUTS + samples,))
    model = to_convention(way, trainable(trial, model, recipe.loss))
    weights = strategies.nonzero_weights(model, trial.seed)
    weights[KERNEL][INPUTS:] = 0.0
    x = np.zeros((samples, INPUTS + samples))
    x[:, :INPUTS] = trial.generator.standard_normal((samples, INPUTS))
    y = strategies.targets(recipe.loss, model.output_shape[0], samples, trial.generator)
    return TrainingCase(model, weights, Samples(x, y), recipe, Plan(1, parity=True))


def with_limits(
    trial: Trial, case: TrainingCase, limits: Sequence[float], network: OracleNetwork
) -> SpikedTraining:
    """Return a training on batches of one sample each, which overflow above these scales (one for
    each update; infinity for a batch without a spike), and train the network of the oracle."""
    assert case.recipe.loss_scale is not None
    made, x = updates_made(case.recipe.loss_scale, limits), case.samples.x.copy()
    training = PartialTraining(trial.oracle, case, network)
    for limit, is_made in zip(limits, made, strict=True):
        sample = training.steps[len(training.rates)].chosen[0]
        if math.isfinite(limit) and not x[sample, INPUTS + sample]:
            found = trial.oracle.gradients(network, training.batch, case.recipe.loss)
            slope = magnitude(found.weights[BIAS]) * limit
            x[sample, INPUTS + sample] = np.finfo(trial.engine.dtype).max / slope
        training.advance(is_made)
    training.end()
    return SpikedTraining(case, x, made)


def with_large_spikes(trial: Trial, case: TrainingCase, made: Sequence[bool]) -> SpikedTraining:
    """Return a training whose updates overflow or not, by spikes in the first sample of a batch."""
    x = case.samples.x.copy()
    for step, is_made in zip((s for epoch in case.updates() for s in epoch), made, strict=True):
        if not is_made:
            first = step.chosen[0]
            x[first, INPUTS + first] = np.finfo(trial.engine.dtype).max / 16
    return SpikedTraining(case, x, list(made))


def compare_spiked(trial: Trial, *rounds: SpikedTraining) -> History:
    """Compare the tensors after trainings of one network with the oracle's, and return the history
    of the last."""
    first = rounds[0].case
    made = [_used_spikes(each) for each in rounds]
    kept = [*range(INPUTS), *(INPUTS + np.flatnonzero(~np.any(made, axis=0)))]

    def rows(tensors: Weights) -> Weights:
        # An update by a spike is as large as it, and all others are rounding errors beside it.
        return tensors | {KERNEL: tensors[KERNEL][kept]}

    def compute(oracle: Oracle) -> Weights:
        network = oracle.build(first.model, first.weights)
        for each in rounds:
            each.run(oracle, network)
        return rows(network.tensors)

    before, moves = rows(first.weights), any(any(each.made) for each in rounds)
    expected = trial.expect(
        compute,
        lambda values: {
            name: magnitude(own - moves * before[name]) for name, own in values.items()
        },
        sharp=SHARP_TRAINING,
    )
    network = trial.engine.build(first.model, first.weights)
    for each in rounds:
        samples = replace(each.case.samples, x=each.x)
        history = train(trial.engine, network, samples, each.case.recipe, each.case.plan)
    actual = rows(trial.engine.weights(network))
    for name, origin in before.items():
        where = {"layer": name.partition(".")[0], "tensor": name, "origin": origin}
        expected.check(name, actual[name], f"{name} after the training", **where)
    expected.reject_unless_sharp()
    return history


def _used_spikes(each: SpikedTraining) -> NDArray[np.bool_]:
    """Return for each spike whether an update with it is made."""
    used: NDArray[np.bool_] = np.zeros(len(each.x), bool)
    steps = (step for epoch in each.case.updates() for step in epoch)
    for step, made in zip(steps, each.made, strict=True):
        used[step.chosen] |= made
    return used & each.x[:, INPUTS:].any(axis=0)
