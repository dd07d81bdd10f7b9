"""One run: a model from the spec, on data, by an engine, evaluated after every epoch."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Dataset, Samples, Splits, is_available, load, prepare, training_count
from dlsys_bench.engines.base import Engine, check_targets
from dlsys_bench.engines.epochs import Epoch, History
from dlsys_bench.engines.numpy.losses import hits, value_and_gradient
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.errors import DivergedError, OtherEngineError, UserError
from dlsys_bench.provenance import provenance
from dlsys_bench.runs import checkpoint
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import file_name
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import ArmRun, Case

# Runs that judge never share a seed with runs that made the band: those count up from 0, these from
# here.
FIRST_SEED = 10_000

Progress = Callable[[Epoch], None]


def evaluate(outputs: Array, samples: Samples, loss: Loss) -> tuple[float, float | None]:
    """Loss and accuracy of given outputs (N, K), in double precision whatever the engine's."""
    rows = np.asarray(outputs, np.float64).T[None]
    y = samples.y[None] if samples.y.ndim == 1 else samples.y.T[None]
    right = hits(loss, rows, y)
    return float(value_and_gradient(loss, rows, y)[0][0]), None if right is None else float(
        right[0]
    ) / len(samples.x)


SPLITS = ("train", "validation", "test")


def evaluated(
    engine: Engine,
    net: Any,
    data: Splits,
    recipe: Recipe,
    epoch: Epoch,
    splits: Sequence[str] = SPLITS,
) -> Epoch:
    """The epoch with its figures on these splits. A loss that is not finite is left to the next
    batch to report."""
    figures: dict[str, float | None] = {}
    for split in splits:
        whole: Samples | None = getattr(data, split)
        if whole is not None:
            samples = Samples(whole.x[: recipe.evaluate], whole.y[: recipe.evaluate])
            loss, accuracy = evaluate(engine.predict(net, samples.x), samples, recipe.loss)
            figures |= {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
    return replace(epoch, **figures)  # type: ignore[arg-type]


def train(
    engine: Engine,
    model: Model,
    recipe: Recipe,
    data: Splits,
    plan: Plan,
    on_epoch: Progress | None = None,
) -> tuple[Any, History, DivergedError | None]:
    """Build, train and evaluate. Returns the network, the history, and the error if the loss left
    the finite."""
    engine.check(model, recipe)
    net = engine.build(model, seed=plan.seed)
    history: History = []

    def record(epoch: Epoch) -> None:
        history.append(evaluated(engine, net, data, recipe, epoch))
        if on_epoch is not None:
            on_epoch(history[-1])

    try:
        engine.fit(net, data.train, recipe, plan, record)
        last = history[-1]
        # The loss of the last batch was finite, but what its update left may not be.
        if last.test_loss is not None and not math.isfinite(last.test_loss):
            history.pop()
            raise DivergedError(last.epoch, last.steps, last.test_loss)
    except DivergedError as error:
        return net, history, error
    return net, history, None


def fitted(case: Case, engine: Engine, dataset: Dataset, tier: str) -> tuple[Model, Recipe]:
    """The model and the recipe as this engine trains them on this dataset.

    Errors: UserError where the arm has no such tier, the data do not fit the model, or the engine
    cannot do it; nothing else of these can be wrong once a training has begun.
    """
    if case.arm.engine not in (None, engine.name):
        raise OtherEngineError(
            f'arm "{case.name}" is a notebook\'s own loop, written in {case.arm.engine}: '
            f'engine "{engine.name}" cannot run it'
        )
    recipe = to_convention(engine.convention, case.arm.recipe(tier))
    model = to_convention(engine.convention, recipe.adapt(case.arm.model))
    engine.check(model, recipe)
    if not model.counts.trainable:
        raise UserError(f"model {model.name!r} has no parameters: there is nothing to train")
    if dataset.x_train.shape[1:] != model.input_shape:
        raise UserError(
            f"dataset {dataset.name!r} has samples of shape {dataset.x_train.shape[1:]}, "
            f"but model {model.name!r} takes {model.input_shape}"
        )
    for y in (dataset.y_train, dataset.y_test):
        check_targets(recipe.loss, as_signs(recipe.loss, y), model.output_shape)
    next(
        recipe.sizes(training_count(len(dataset.x_train), recipe.validation_split, recipe.samples))
    )
    return model, recipe


def as_signs(loss: Loss, y: NDArray[Any]) -> NDArray[Any]:
    """Labels of two classes as the losses of signs take them: 0 is -1, 1 is +1. Any other y as it
    is."""
    return (
        2 * y - 1 if loss.targets == "signs" and y.dtype.kind in "iu" and not (y < 0).any() else y
    )


def prepared(dataset: Dataset, recipe: Recipe, engine: Engine, seed: int) -> Splits:
    """The dataset as a run of this recipe and seed has it."""
    data = prepare(
        dataset,
        scaling=recipe.scaling,
        validation_split=recipe.validation_split,
        split=recipe.split,
        seed=seed,
        limit=recipe.samples,
        dtype=engine.dtype,
    )
    return data.map(lambda part: Samples(part.x, as_signs(recipe.loss, part.y)))


def run(
    case: Case,
    engine: Engine,
    dataset: Dataset,
    *,
    tier: str = "quick",
    seed: int = FIRST_SEED,
    on_epoch: Progress | None = None,
    weights: Path | None = None,
) -> Result:
    """Train one arm once and say how it went; `weights` names a folder for what it learned, which
    any engine loads.

    A study with a measure of its own keeps no weights. The model and the recipe are rewritten to
    the engine's own convention, which the result names. Errors: as `fitted`.
    """
    if dataset.redraw is not None:
        dataset = dataset.redraw(seed)
    model, recipe = fitted(case, engine, dataset, tier)
    started = time.perf_counter()

    def result(history: History, **others: Any) -> Result:
        return Result(
            key=Key.of(case, engine, dataset, tier, seed),
            convention=engine.convention,
            recipe=recipe.to_dict(),
            history=history,
            seconds=time.perf_counter() - started,
            parameters=model.counts.total,
            provenance=provenance(),
            **others,
        )

    if case.study.measure is not None:
        arm_run = ArmRun(case.arm, engine, dataset, tier, seed, model, recipe)
        try:
            return result([], replicas=arm_run.networks, figures=dict(case.study.measure(arm_run)))
        except DivergedError as diverged:
            return result([], replicas=arm_run.networks, status="diverged", reason=str(diverged))
    data = prepared(dataset, recipe, engine, seed)
    net, history, error = train(engine, model, recipe, data, Plan(seed), on_epoch)
    if weights is not None:
        name = file_name(case.name, dataset.name, tier, engine.name, seed)
        checkpoint.save(weights / f"{name}.npz", model, engine.weights(net))
    reason = str(error) if error else None
    return result(history, status="diverged" if error else "finished", reason=reason)


def choose_dataset(
    case: Case, asked: str | None, data_dir: str | None
) -> tuple[Dataset, str | None]:
    """The dataset that was asked for; else the study's own where it is at hand, and digits where it
    is not.

    Returns it with a line that says what was left out, or None. Errors: DataError.
    """
    own = case.dataset
    # A folder that was named is meant: what is wrong with it is said, not stepped around.
    named = data_dir or os.environ.get("DLSYS_BENCH_DATA")
    if asked is None and not named and not is_available(own):
        line = f"{own} not found; falling back to digits; run dlsys-bench data fetch {own} to download it"
        return load("digits"), line
    dataset = load(asked or own, data_dir)
    # Called by what finds it again: a result must say where its data came from.
    return replace(dataset, name=asked or own), None
