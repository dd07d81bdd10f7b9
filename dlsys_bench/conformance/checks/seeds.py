"""What a seed decides: the masks of every layer, and the same weights in every process."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.determinism import trained
from dlsys_bench.conformance.checks.networks import EVERY_DRAW, MLP_DROPOUT_BATCH_NORM
from dlsys_bench.conformance.checks.rows import common_targets, start_row
from dlsys_bench.conformance.checks.support import example_loss, has, supported
from dlsys_bench.conformance.checks.training import regression_recipe
from dlsys_bench.conformance.elsewhere import train_elsewhere
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.layers import Dense, Dropout, Flatten, Layer, Shape, SpatialDropout
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD

VALUES = 64
"""The number of values that a mask keeps or drops."""
RUN = 40
"""The number of values in a row that two masks may not have in common."""


class Masked(NamedTuple):
    """A layer that drops some of VALUES values, the shape of its input, and the layers between it
    and a dense one."""

    layer: Layer
    shape: Shape
    after: tuple[Layer, ...] = ()


MASKED = {
    "dropout-layers": Masked(Dropout(0.5), (VALUES,)),
    "spatial_dropout-layers": Masked(SpatialDropout(0.5), (1, VALUES), (Flatten(),)),
}


def _needs(case: Masked) -> list[str]:
    layers = (case.layer, *case.after, Dense(1))
    return ["native", *(f"layer:{layer.kind}" for layer in layers)]


class Drawn(NamedTuple):
    """What the first or the second of two layers keeps with a seed in a step."""

    place: int
    seed: int
    step: int
    mask: bytes

    def __str__(self) -> str:
        return f"layer {self.place} with seed {self.seed} in step {self.step}"


@check_each("determinism", MASKED, requires=_needs, dtype="")
def masks(trial: Trial, case: Masked) -> None:
    """No layer drops with one seed what it, or another layer, drops in another step or with another
    seed: one of the next, or one that differs in the highest of 32 bits alone. Nor does it drop a
    part of that at another place.

    Why: Runs with different seeds are independent only if they share no mask.
    Broken by: An engine that seeds the masks with the sum of the seed and the number of the layer,
    or of the step, or with the last bits of the seed alone, or whose generator advances by less
    than it has drawn.
    Fix: Seed with a sequence of all numbers, as `numpy.random.SeedSequence((seed, layer))`.
    """
    found = [
        Drawn(place, seed, step, mask)
        for place, seeds in ((1, (1, 2, 3, 4, 9, 2**31 + 1)), (2, (1, 2)))
        for seed in seeds
        for step, mask in enumerate(_masks(trial, case, place, seed), start=1)
    ]
    for earlier, drawn in combinations(found, 2):
        # Both networks may take their masks from the stream of the seed, but at other steps.
        same_stream = earlier.seed == drawn.seed and earlier.place != drawn.place
        if same_stream and earlier.step != drawn.step:
            continue
        if _overlap(drawn.mask, earlier.mask):
            same = "the same values" if drawn.mask == earlier.mask else "many of the same values"
            what = f"{drawn} drops {same} as {earlier}"
            layer = f"{case.layer.kind}_{drawn.place}"
            raise broken(Fault.NOT_DETERMINISTIC, what, layer=layer)


def _overlap(first: bytes, second: bytes) -> bool:
    """Return whether a run of one mask is one of the other, at any place. Independent masks have
    one in common once in a billion pairs."""
    return any(first[at : at + RUN] in second for at in range(VALUES - RUN + 1))


def _masks(trial: Trial, case: Masked, place: int, seed: int) -> list[bytes]:
    """Return what the first or the second of two layers keeps natively in each of two steps: the
    rows of the kernel after it that the step moves. Its inputs are all positive."""
    below: tuple[Layer, ...] = (case.layer,)
    weights = {}
    if place == 2:
        below = (case.layer, Dense(VALUES, use_bias=False), case.layer)
        weights["dense_1.kernel"] = np.full((VALUES, VALUES), 1 / VALUES)
    loss = example_loss(trial)
    row, last = start_row(loss), f"dense_{place}.kernel"
    weights[last] = np.repeat(row, VALUES, axis=0)
    layers = (*below, *case.after, Dense(row.shape[1], use_bias=False))
    model = supported(trial, Model("masks", case.shape, layers))
    # The rate is so small that the sample of a loss of signs stays wrong.
    recipe = regression_recipe(trial, SGD(1e-4), batch_size=1, epochs=2)
    samples = Samples(np.ones((1, *case.shape)), common_targets(loss, 1))
    network = trial.engine.build(model, weights)
    before, found = trial.engine.weights(network)[last], []
    with closing(trial.engine.fit(network, samples, recipe, Plan(seed))) as epochs:
        for _ in epochs:
            after = trial.engine.weights(network)[last]
            found.append((after != before).any(axis=1).tobytes())
            before = after
    return found


def train_all_draws(trial: Trial) -> Weights:
    """Return the tensors at the end of a native training with seed 1, of a network that draws all
    that the engine can draw."""
    enough = has(trial, *EVERY_DRAW.requires)
    return trained(trial, 1, example=EVERY_DRAW if enough else MLP_DROPOUT_BATCH_NORM)


@check("determinism", "process", requires=["native"], dtype="")
def process(trial: Trial) -> None:
    """A native training ends with the same weights in another process, in which Python hashes
    strings differently.

    Why: A run is repeated in another process, on another day.
    Broken by: An engine that seeds with `hash(name)`, which differs from process to process, or
    with the address of an object.
    Fix: Seed with numbers of the plan and of the layer, or with `zlib.crc32` of a name.
    """
    if trial.target is None:
        raise NotApplicableError(
            "an engine that is given as an object cannot be created in another process; give its "
            'name, as in check_engine("package.module:Class")'
        )
    here, elsewhere = train_all_draws(trial), train_elsewhere(trial.target, trial.options)
    # Another process may place arrays differently in memory, which may change their rounding.
    allowed = trial.loosened(1e-3) * magnitude(*here.values())
    for name, expected in here.items():
        apart = float(np.abs(elsewhere[name] - expected).max())
        if not apart <= allowed:
            what = f"{name} differs by {apart:.3g} between two processes with seed 1"
            raise broken(Fault.NOT_DETERMINISTIC, what, tensor=name)
