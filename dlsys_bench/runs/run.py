"""One run: build a model, train it with an engine on prepared data, and evaluate every epoch."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dlsys_bench.data import Dataset, Splits, datasets, is_available, load, training_count
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.history import Epoch, History
from dlsys_bench.engines.plan import Plan, epoch_batch_sizes, require_batches
from dlsys_bench.engines.registry import ENGINES
from dlsys_bench.engines.requirements import require_of, requirements
from dlsys_bench.errors import (
    DivergedError,
    MissingDatasetError,
    NotApplicableError,
    OtherEngineError,
    TrainingError,
    UserError,
)
from dlsys_bench.provenance import provenance
from dlsys_bench.runs import checkpoint
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.metrics import SPLITS, with_figures
from dlsys_bench.runs.preparation import check_data, prepare_for
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.stopping import BestEpoch
from dlsys_bench.runs.store import file_name
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import ArmRun, Case, Metric
from dlsys_bench.text import describe, place_of

# New runs never share a seed with reference runs, whose seeds start at 0.
FIRST_SEED = 10_000

OnEpoch = Callable[[Epoch], None]


class Resolved(NamedTuple):
    """A case, validated and adapted to an engine, a dataset and a tier: `model` and `recipe` are
    those that the engine trains, in its own convention."""

    case: Case
    engine: Engine
    dataset: Dataset
    tier: str
    model: Model
    recipe: Recipe

    def key(self, seed: int) -> Key:
        """Return the key of the run with this seed."""
        return Key.of(self.case, self.engine, self.dataset, self.tier, seed)

    def prepare(self, seed: int) -> Splits:
        """Return the splits that the run with this seed trains on."""
        return prepare_for(self.recipe, self.dataset, self.engine.dtype, seed)


def resolve(case: Case, engine: Engine, dataset: Dataset, tier: str) -> Resolved:
    """Validate a case and adapt its model and its recipe to the engine, the dataset and the tier.

    Raises UserError if the arm has no such tier, the data do not fit the model, or the engine lacks
    something that the case needs. After that, a training can fail only by diverging.
    """
    if case.arm.engine not in (None, engine.label):
        raise OtherEngineError(
            f'arm "{case.name}" is the loop of a notebook, written in {case.arm.engine}: '
            f'engine "{engine.label}" cannot run it'
        )
    if case.scaling is not None and case.study.measure is not None:
        raise NotApplicableError(
            f'study "{case.study.name}" prepares its data itself: omit --scaling {case.scaling}'
        )
    recipe = to_convention(engine.convention, case.arm.recipe(tier))
    model = to_convention(engine.convention, recipe.adapt(case.arm.model))
    engine.check(model, recipe)
    # A study with its own measure may train with a plan.
    by_plan = case.study.measure is not None
    needed = requirements(model, recipe.loss, recipe, parity=by_plan)
    require_of(engine, f'arm "{case.name}"', needed)
    if not model.counts.trainable:
        raise UserError(f"model {model.name!r} has no parameters: there is nothing to train")
    check_data(dataset, model, recipe.loss)
    recipe.require_inputs(model)
    samples = training_count(len(dataset.x_train), recipe.validation_split, recipe.samples)
    # These raise an error if a batch is larger than the training set, or too small for a layer.
    next(recipe.sizes(samples))
    require_batches(model, samples, recipe, Plan(0))
    return Resolved(case, engine, dataset, tier, model, recipe)


def train(
    resolved: Resolved,
    data: Splits,
    plan: Plan,
    on_epoch: OnEpoch | None = None,
    only: Metric | None = None,
) -> tuple[Any, History, DivergedError | None]:
    """Build, train and evaluate a network.

    Returns the network, the history, and the error if the loss became non-finite. With `only`, no
    figures are evaluated but that metric of the last epoch. If the recipe restores the best epoch,
    the history ends with it.
    """
    engine, model, recipe = resolved.engine, resolved.model, resolved.recipe
    net = engine.build(model, seed=plan.seed)
    history: History = []
    final = sum(1 for _ in epoch_batch_sizes(len(data.train.x), recipe, plan))
    best = None if recipe.stopping is None else BestEpoch(recipe.stopping)

    try:
        # An error in an evaluation or in `on_epoch` ends the training too.
        with closing(engine.fit(net, data.train, recipe, plan)) as epochs:
            for epoch in epochs:
                splits = _splits(only, epoch.epoch == final, recipe)
                history.append(with_figures(epoch, engine, net, data, recipe, splits))
                if on_epoch is not None:
                    on_epoch(history[-1])
                if best is not None and best.exhausts(history[-1], engine, net):
                    break
        if best is not None and best.weights is not None:
            net, history = engine.build(model, best.weights), history[: best.number]
        last = history[-1]
        # The loss of the last batch was finite, but the weights after its update may not be.
        if last.test_loss is not None and not math.isfinite(last.test_loss):
            history.pop()
            batches = last.steps - (history[-1].steps if history else 0)
            raise DivergedError(last.epoch, batches, last.test_loss)
    except DivergedError as error:
        return net, history, error
    return net, history, None


def _splits(only: Metric | None, last: bool, recipe: Recipe) -> Collection[str]:
    """Return the splits to evaluate after an epoch: all, or those that one metric needs of the last
    epoch. The test loss shows whether the run diverged."""
    if only is None:
        return SPLITS
    needed = {"test"} if only.split is None else {"test", only.split}
    if recipe.stopping is not None:  # Any epoch may be the last, or the best.
        return needed | {"validation"}
    return needed if last else ()


def run(
    case: Case,
    engine: Engine,
    dataset: Dataset,
    *,
    tier: str = "quick",
    seed: int = FIRST_SEED,
    on_epoch: OnEpoch | None = None,
    weights: Path | None = None,
    only: Metric | None = None,
) -> Result:
    """Train one arm once and return its result.

    `weights` names a folder for the trained weights, which any engine loads; a study with its own
    measure keeps none. With `only`, no figures are evaluated but that metric of the last epoch.
    Raises UserError as `resolve` does, and TrainingError if a third party's engine raises an error.
    """
    redrawn = dataset if dataset.redraw is None else dataset.redraw(seed)
    resolved = resolve(case, engine, redrawn, tier)
    started = time.perf_counter()
    with _naming(engine):
        if case.study.measure is not None:
            found = _measure(resolved, seed)
        else:
            found = _train(resolved, seed, on_epoch, weights, only)
    return Result(
        key=resolved.key(seed),
        convention=engine.convention,
        recipe=resolved.recipe.to_dict(),
        seconds=time.perf_counter() - started,
        parameters=resolved.model.counts.total,
        provenance=provenance(),
        **found,
    )


@contextmanager
def _naming(engine: Engine) -> Iterator[None]:
    """Name a third party's engine in an error of the block, which is then no error of ours."""
    try:
        yield
    except (UserError, MemoryError, BrokenPipeError):
        raise
    except Exception as error:
        if engine.label in ENGINES:
            raise
        place = place_of(traceback.extract_tb(error.__traceback__)[-1])
        raise TrainingError(
            f'a training with engine "{engine.label}" raised {describe(error)} at {place}; '
            f"`dlsys-bench conform --engine {engine.origin}` checks the engine"
        ) from error


