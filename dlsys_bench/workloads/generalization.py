"""A training whose generalisation is measured: on a training set drawn anew for each seed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Dataset, Splits
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.errors import DivergedError
from dlsys_bench.runs.metrics import Figures, evaluate
from dlsys_bench.runs.preparation import prepare_for
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.studies.base import ArmRun

BINS = 15
"""The number of bins of the expected calibration error. Guo et al. 2017."""

LOSS = CategoricalCrossEntropy()
"""The loss of the figures, whatever the training minimises."""


def subset(dataset: Dataset, samples: int, seed: int) -> Dataset:
    """Return the dataset with a part of its training set, drawn without replacement.

    The part depends on the seed alone, so that all arms train on the same samples.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, samples))))
    chosen = generator.permutation(len(dataset.x_train))[:samples]
    return replace(
        dataset, x_train=dataset.x_train[chosen], y_train=dataset.y_train[chosen], redraw=None
    )


def expected_calibration_error(logits: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the mean distance of confidence and accuracy over BINS equal intervals of confidence.

    `logits` is (N, K), `y` has the labels (N,). Guo, Pleiss, Sun, Weinberger: On calibration of
    modern neural networks, arXiv:1706.04599, 2017.
    """
    shifted = np.asarray(logits, np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    confidence = shifted.max(axis=1) / shifted.sum(axis=1)
    correct = logits.argmax(axis=1) == y
    # The interval of a confidence is open below, as in the paper: (0, 1/15], (1/15, 2/15], ...
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    sums = np.bincount(number, weights=correct - confidence, minlength=BINS)
    return float(np.abs(sums).sum() / len(y))


def generalize(run: ArmRun) -> Mapping[str, Any]:
    """Train one network and measure accuracy, loss, gap, calibration and seconds.

    The arm's option "samples" is the size of the training set, None for all of it, and "patience"
    the number of epochs without a lower validation loss after which the training stops and returns
    to its best weights.
    """
    options, dataset = run.arm.options, run.dataset
    if options["samples"] is not None:
        dataset = subset(dataset, options["samples"], run.seed)
    data = prepare_for(run.recipe, dataset, run.engine.dtype, run.seed)
    started = time.perf_counter()
    net, epochs = _train(run, data, options.get("patience"))
    seconds = time.perf_counter() - started
    logits = run.engine.predict(net, data.test.x)
    test = evaluate(logits, data.test, LOSS)
    if not math.isfinite(test.loss):
        raise DivergedError(epochs, 0, test.loss)
    train = evaluate(run.engine.predict(net, data.train.x), data.train, LOSS)
    return {
        **_named("test", test),
        **_named("train", train),
        "gap": (train.accuracy or 0.0) - (test.accuracy or 0.0),
        "calibration_error": expected_calibration_error(logits, data.test.y),
        "epochs": epochs,
        "train_seconds": seconds,
    }


def _named(split: str, figures: Figures) -> dict[str, float | None]:
    return {f"{split}_accuracy": figures.accuracy, f"{split}_loss": figures.loss}


def _train(run: ArmRun, data: Splits, patience: int | None) -> tuple[Any, int]:
    """Return the trained network, and the number of epochs that it was trained for."""
    engine, net = run.engine, run.engine.build(run.model, seed=run.seed)
    best: tuple[float, int, Weights] = (math.inf, 0, {})
    with closing(engine.fit(net, data.train, run.recipe, Plan(run.seed))) as epochs:
        for epoch in epochs:
            if patience is None or data.validation is None:
                continue
            outputs = engine.predict(net, data.validation.x)
            loss = evaluate(outputs, data.validation, LOSS).loss
            if loss < best[0]:
                best = (loss, epoch.epoch, engine.weights(net))
            elif epoch.epoch - best[1] >= patience:
                break
    return (engine.build(run.model, best[2]) if best[2] else net), epoch.epoch
