"""Batches and datasets of the sizes that people train with."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.directions import compare_slopes
from dlsys_bench.conformance.checks.large_trainings import compare_with_own_gradients
from dlsys_bench.conformance.checks.networks import mild_weights, smooth
from dlsys_bench.conformance.checks.rows import common_targets, row_gradients, start_row
from dlsys_bench.conformance.checks.sizes import grid_inputs
from dlsys_bench.conformance.checks.subjects import label_loss
from dlsys_bench.conformance.checks.support import example_loss, needed_layers, supported
from dlsys_bench.conformance.checks.training import plans
from dlsys_bench.conformance.checks.update_cases import chosen_optimizers
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.layers import Activation, Dense, Embedding
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe


class LargeBatch(NamedTuple):
    """A model, a number of samples that is the size of a batch, and the label that the loss
    ignores."""

    model: Model
    samples: int
    ignored: int | None = None

    @property
    def requires(self) -> list[str]:
        """What an engine must have for the model and for a loss that ignores labels of it."""
        of_positions = [] if self.ignored is None else ["loss:ignored_label", "loss:positions"]
        return [*needed_layers(self.model), *of_positions]


BATCHES = {
    "large-batch": LargeBatch(
        Model("vectors", (700,), (Dense(4), Activation("tanh"), Dense(3))), 2500
    ),
    "large-batch-of-sequences": LargeBatch(
        Model("sequences", (48,), (Embedding(50, 40), Dense(3)), input_dtype="int"), 1100, 1
    ),
}
"""Batches of some thousand samples, and of two million values."""


@check_each("step", BATCHES, requires=lambda case: case.requires)
def large_batch(trial: Trial, case: LargeBatch) -> None:
    """The gradients of a large batch along random directions; two updates by it, with a plan and
    natively, with a loss scale and, for sequences, ignored labels; and the running loss and
    accuracy of the first.

    Why: An engine may split a large batch among threads or into parts of its own, which it has to
    put together again.
    Broken by: An engine that weights the parts by their samples where labels are ignored, forgets
    the gradient, the accuracy or the loss scale of a part, or takes at most 1,024 samples.
    Fix: Weight a part by what the mean of the batch is divided by, and add up all that it returns.
    """
    loss = label_loss(trial)
    loss = loss if case.ignored is None else type(loss).of(ignored_label=case.ignored)
    model = supported(trial, case.model)
    x = grid_inputs(model, case.samples, trial.generator)
    y = strategies.targets(loss, model.output_shape, case.samples, trial.generator)
    if case.ignored is not None:
        # Parts of equal sizes have different numbers of labels that count.
        y[: case.samples // 2, ::2] = case.ignored
    recipe = Recipe(smooth(chosen_optimizers(trial, 1)[0]), case.samples, epochs=2, shuffle=False)
    recipe = supported(trial, replace(recipe, loss=loss, loss_scale=LossScale(1024.0)))
    weights, batch = mild_weights(model, trial.seed), Batch(x, y, training=True)
    # The updates are compared with the gradients of the engine, so these have to be right.
    compare_slopes(trial, Example(model, weights, batch, loss, trial.seed))
    for plan in plans(trial):
        training = TrainingCase(model, weights, Samples(x, y), recipe, plan)
        compare_with_own_gradients(trial, training)
        _compare_figures(trial, case, training, loss)


def _compare_figures(trial: Trial, case: LargeBatch, training: TrainingCase, loss: Loss) -> None:
    """Compare the running loss and accuracy of the first epoch with those of the batch before."""
    model, weights, samples, recipe, plan = training
    y, network = samples.y, trial.engine.build(model, weights)
    batch = Batch(samples.x, y, training=True)
    expected = trial.engine.gradients(network, batch, loss).loss
    outputs = trial.engine.trace(network, batch)[-1]
    counted = np.ones(y.shape, bool) if case.ignored is None else y != case.ignored
    epoch = train(trial.engine, network, samples, recipe, plan)[0]
    what = f"the running loss of a batch of {case.samples:,} samples"
    close(what, epoch.running_loss, expected, 1e-5 * abs(expected))
    what = f"the running accuracy of a batch of {case.samples:,} samples"
    right = float((outputs.argmax(axis=-1) == y)[counted].mean())
    found = np.nan if epoch.running_accuracy is None else epoch.running_accuracy
    # Rounding decides between outputs that are nearly equal.
    *_, second, first = np.moveaxis(np.sort(outputs, axis=-1), -1, 0)
    tied = first - second <= trial.tolerance * magnitude(outputs)
    close(what, found, right, 1e-5 + float(tied[counted].mean()))


SAMPLES, BUCKETS, BATCH = 70_400, 64, 8800
"""More samples than two bytes can number, in buckets of neighbours, and an eighth of them."""


@check("trajectory", "large-shuffling", requires=["native", "layer:dense", "optimizer:sgd"])
def large_shuffling(trial: Trial) -> None:
    """The first batch of 70,400 shuffled samples has samples from everywhere, and the epoch has
    every sample once.

    Why: A shuffle buffer that is smaller than the data keeps the samples near where they were, and
    a number of two bytes cannot reach them all.
    Broken by: An engine that shuffles within a buffer of some thousand samples, or numbers the
    samples by 16 bits.
    Fix: Shuffle the indices of all samples, as integers of at least 32 bits.
    """
    # A loss of signs starts at -0.001, of which a smaller movement would be lost in float32.
    rate, loss = 1e-4, example_loss(trial)
    row = start_row(loss)
    model = Model("buckets", (BUCKETS,), (Dense(row.shape[1], use_bias=False),))
    start = np.repeat(row, BUCKETS, axis=0)
    bucket = np.arange(SAMPLES) * BUCKETS // SAMPLES
    samples = Samples(np.eye(BUCKETS)[bucket], common_targets(loss, SAMPLES))
    recipe = supported(trial, Recipe(SGD(rate), BATCH, epochs=1, loss=loss))
    slope = row_gradients(loss, row)[0, 0]
    for steps in (1, SAMPLES // BATCH):
        training = TrainingCase(
            model, {"dense_1.kernel": start}, samples, recipe, Plan(trial.seed, steps=steps)
        )
        moved = training.run(trial.engine)["dense_1.kernel"] - start
        # A kernel row moves in proportion to the number of samples of its bucket that were used.
        used, mean = -moved[:, 0] * BATCH / (slope * rate), steps * BATCH / BUCKETS
        # In one batch, the bounds are more than 6.5 standard deviations from the mean; in all of
        # them, every sample is used once.
        most = 0.55 * mean if steps == 1 else 0.5
        wrong = np.abs(used - mean) > most
        if wrong.any():
            where = "the first batch" if steps == 1 else "an epoch"
            first = int(wrong.argmax())
            what = f"the samples in {where} of {SAMPLES:,} that are in part {first} of {BUCKETS}"
            values = {"actual": f"{used[first]:.4g}", "expected": f"{mean:.4g}"}
            raise broken(Fault.WRONG_DISTRIBUTION, what, **values)
