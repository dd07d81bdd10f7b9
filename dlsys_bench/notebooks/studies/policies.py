"""Choices and schedules of learning rate and batch size: nb2's studies of LeNet-5 tanh on
Fashion-MNIST.

The pixels are raw, because the batch norm on the input scales them. The full tier is the notebook's
recipe; the quick tier uses fewer samples.
"""

from __future__ import annotations

from dataclasses import replace

from dlsys_bench.notebooks.claims import CLAIMS, PUBLISHED
from dlsys_bench.notebooks.zoo import lenet5_tanh
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate, LearningRateRamp
from dlsys_bench.studies.base import EPOCH_METRICS, Arm, Study

MODEL = lenet5_tanh("bn+bn")
FULL = Recipe(SGD(0.1), batch_size=64, epochs=5, scaling="raw")
QUICK = replace(FULL, samples=8192, epochs=2, evaluate=2000, moving_decay=0.9)

RATES = tuple(10.0**power for power in range(-9, 2))
SIZES = tuple(64 * 2**power for power in range(8))


TOO_HIGH = (
    "whether so high a learning rate diverges or stays at chance level depends on the seed: "
    "it is shown, not judged"
)


def _tiers(full: Recipe, quick: Recipe) -> dict[str, Recipe]:
    return {"quick": quick, "full": full}


def _at_rate(recipe: Recipe, rate: float) -> Recipe:
    return replace(recipe, optimizer=SGD(rate), evaluate=2000)


LEARNING_RATE = Study(
    "learning-rate-sweep",
    "Eleven learning rates, each ten times the one before",
    "nb2",
    "fashion_mnist",
    tuple(
        Arm(
            f"{rate:g}",
            MODEL,
            _tiers(_at_rate(FULL, rate), replace(_at_rate(QUICK, rate), steps=100)),
            dict.fromkeys(("quick", "full"), TOO_HIGH) if rate >= 1 else {},
            may_diverge=rate >= 1,
        )
        for rate in RATES
    ),
    metric=EPOCH_METRICS["running_loss"],
    plots=("sweep",),
    claims=CLAIMS,
    published=PUBLISHED,
)

BATCH_SIZE = Study(
    "batch-size-sweep",
    "Eight batch sizes, each twice the one before, at one learning rate and number of epochs",
    "nb2",
    "fashion_mnist",
    tuple(
        Arm(
            str(size),
            MODEL,
            _tiers(replace(FULL, batch_size=size, evaluate=2000), replace(QUICK, batch_size=size)),
        )
        for size in SIZES
    ),
    metric=EPOCH_METRICS["running_loss"],
    plots=("sweep",),
    claims=CLAIMS,
    published=PUBLISHED,
)

# As published: the base exceeds the maximum, so that the rate starts high, falls and returns.
EXP_RANGE = CyclicalLearningRate(0.1, 1e-9, 1000, "exp_range", 0.99994)

CYCLICAL_LEARNING_RATE = Study(
    "cyclical-learning-rate",
    "A cyclical learning rate at three scales of its amplitude, and a fixed rate",
    "nb2",
    "fashion_mnist",
    (
        *(
            Arm(
                scale,
                MODEL,
                _tiers(
                    replace(FULL, schedule=replace(EXP_RANGE, scale=scale)),
                    replace(QUICK, schedule=replace(EXP_RANGE, scale=scale, step_size=40)),
                ),
            )
            for scale in ("exp_range", "triangular", "triangular2")
        ),
        Arm("fixed", MODEL, _tiers(FULL, QUICK)),
    ),
    plots=("curves", "steps"),
    claims=CLAIMS,
    published=PUBLISHED,
)

CYCLICAL_BATCH_SIZE = Study(
    "cyclical-batch-size",
    "A cyclical batch size: as published, and with every sample used once per epoch",
    "nb2",
    "fashion_mnist",
    (
        Arm(
            "published",
            MODEL,
            _tiers(
                replace(FULL, batch_sizes=CyclicalBatchSize(64, 512, ends="early"), shuffle=False),
                replace(QUICK, batch_sizes=CyclicalBatchSize(64, 512, ends="early"), shuffle=False),
            ),
        ),
        Arm(
            "sound",
            MODEL,
            _tiers(
                replace(FULL, batch_sizes=CyclicalBatchSize(64, 512)),
                replace(QUICK, batch_sizes=CyclicalBatchSize(64, 512)),
            ),
        ),
        Arm(
            "sound, not growing",
            MODEL,
            _tiers(
                replace(FULL, batch_sizes=CyclicalBatchSize(64, 512, growing=False)),
                replace(QUICK, batch_sizes=CyclicalBatchSize(64, 512, growing=False)),
            ),
        ),
    ),
    plots=("curves", "steps"),
    claims=CLAIMS,
    published=PUBLISHED,
)

NOT_JUDGED = "the result of a range test is a plot to read, not a figure to judge"

RANGE_TEST = Study(
    "learning-rate-range-test",
    "One short training with a growing learning rate: where the loss falls and where it diverges",
    "Smith 2015, section 3.3",
    "fashion_mnist",
    (
        Arm(
            "bn+bn",
            MODEL,
            _tiers(
                replace(FULL, epochs=1, schedule=LearningRateRamp(1e-6, 10.0, 938)),
                replace(QUICK, epochs=2, steps=200, schedule=LearningRateRamp(1e-6, 10.0, 200)),
            ),
            {
                "quick": NOT_JUDGED,
                "full": NOT_JUDGED,
            },
            may_diverge=True,
        ),
    ),
    metric=EPOCH_METRICS["running_loss"],
    plots=("range_test",),
)

STUDIES = (LEARNING_RATE, BATCH_SIZE, CYCLICAL_LEARNING_RATE, CYCLICAL_BATCH_SIZE, RANGE_TEST)
