"""A network as a program, and the threads that run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.alignment import StackedSamples
from dlsys_bench.engines.epochs import EpochRun
from dlsys_bench.engines.inputs import input_array
from dlsys_bench.engines.numba.normalization import least_number
from dlsys_bench.engines.numba.optimizers import ProgramStepper
from dlsys_bench.engines.numba.program.steps import LOSS_SAMPLES, STATISTICS, train_steps
from dlsys_bench.engines.numba.program.tables import (
    DROPOUT,
    LOSSES,
    missing_layer,
    missing_option,
)
from dlsys_bench.engines.numba.program.translation import translate
from dlsys_bench.engines.numba.program.work import Batches, Data, Memory, ProgramWork, Team, Tensors
from dlsys_bench.engines.numba.spin_barrier import LINE
from dlsys_bench.engines.numpy.memory import empty
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.numpy.shards import run_threads
from dlsys_bench.engines.numpy.trainer import Trainer
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.recipe import Recipe

WORK_AT_ONCE = 2_000_000_000
"""The multiplications of one call, about a tenth of a second. Starting the threads again takes
time, and an interrupt waits for the end of a call."""

MASKS_AT_ONCE = 2**22
"""The most values of given masks of one call."""


class Program(Trainer):
    """The training of one network in compiled calls of many steps, in place of `RuleTrainer`.

    It ends with the first loss that is not finite, before the update of that step.
    """

    def __init__(
        self,
        net: Network,
        samples: StackedSamples,
        recipe: Recipe,
        plan: Plan,
        stepper: ProgramStepper,
    ) -> None:
        self.net, self.plan, self.stepper, dtype = net, plan, stepper, net.dtype
        self.table = translate(net.model, drops_nothing=not plan.parity)
        x = input_array(net.model, samples.x, dtype)
        self.x = np.ascontiguousarray(x).reshape(samples.samples, -1)
        y, labels = samples.y, recipe.loss.targets == "labels"
        self.labels = np.ascontiguousarray(y if labels else y[:0, 0], np.int64)
        self.targets = np.ascontiguousarray(y[:0, None] if labels else y, dtype)
        self.loss = LOSSES[type(recipe.loss)]
        self.most = 0

    def _allocate(self, most: int) -> None:
        """Allocate memory for batches of `most` samples."""
        if most <= self.most:
            return
        self.most, dtype, table = most, self.net.dtype, self.table
        rows = table.rows
        self.memory = Memory(
            empty((table.sizes["values"] * most,), dtype),
            empty((table.sizes["gradients"] * most,), dtype),
            empty((len(STATISTICS), table.sizes["statistics"]), dtype),
            empty((table.sizes["masks"] * most,), np.bool_),
            np.empty((-(-most // LOSS_SAMPLES), 2)),
        )
        self.scratch_size = int((rows["block"].max() + 1) * rows["units"].max())

    def train(
        self,
        epoch: EpochRun,
        order: NDArray[np.intp] | None,
        failures: dict[int, DivergedError],
    ) -> None:
        """Train an epoch."""
        losses, right = self._train(epoch, None if order is None else order[0])
        sound = len(losses) - int(not np.isfinite(losses[-1]))
        # As `add_replicas` does for one batch; a call for each would take as long as the batch.
        epoch.losses.extend(losses[:sound, None])
        epoch.correct = epoch.correct + right[:sound].sum()
        if sound < len(losses):
            epoch.add_replicas(losses[sound:], right[sound], failures)

    def restore(self) -> None:
        """Do nothing: the weights are those of the last finite batch already."""

    def _train(
        self, epoch: EpochRun, order: NDArray[np.intp] | None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Train an epoch, and return the loss and the number of correct answers of each step."""
        sizes = epoch.sizes
        ends = np.cumsum(sizes)
        bounds = np.stack([ends - sizes, ends], axis=1)
        self._allocate(max(sizes))
        chosen = np.arange(len(self.x)) if order is None else order
        losses, right = np.empty(len(sizes)), np.empty(len(sizes))
        done = 0
        while done < len(sizes):
            here = slice(done, min(done + self._steps_at_once, len(sizes)))
            found = losses[here], right[here]
            ended = self._run(
                bounds[here], np.asarray(epoch.rates[here]), chosen, found, epoch, done
            )
            done += ended
            if ended < here.stop - here.start:
                return losses[: done + 1], right[: done + 1]
        return losses, right

    @property
    def _steps_at_once(self) -> int:
        """The number of steps of a call."""
        rows = self.table.rows
        step = 3 * self.most * int((rows["inputs"] * rows["units"]).sum())
        given = self.most * self.table.sizes["masks"] if self.plan.parity else 0
        return max(1, min(WORK_AT_ONCE // step, MASKS_AT_ONCE // max(given, 1)))

    def _run(
        self,
        bounds: NDArray[np.intp],
        rates: NDArray[Any],
        order: NDArray[np.intp],
        results: tuple[NDArray[Any], NDArray[Any]],
        epoch: EpochRun,
        first: int,
    ) -> int:
        """Train for some steps of an epoch, and return how many ended."""
        net, table = self.net, self.table
        every, numbers = self.stepper.program_steps(rates)
        work = ProgramWork(
            table.rows,
            table.groups,
            self.stepper.program_kind,
            self.loss,
            Tensors(net.parameters[0], *self.stepper.program_state(), net.state[0]),
            self.memory,
            Data(self.x, self.labels, self.targets, order),
            Batches(bounds, every, numbers, *self._masks(len(bounds), epoch, first)),
            *results,
        )
        most = int((-(-table.rows["units"] // table.rows["block"])).max())
        counts = np.zeros(most * LINE, np.int64)

        def train(thread: int, count: int, broken: NDArray[np.int64]) -> int:
            turn, scratch = np.zeros(1, np.int64), empty((self.scratch_size,), net.dtype)
            team = Team(thread, count, counts[: count * LINE], broken, turn, scratch)
            ended: int = train_steps(work, team)
            return ended

        return run_threads(train, most)

    def _masks(
        self, steps: int, epoch: EpochRun, first: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return the keys of the masks (steps, dropouts) and the least numbers that stay, or the
        masks of the plan (steps, masks)."""
        dropouts, layers = self.table.dropouts, self.net.model.layers
        keys = np.zeros((steps, len(dropouts)), np.uint64)
        least = np.array([least_number(layers[index].drop_rate) for index in dropouts], np.int64)  # type: ignore[attr-defined]
        if not self.plan.parity or not dropouts:
            for column, index in enumerate(dropouts):
                generator = self.net.dropouts[index].generators[0]
                keys[:, column] = generator.integers(2**64, size=steps, dtype=np.uint64)
            return keys, least, np.empty((0, 0), np.bool_)
        given = np.zeros((steps, self.table.sizes["masks"] * self.most), np.bool_)
        places = self.table.rows["place"][self.table.rows["kind"] == DROPOUT]
        for step in range(steps):
            masks = epoch.masks(first + step)
            for place, index in zip(places, dropouts, strict=True):
                # As (units, N).
                flat = masks[index].reshape(len(masks[index]), -1).T.ravel()
                given[step, place * self.most : place * self.most + flat.size] = flat
        return keys, least, given


def compile_program(
    net: Network,
    samples: StackedSamples,
    recipes: Sequence[Recipe],
    plans: Sequence[Plan],
    stepper: Any,
) -> Program | None:
    """Return the program of a training, or None if a part of it has no compiled form."""
    recipe = recipes[0]
    if net.replicas > 1 or missing_layer(net.model) or missing_option(recipe):
        return None
    if not isinstance(stepper, ProgramStepper):
        return None
    return Program(net, samples, recipe, plans[0], stepper)