def _measure(resolved: Resolved, seed: int) -> dict[str, Any]:
    """Run the measure of a study, and return those fields of the result that it determines."""
    case = resolved.case
    assert case.study.measure is not None
    arm_run = ArmRun(case.arm, *resolved[1:4], seed, *resolved[4:])
    found: dict[str, Any] = {"history": [], "replicas": arm_run.networks}
    try:
        return found | {"figures": dict(case.study.measure(arm_run))}
    except DivergedError as error:
        return found | {"status": "diverged", "reason": str(error)}


def _train(
    resolved: Resolved,
    seed: int,
    on_epoch: OnEpoch | None,
    weights: Path | None,
    only: Metric | None,
) -> dict[str, Any]:
    """Train one network, and return those fields of the result that the training determines."""
    net, history, error = train(resolved, resolved.prepare(seed), Plan(seed), on_epoch, only)
    if weights is not None:
        key = resolved.key(seed)
        name = file_name(key.name, key.dataset, key.tier, key.engine, seed)
        checkpoint.save(weights / f"{name}.npz", resolved.model, resolved.engine.weights(net))
    return {
        "history": history,
        "status": "diverged" if error else "finished",
        "reason": str(error) if error else None,
    }


def choose_dataset(
    case: Case, asked: str | None, data_dir: str | None
) -> tuple[Dataset, str | None]:
    """Return the dataset that was asked for, else the dataset of the case, else digits.

    Digits replace the dataset of the case if that is not found; the second value is then a line
    that says so, and None otherwise. Raises DataError, and MissingDatasetError if the model of the
    case does not take digits.
    """
    own = case.dataset
    # If the user named a folder, a dataset that is missing there is an error.
    named = data_dir or os.environ.get("DLSYS_BENCH_DATA")
    if asked is None and not is_available(own, data_dir):
        advice = f"run dlsys-bench data fetch {own} to download it"
        if case.arm.model.input_shape != datasets()["digits"].shape:
            where = f" in {named}" if named else ""
            raise MissingDatasetError(f"{own} not found{where}; {advice}")
        if not named:
            return load("digits"), f"{own} not found; falling back to digits; {advice}"
    dataset = load(asked or own, data_dir)
    # A result names its dataset by the name under which it is found again.
    return replace(dataset, name=asked or own), None
