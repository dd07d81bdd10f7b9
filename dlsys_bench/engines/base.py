"""What an engine is: a handful of methods, and what it says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples
from dlsys_bench.engines.alignment import models_for_replicas
from dlsys_bench.engines.epochs import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.replicas import OneByOne, Replicas
from dlsys_bench.errors import DataError, EngineError
from dlsys_bench.spec.convention import deviations
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record


class Batch(NamedTuple):
    """Samples for one pass. x (N, H, W, C) or (N, units); y as the loss takes it; masks, what each
    dropout layer keeps, by its place among the layers (None: the engine draws); training:
    statistics of the batch, dropout on."""

    x: Array
    y: NDArray[Any]
    masks: Mapping[int, NDArray[np.bool_]] | None = None
    training: bool = True


class Gradients(NamedTuple):
    """The loss, its gradient in every trainable tensor by name, and in x, shaped as x."""

    loss: float
    weights: Weights
    x: Array


class Engine(ABC):
    """A way to train. Arrays go in and come out in one layout: images (N, H, W, C), kernels (h, w,
    in, out) and (in, out), whatever the engine keeps inside. What `build` returns is the engine's
    own and is only handed back.

    `convention` is the way the engine takes where frameworks differ (`spec.convention`),
    `conventions` all it can; `origin` is what creates it again, a name or "package.module:Class";
    `threaded` says that threads may train networks of their own at the same time.

    What an engine cannot do, or does less exactly, it declares with the reason, and the conformance
    checks say so: `lacks` by "layer:max_pool", "function:tanh", "loss:hinge", "optimizer:rmsprop",
    "initializer:normal", "schedule", "batch_sizes", "native" (an order and dropout of its own), or
    the name of a check; `loosens` by a check or a rung, "step/adam" or "trajectory", with the
    relative tolerance.
    """

    name: ClassVar[str]
    convention: ClassVar[str]
    conventions: ClassVar[tuple[str, ...]]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    threaded: ClassVar[bool] = False
    lacks: ClassVar[Mapping[str, str]] = {}
    loosens: ClassVar[Mapping[str, tuple[float, str]]] = {}

    def __init__(self, device: str = "cpu", dtype: str = "float32") -> None:
        if device not in self.devices:
            raise EngineError(
                f'engine "{self.name}" has no device {device!r}; it has {", ".join(self.devices)}'
            )
        if dtype not in self.dtypes:
            raise EngineError(
                f'engine "{self.name}" has no dtype {dtype!r}; it has {", ".join(self.dtypes)}'
            )
        self.device, self.dtype = device, dtype
        self.origin = self.name

    def check(self, *records: Record) -> None:
        """Raise an EngineError that names what this engine cannot do in these records."""
        for record in records:
            found = [deviations(convention, record) for convention in self.conventions]
            if all(found):
                raise EngineError(
                    f'engine "{self.name}" follows the convention of {" or ".join(self.conventions)}: {found[0][0]}; '
                    f'rewrite the record with spec.convention.to_convention("{self.convention}", ...)'
                )

    @abstractmethod
    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> Any:
        """A network with these weights, or with the engine's own draw of the model's initialisers
        from `seed`."""

    @abstractmethod
    def weights(self, net: Any) -> Weights:
        """A copy of every tensor of the network, parameters and state, by name."""

    @abstractmethod
    def predict(self, net: Any, x: Array) -> Array:
        """What the network gives outside training. x (N, ...) -> (N, ...)."""

    @abstractmethod
    def gradients(self, net: Any, batch: Batch, loss: Loss) -> Gradients:
        """The loss and its gradients. Neither weights nor state move."""

    @abstractmethod
    def trace(self, net: Any, batch: Batch) -> list[Array]:
        """The output of every layer, in order. Neither weights nor state move."""

    @abstractmethod
    def fit(self, net: Any, samples: Samples, recipe: Recipe, plan: Plan) -> Generator[Epoch]:
        """Train, and yield the running figures of each epoch when it ends.

        `fit` is a generator: nothing happens before the first epoch is asked for, and the training
        waits while the caller works. Between two epochs the network can be used, and no setting of
        the process (random state, threads, precision) is changed. A caller that closes the
        generator ends the training; the network then has the weights of the last epoch. The last
        epoch may be cut short by a limit on the steps. Raises DivergedError as soon as the loss of
        a batch is not finite.
        """

    def replicate(self, models: Model | Sequence[Model], plans: Sequence[Plan]) -> Replicas:
        """A network for each plan, to be trained side by side: one by one, unless an engine has a
        way to train them as one. Models may differ in their initialisers. Errors: SpecError for no
        plans, or models that differ in more."""
        return OneByOne(self, models_for_replicas(models, len(plans)), plans)

    def replicas_at_once(self, model: Model, recipe: Recipe) -> int:
        """How many replicas this engine trains best at a time."""
        return 1


def check_targets(loss: Loss, y: NDArray[Any], output: tuple[int, ...]) -> None:
    """Raise a DataError unless y is what the loss takes for outputs of this shape (without the
    batch)."""
    if loss.targets == "labels":
        if len(output) != 1:
            raise DataError(
                f"{loss.kind} takes outputs (N, classes), but the network gives {output}: end it in a dense"
            )
        classes = output[-1]
        if y.ndim != 1 or y.dtype.kind not in "iu":
            raise DataError(
                f"{loss.kind} takes labels (N,) of whole numbers, but y is {y.dtype} {y.shape}"
            )
        wrong = np.flatnonzero((y < 0) | (y >= classes))
        if wrong.size:
            raise DataError(
                f"y[{wrong[0]}] is {y[wrong[0]]}, but the network has {classes} outputs: labels are 0 to {classes - 1}"
            )
    elif loss.targets == "signs":
        if y.ndim != 1 or not np.isin(y, (-1, 1)).all() or output != (1,):
            raise DataError(
                f"{loss.kind} takes y (N,) of -1 and +1 and a network of one output, not y {y.shape} and {output}"
            )
    elif y.shape[1:] != output:
        raise DataError(
            f"{loss.kind} takes y of the outputs' shape (N, {output[-1]}), but y is {y.shape}"
        )
