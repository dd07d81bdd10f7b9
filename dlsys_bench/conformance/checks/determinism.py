"""The effect of a seed: one seed gives one result, and nothing else decides it."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import threadpoolctl

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.networks import (
    MLP_DROPOUT_BATCH_NORM,
    TrajectoryNetwork,
    prepare,
)
from dlsys_bench.conformance.checks.support import require_slope, trainable
from dlsys_bench.conformance.checks.training import (
    differing,
    regression_recipe,
)
from dlsys_bench.conformance.finding import Fault, Finding, broken, refining
from dlsys_bench.conformance.strategies import targets
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import closing, train
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.spec.initializers import Zeros
from dlsys_bench.spec.layers import Dense, Dropout
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

ZERO_DENSE = Dense(2, kernel_initializer=Zeros())
DROPS = Model("drops", (20,), (Dropout(0.5), ZERO_DENSE))
SHUFFLES = Model("shuffles", (20,), (ZERO_DENSE,))


def trained(
    trial: Trial,
    seed: int,
    *,
    parity: bool = False,
    example: TrajectoryNetwork = MLP_DROPOUT_BATCH_NORM,
) -> Weights:
    """Return the tensors at the end of a training of a network, by default of one with dropout and
    batch norm."""
    model, recipe, samples = prepare(trial, example)
    network = trial.engine.build(model, seed=seed)
    train(trial.engine, network, samples, recipe, Plan(seed, parity=parity))
    return trial.engine.weights(network)


@check("determinism", "seed", requires=["native"])
def seed(trial: Trial) -> None:
    """One seed gives equal weights, whatever was trained in between; another seed gives others.

    Why: A run can be repeated and a difference explained only if the seed decides everything that
    is random.
    Broken by: An engine that draws from the clock or from a global generator, or that ignores the
    seed of the plan.
    Fix: Create one generator per training from `plan.seed`, and draw nothing from any other.
    """
    first, other, again = (trained(trial, number) for number in (1, 2, 1))
    _compare_seed(1, first, again)
    if not differing(first, other):
        raise broken(Fault.NOT_DETERMINISTIC, "seeds 1 and 2 train to equal weights")
    with refining(_name_seed_zero):
        _compare_seed(0, *(trained(trial, 0) for _ in range(2)))


def _compare_seed(number: int, first: Weights, again: Weights) -> None:
    for name in differing(first, again):
        apart = float(np.abs(first[name] - again[name]).max())
        what = f"{name} differs by {apart:.3g} between two trainings with seed {number}"
        raise broken(Fault.NOT_DETERMINISTIC, what, tensor=name)


def _name_seed_zero(finding: Finding) -> Finding:
    """Name the mistake if only the trainings with seed 0 differ."""
    return replace(finding, fault=Fault.SEED_ZERO, diagnosis="seed 0 is treated as no seed")


@check("determinism", "dropout", requires=["native", "layer:dropout"])
def dropout(trial: Trial) -> None:
    """The seed of the plan decides the masks, where nothing else is random.

    Why: Seeds that drop the same units give runs that are not independent, and a gate then trusts
    them too much.
    Broken by: An engine that seeds its masks with a constant, or once when the network is built.
    Fix: Seed the generator of the masks from `plan.seed` at the start of `fit`.
    """
    if not _seeds_differ(trial, DROPS, shuffle=False):
        what = "plans with seeds 1 and 2 drop the same units"
        raise broken(Fault.NOT_DETERMINISTIC, what, layer="dropout_1")


@check("determinism", "plan")
def plan(trial: Trial) -> None:
    """One plan gives equal weights.

    Why: A plan states every random number, so two trainings with one plan have nothing in which to
    differ.
    Broken by: An engine whose sums depend on the scheduling of threads, or that reuses
    uninitialised memory.
    Fix: Add in a fixed order, and initialise every buffer before it is accumulated into.
    """
    first, again = (trained(trial, 1, parity=True) for _ in range(2))
    for name in differing(first, again):
        what = f"{name} differs between two trainings with one plan"
        raise broken(Fault.NOT_DETERMINISTIC, what, tensor=name)


@check("determinism", "alone")
def alone(trial: Trial) -> None:
    """A training leaves other networks, and the settings and random generators of the process, as
    they were, at the end and between two epochs.

    Why: Several networks are trained in one process, and the caller has random numbers of its own,
    and evaluates the network between two epochs.
    Broken by: An engine that shares a buffer between networks, that calls `numpy.random.seed`,
    `torch.manual_seed`, `torch.set_num_threads` or `numpy.seterr` in `fit`, or that yields an epoch
    inside `numpy.errstate`.
    Fix: Keep all state in the network, use a generator object instead of the functions of the
    module, and leave contexts before an epoch is yielded.
    """
    model, recipe, samples = prepare(trial, MLP_DROPOUT_BATCH_NORM)
    one, other = (trial.engine.build(model, seed=number) for number in (1, 2))
    before = trial.engine.weights(one)
    _seed_process()
    expected = random.random(), np.random.random()  # noqa: NPY002
    _seed_process()
    own = Plan(2, parity=not trial.native)
    _settings()  # torch sets its number of threads when it is first asked for it.
    # Where there is one thread, a training that leaves one would not be seen.
    with threadpoolctl.threadpool_limits(2):
        settings = _settings()
        with closing(trial.engine.fit(other, samples, recipe, own)) as epochs:
            for _ in epochs:
                _compare_settings(settings)
        _compare_settings(settings)
    for name in differing(before, trial.engine.weights(one)):
        what = f"training one network moved {name} of another"
        raise broken(Fault.SIDE_EFFECT, what, tensor=name)
    if (random.random(), np.random.random()) != expected:  # noqa: NPY002
        what = "fit draws from the generators of the process, or seeds them: use own generators"
        raise broken(Fault.SIDE_EFFECT, what)


def _settings() -> dict[str, object]:
    """Return the settings by which this process computes, of frameworks that are imported too."""
    libraries = threadpoolctl.threadpool_info()
    torch: Any = sys.modules.get("torch")
    of_torch = (
        {}
        if torch is None
        else {
            "the default dtype of torch": torch.get_default_dtype(),
            "the threads of torch": torch.get_num_threads(),
            "whether torch records gradients": torch.is_grad_enabled(),
            "the state of torch's random generator": torch.get_rng_state().numpy().tobytes(),
        }
    )
    return (
        of_torch
        | {
            f"the threads of {each['prefix']} ({each['internal_api']})": each["num_threads"]
            for each in libraries
        }
        | {
            "what numpy does at errors of floats (numpy.seterr)": np.geterr(),
            "whether subnormal numbers are zero in this thread": sys.float_info.min / 2 == 0,
        }
    )


def _compare_settings(before: Mapping[str, object]) -> None:
    """Raise BrokenError if such a setting has changed."""
    for name, value in _settings().items():
        if value != before.get(name, value):
            what = f"fit changed {name}: restore it before it yields an epoch"
            raise broken(Fault.SIDE_EFFECT, what)


def _seed_process() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002


def native_case(trial: Trial, model: Model, *, shuffle: bool) -> tuple[Model, Recipe, Samples]:
    """Return a training without a plan: a model whose kernel starts at zero, as the engine has it,
    a recipe of one epoch, and samples.

    Raises NotApplicableError if the engine lacks something that is needed.
    """
    model = trainable(trial, model)
    recipe = regression_recipe(trial, SGD(0.01), batch_size=1, epochs=1, shuffle=shuffle)
    require_slope(recipe.loss)
    generator = np.random.default_rng(trial.seed)
    x = generator.standard_normal((12, *model.input_shape))
    samples = Samples(x, targets(recipe.loss, model.output_shape, 12, generator))
    trial.engine.require(model, recipe.loss, recipe, drawn=True)
    return model, recipe, samples


def _seeds_differ(trial: Trial, model: Model, *, shuffle: bool) -> bool:
    """Return whether native trainings with two seeds, from equal weights, end differently."""
    engine = trial.engine
    model, recipe, samples = native_case(trial, model, shuffle=shuffle)
    networks = [engine.build(model, seed=0) for _ in range(2)]
    for network, own in zip(networks, (Plan(1), Plan(2)), strict=True):
        train(engine, network, samples, recipe, own)
    return bool(differing(engine.weights(networks[0]), engine.weights(networks[1])))
