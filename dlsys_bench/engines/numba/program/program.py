"""A network as a program, and the threads that run it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.alignment import StackedSamples
from dlsys_bench.engines.epochs import EpochRun
from dlsys_bench.engines.inputs import input_array
from dlsys_bench.engines.numba.kernel import compile_separately
from dlsys_bench.engines.numba.optimizers import STEPPERS, ProgramStepper
from dlsys_bench.engines.numba.program.batches import batches_of, shards_of
from dlsys_bench.engines.numba.program.image_convolution import row_of_convolution
from dlsys_bench.engines.numba.program.image_steps import (
    UPDATED_AT_ONCE,
    backward_images,
    backward_layer,
    forward_images,
    forward_layer,
)
from dlsys_bench.engines.numba.program.lanes import LANES
from dlsys_bench.engines.numba.program.products import multiply
from dlsys_bench.engines.numba.program.steps import (
    LOSS_SAMPLES,
    backward_dense,
    draw_masks,
    forward_dense,
    loss,
    train_steps,
)
from dlsys_bench.engines.numba.program.tables import LOSSES, missing_layer, missing_option
from dlsys_bench.engines.numba.program.translation import translate
from dlsys_bench.engines.numba.program.updates import UPDATES
from dlsys_bench.engines.numba.program.work import (
    STATISTICS,
    Data,
    Functions,
    Images,
    Memory,
    ProgramWork,
    Team,
    Tensors,
)
from dlsys_bench.engines.numba.spin_barrier import LINE
from dlsys_bench.engines.numpy.memory import empty, zeros
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.numpy.shards import run_threads
from dlsys_bench.engines.numpy.trainer import Trainer
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.model import Model
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
        self.x = np.ascontiguousarray(x).reshape(len(x), math.prod(x.shape[1:]))
        y, labels = samples.y, recipe.loss.targets == "labels"
        self.labels = np.ascontiguousarray(y if labels else y[:0, 0], np.int64)
        self.targets = np.ascontiguousarray(y[:0, None] if labels else y, dtype)
        self.loss = LOSSES[type(recipe.loss)]
        self.most, self.functions = 0, Functions(0, 0, 0, 0, 0, np.zeros(0, np.int64))

    def _allocate(self, sizes: Sequence[int]) -> None:
        """Allocate memory for batches of these sizes."""
        most = max(sizes)
        if most <= self.most:
            return
        self.most, dtype, table = most, self.net.dtype, self.table
        # The shards of a batch are of nearly equal size.
        shards = [(size, shards_of(self.net, size)) for size in sizes]
        chunks = max(-(-size // (LANES * count)) * count for size, count in shards)
        self.images = self._image_memory(chunks)
        rows = table.rows
        self.memory = Memory(
            empty((table.sizes["values"] * most,), dtype),
            empty((table.sizes["gradients"] * most,), dtype),
            empty((len(STATISTICS), table.sizes["statistics"]), dtype),
            # The mask of a chunk is read as a whole vector.
            empty((table.sizes["masks"] * most + LANES,), np.bool_),
            np.empty((-(-most // LOSS_SAMPLES), 2)),
        )
        # A block of a kernel, transposed and filled up to whole vectors.
        sides = -(-rows["block"].max() // LANES), -(-rows["units"].max() // LANES)
        self.scratch_size = max(int(math.prod(sides)) * LANES**2, UPDATED_AT_ONCE)

    def _image_memory(self, chunks: int) -> Images:
        """Return the layers of images with memory for a number of chunks."""
        table, dtype = self.table.images, self.net.dtype
        sizes, rows = table.sizes, table.rows
        # Padded to whole cache lines. The zeros around images are never overwritten.
        parameters = -(-table.parameters // LANES) * LANES
        return Images(
            rows,
            table.stages,
            table.lowest,
            table.parameters,
            zeros((sizes["values"] * chunks * LANES,), dtype),
            empty((sizes["gradients"] * chunks * LANES,), dtype),
            empty((chunks, 2, sizes["statistics"]), dtype),
            empty((chunks, parameters), dtype),
            zeros((int(max(rows["x"]["channels"].max(), rows["y"]["channels"].max())),), dtype),
        )

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
        self._allocate(sizes)
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
        rows, images = self.table.rows, self.table.images.rows
        windows = images["tall"] * images["wide"] * images["x"]["channels"]
        outputs = images["y"]["channels"] * images["y"]["height"] * images["y"]["width"]
        products = (rows["inputs"] * rows["units"]).sum() + (windows * outputs).sum()
        step = 3 * self.most * max(int(products), 1)
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
        masks = (lambda step: epoch.masks(first + step)) if self.plan.parity else None
        work = ProgramWork(
            table.rows,
            table.groups,
            self.functions,
            self.loss,
            self.most,
            Tensors(net.parameters[0], *self.stepper.program_state(), net.state[0]),
            self.memory,
            Data(self.x, self.labels, self.targets, order),
            batches_of(table, net, self.most, bounds, (every, numbers), masks),
            self.images,
            *results,
        )
        most = self._most_threads
        counts = np.zeros(most * LINE, np.int64)
        if not self.functions.update:
            team = self._team(0, 1, np.zeros(1, np.int64), counts)
            self.functions = self._compile(work, team)
            work = work._replace(functions=self.functions)

        def train(thread: int, count: int, broken: NDArray[np.int64]) -> int:
            team = self._team(thread, count, broken, counts[: count * LINE])
            ended: int = train_steps(work, team)
            return ended

        return run_threads(train, most)

    @property
    def _most_threads(self) -> int:
        """The most threads that have something to do: a block of units, or a chunk of images."""
        blocks = -(-self.table.rows["units"] // self.table.rows["block"])
        chunks = len(self.images.parts) if len(self.images.stages) > 1 else 1
        return max(int(blocks.max()), chunks)

    def _team(
        self, thread: int, count: int, broken: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> Team:
        """Return a thread with its memory."""
        statistics = len(STATISTICS), self.table.images.sizes["statistics"]
        return Team(
            thread,
            count,
            counts,
            broken,
            np.zeros(1, np.int64),
            empty((self.scratch_size,), self.net.dtype),
            np.zeros((len(self.images.parts), 4), np.int64),
            empty(statistics, self.net.dtype),
        )

    def _compile(self, work: ProgramWork, team: Team) -> Functions:
        """Compile what the kernel calls by its address."""
        images, (x, *state, _), batches = self.images, work.tensors, work.batches
        given = x, x, *state, batches.rates[0], batches.numbers[0]
        update = compile_separately(UPDATES[self.stepper.program_kind], *given)
        size, order = (0, 0, 0), work.data.order
        flat, no_strides = (x,) * 4, (0, 0, 0, 0)
        product = compile_separately(multiply, *flat, size, (size, no_strides), x.dtype.type(1))
        convolve = forward = backward = 0
        passes = [draw_masks, forward_dense, loss, backward_dense]
        if len(images.stages) > 1:
            shape, strides = ((0, 0), size), (size, no_strides, 0)
            arrays = (images.values,) * 4
            convolve = compile_separately(row_of_convolution, *arrays, size, shape, strides)
            forward = compile_separately(forward_layer, images.table[0], 0, size, order, work, team)
            passes.insert(1, forward_images)
        if images.lowest < len(images.table):
            backward = compile_separately(backward_layer, images.table[0], 0, size, work, team)
            passes.append(backward_images)
        found = [compile_separately(one, work, 0, size, order, team) for one in passes]
        return Functions(update, product, convolve, forward, backward, np.array(found))


def missing_part(model: Model, recipe: Recipe) -> str:
    """Return the first layer or option without a compiled form, or an empty string."""
    if layer := missing_layer(model):
        return f"layer {layer}"
    if option := missing_option(recipe):
        return f"option {option}"
    if not issubclass(STEPPERS[type(recipe.optimizer)], ProgramStepper):
        return f"optimizer {recipe.optimizer.kind}"
    return ""


def compile_program(
    net: Network,
    samples: StackedSamples,
    recipes: Sequence[Recipe],
    plans: Sequence[Plan],
    stepper: Any,
) -> Program | None:
    """Return the program of a training, or None if a part of it has no compiled form."""
    if net.replicas > 1 or missing_part(net.model, recipes[0]):
        return None
    return Program(net, samples, recipes[0], plans[0], stepper)
