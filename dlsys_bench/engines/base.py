"""The interface of an engine: six methods, and declarations of what it supports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples
from dlsys_bench.engines.alignment import models_for_replicas
from dlsys_bench.engines.dtypes import default_dtype
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.registry import ENGINES
from dlsys_bench.engines.replicas import OneByOne, Replicas
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.convention import deviations
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record


class Batch(NamedTuple):
    """The samples of one pass: x (N, H, W, C), (N, units) or token ids (N, T), and y in the form of
    the loss. With named inputs, x is a structured array (N,) of these.

    `masks` maps the index of each dropout layer to its keep mask; if None, the engine draws the
    masks. In `training` mode, batch norm uses the statistics of the batch, and dropout is active.
    """

    x: Array
    y: NDArray[Any]
    masks: Mapping[int, NDArray[np.bool_]] | None = None
    training: bool = True

    @property
    def active_masks(self) -> Mapping[int, NDArray[np.bool_]] | None:
        """The masks to use: none outside training, where dropout is inactive."""
        return self.masks if self.training else None


class Gradients(NamedTuple):
    """The loss, and its gradients with respect to every trainable tensor, by name, and to x. Token
    ids have no gradient: it is None. With named inputs, it is a structured array of the floats."""

    loss: float
    weights: Weights
    x: Array | None


class Engine(ABC):
    """An implementation of training.

    Arrays have one layout at this interface, whatever an engine uses inside: images (N, H, W, C),
    kernels (h, w, in, out) and (in, out). The network that `build` returns may be of any type; it
    is only passed to the other methods.

    `convention` names the framework that the engine follows where frameworks differ (see
    `spec.convention`), and `conventions` all that it can follow. `origin` is the name or the
    "package.module:Class" that creates the engine. `threaded` says whether several threads may
    train different networks at the same time. An engine that is created without a dtype has float32
    if that is among its `dtypes`, and otherwise the first of them.

    An engine declares, with the reason, what it does not support (`lacks`) or computes less exactly
    (`loosens`), and the conformance checks report it. The keys of `lacks` are "layer:max_pool",
    "function:tanh", "loss:hinge", "loss:label_smoothing" and the other options of a loss,
    "loss:positions" (a loss of sequences), "inputs" (named inputs), "optimizer:rmsprop",
    "initializer:normal", "decay:coupled", "clip:clip_norm", "schedule", "batch_sizes", "augment",
    "accumulate", "average", "loss_scale", "loss_scale:factors" (other than 2 and 0.5),
    "products:float16", "native" (the engine's own order and dropout), or the name of a check. Those
    of `loosens` are the name of a check or a rung, such as "step/adam" or "trajectory", with a
    relative tolerance. For constants of a lower precision it is 64 times their rounding error; the
    condition of each example is added.
    """

    name: ClassVar[str]
    convention: ClassVar[str]
    conventions: ClassVar[tuple[str, ...]]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    threaded: ClassVar[bool] = False
    lacks: ClassVar[Mapping[str, str]] = {}
    loosens: ClassVar[Mapping[str, tuple[float, str]]] = {}

    def __init__(self, device: str = "cpu", dtype: str = "") -> None:
        dtype = dtype or default_dtype(self.dtypes)
        if device not in self.devices:
            raise EngineError(
                f'engine "{self.name}" has no device {device!r}; it has {", ".join(self.devices)}'
            )
        if dtype not in self.dtypes:
            raise EngineError(
                f'engine "{self.name}" has no dtype {dtype!r}; it has {", ".join(self.dtypes)}'
            )
        self.device, self.dtype = device, dtype
        # A class that inherits its name from another engine is a different engine.
        cls = type(self)
        self.origin = self.name if "name" in vars(cls) else f"{cls.__module__}:{cls.__qualname__}"

    @property
    def label(self) -> str:
        """The name of the engine in the keys of runs.

        It is `name` if the class declares it. A class that inherits its name from
        another engine, or uses that of a built-in one, is a different engine: its `origin` is the
        name.
        """
        declared = "name" in vars(type(self)) and self.name not in (set(ENGINES) - {self.origin})
        return self.name if declared else self.origin

    def check(self, *records: Record) -> None:
        """Raise EngineError if the engine does not follow the convention of a record."""
        for record in records:
            found = [deviations(convention, record) for convention in self.conventions]
            if all(found):
                raise EngineError(
                    f'engine "{self.name}" follows the convention of '
                    f"{' or '.join(self.conventions)}: {found[0][0]}; "
                    "rewrite the record with "
                    f'spec.convention.to_convention("{self.convention}", ...)'
                )

    @abstractmethod
    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> Any:
        """Create a network with these weights, or with weights that the engine draws from `seed` by
        the model's initialisers."""

    @abstractmethod
    def weights(self, net: Any) -> Weights:
        """Copy all tensors of the network, parameters and state, by name."""

    @abstractmethod
    def predict(self, net: Any, x: Array) -> Array:
        """Compute the outputs (N, ...) of x (N, ...) outside training."""

    @abstractmethod
    def gradients(self, net: Any, batch: Batch, loss: Loss) -> Gradients:
        """Compute the loss and its gradients, without changing the network."""

    @abstractmethod
    def trace(self, net: Any, batch: Batch) -> list[Array]:
        """Compute the output of every layer, in order, without changing the network."""

    @abstractmethod
    def fit(self, net: Any, samples: Samples, recipe: Recipe, plan: Plan) -> Generator[Epoch]:
        """Train, and yield the running figures of each epoch when it ends.

        `fit` is a generator: nothing happens before the first epoch is asked for, and the training
        waits while the caller works. Between two epochs the network can be used, and no setting of
        the process (random state, threads, precision) is changed. A caller that closes the
        generator ends the training; the network then has the weights of the last epoch. The last
        epoch may be cut short by a limit on the steps. Raises DivergedError as soon as the loss of
        a batch is not finite. The commands accept another iterable of epochs, such as a list,
        whose training cannot be ended early; the conformance checks do not.
        """

    def replicate(self, models: Model | Sequence[Model], plans: Sequence[Plan]) -> Replicas:
        """Create a network for each plan. They are trained one by one, unless the engine can train
        them as one program.

        Raises SpecError if there are no plans, or if the models differ in more than initialisers.
        """
        return OneByOne(self, models_for_replicas(models, len(plans)), plans)

    def remark(self, model: Model, recipe: Recipe) -> str:
        """Return what makes this training slower than others of the engine, or an empty string."""
        return ""

    def replicas_at_once(self, model: Model, recipe: Recipe) -> int:
        """Return the number of replicas that this engine trains fastest at a time."""
        return 1


def require_float32(engine: Engine, records: Iterable[Record]) -> None:
    """Raise EngineError if a recipe rounds products, and the engine does not compute in float32."""
    found = (each.products for each in records if isinstance(each, Recipe) and each.products)
    for products in found:
        if engine.dtype != "float32":
            raise EngineError(
                f'engine "{engine.name}" has no products in {products} beside {engine.dtype}: '
                'create the engine with dtype="float32"'
            )
