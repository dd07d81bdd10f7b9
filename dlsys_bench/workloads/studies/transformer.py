"""Transformers: causal ones that copy, sort and count, and delayed generalisation on addition."""

from __future__ import annotations

from dataclasses import replace

from dlsys_bench.spec.losses import CategoricalCrossEntropy, Loss
from dlsys_bench.spec.optimizers import Adam, AdamW, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import ConstantRate, CosineDecay, WarmUp
from dlsys_bench.studies.base import EPOCH_METRICS, Arm, BenchmarkSize, Metric, Study
from dlsys_bench.workloads.delay import train_and_watch
from dlsys_bench.workloads.published import CLAIMS
from dlsys_bench.workloads.tasks import MODULUS, SEPARATOR, SMALL_MODULUS
from dlsys_bench.workloads.transformer import causal, pooled

POWER_2022 = "Power et al. 2022, arXiv:2201.02177"
ANSWERS = CategoricalCrossEntropy(ignored_label=SEPARATOR)


def _annealed(loss: Loss, rate: float, batch_size: int, steps: int) -> Recipe:
    """Return Adam with a warm-up over a tenth of the steps, and a cosine decay after it."""
    warm_up = steps // 10
    return Recipe(
        Adam(rate),
        batch_size=batch_size,
        epochs=1000,
        steps=steps,
        loss=loss,
        scaling="raw",
        evaluate=1000,
        schedule=WarmUp(warm_up, CosineDecay(rate, steps - warm_up)),
    )


def _causal(name: str, loss: Loss, steps: int) -> Arm:
    """Return a causal transformer on a task, by the name of its dataset."""
    tiers = {
        "quick": _annealed(loss, 0.003, 64, steps),
        "full": replace(_annealed(loss, 0.003, 64, 10 * steps), evaluate=None),
    }
    return Arm(name, causal(name), tiers, dataset=name)


SEQUENCES = Study(
    "transformer/sequences",
    "Small causal transformers: copying, sorting, and the parity of bits",
    "Vaswani et al. 2017, arXiv:1706.03762",
    "sorting",
    (
        _causal("copying", ANSWERS, 150),
        _causal("sorting", ANSWERS, 200),
        _causal("parity", CategoricalCrossEntropy(), 300),
    ),
    metric=EPOCH_METRICS["test_loss"],
    group="transformer",
    claims=CLAIMS,
    benchmarks=(BenchmarkSize("sorting", 64, 20),),
)


def _adding(name: str, modulus: int, optimizer: Optimizer) -> Arm:
    """Return a transformer that adds modulo a prime, with an optimiser."""
    recipe = Recipe(
        optimizer,
        batch_size=480,
        epochs=100_000,
        scaling="raw",
        schedule=WarmUp(10, ConstantRate(optimizer.learning_rate)),
    )
    small = modulus == SMALL_MODULUS
    return Arm(
        name,
        pooled(modulus),
        {"quick": replace(recipe, steps=600), "full": replace(recipe, steps=30_000)},
        {} if small else {"quick": "tier quick is too short for this modulus"},
        dataset="small-modular-addition" if small else "modular-addition",
    )


OPTIMIZERS: dict[str, tuple[Optimizer, Optimizer]] = {
    "decay": (
        AdamW(0.003, 1.0, tensors="all", beta_2=0.98),
        AdamW(0.001, 1.0, tensors="all", beta_2=0.98),
    ),
    "no-decay": (Adam(0.003, beta_2=0.98), Adam(0.001, beta_2=0.98)),
}
"""The optimisers of the arms of addition, for the small modulus and for the large one."""

ADDITION = Study(
    "transformer/addition",
    "Addition modulo a prime, half of all sums for training: delayed generalisation",
    POWER_2022,
    "modular-addition",
    (
        *(
            _adding(f"small-{name}", SMALL_MODULUS, small)
            for name, (small, _) in OPTIMIZERS.items()
        ),
        *(_adding(name, MODULUS, large) for name, (_, large) in OPTIMIZERS.items()),
    ),
    metric=Metric("test_accuracy", higher_is_better=True, is_fraction=True),
    plots=(),
    measure=train_and_watch,
    group="transformer",
    claims=CLAIMS,
)

STUDIES = (SEQUENCES, ADDITION)
