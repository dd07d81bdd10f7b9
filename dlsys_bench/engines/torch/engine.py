"""The torch engine, for one network and for many."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dlsys_bench.data import Samples
from dlsys_bench.engines.agreement import check_batch, check_inputs, check_weights
from dlsys_bench.engines.alignment import models_for_replicas
from dlsys_bench.engines.base import Batch, Engine, Gradients, require_float32
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.inputs import float_places, input_gradients, require_inputs
from dlsys_bench.engines.plan import Array, Plan, Weights, require_batches, require_samples
from dlsys_bench.engines.targets import check_targets
from dlsys_bench.engines.torch.initializers import initialize
from dlsys_bench.engines.torch.layout import (
    TorchInputs,
    TorchPlacement,
    channel_last,
    kernel_out,
)
from dlsys_bench.engines.torch.losses import loss_function
from dlsys_bench.engines.torch.modules import TorchNetwork
from dlsys_bench.engines.torch.passes import BatchPass, compile_pass
from dlsys_bench.engines.torch.precision import Products, product_precision
from dlsys_bench.engines.torch.replicas import TorchReplicas
from dlsys_bench.engines.torch.steps import CudaRecorder, Recorder
from dlsys_bench.engines.torch.training import fit_network
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

PREDICTED_AT_ONCE = 1000

# The memory for the outputs of all layers of all replicas in a step. Measured on one core of a
# Xeon: networks of width 2 in batches of 64 take 117 ms each when trained one at a time, 12.7 at
# 10, 2.9 at 100, 1.4 at 1,000 (11 MB) and 1.5 at 4,000. LeNet-5 is bound by its convolutions: it
# gains a seventh at 4 replicas (20 MB) and no more at 16, and with max pooling it becomes slower,
# since a grouped convolution costs more than separate ones. CUDA was not measured.
ACTIVATION_BYTES = {"cpu": 32 * 2**20, "cuda": 2 * 2**30}


class TorchEngine(Engine):
    """torch on the CPU, eagerly, or on CUDA, where an update in single precision is one CUDA
    graph."""

    name = "torch"
    convention = "torch"
    conventions = ("torch",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    products: ClassVar[Products] = "float32"

    def __init__(self, device: str = "cpu", dtype: str = "") -> None:
        super().__init__(device, dtype)
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError(
                f'engine "{self.name}" finds no CUDA device on this machine: use --device cpu'
            )
        self.placement = TorchPlacement(device, getattr(torch, self.dtype), self.products)

    def check(self, *records: Record) -> None:
        """Raise EngineError if the engine does not follow a record: rounded products need
        float32."""
        super().check(*records)
        require_float32(self, records)

    def recorder(self) -> Recorder | None:
        """Return what records an update as one launch, or None. There is none in double precision,
        since a recorded learning rate is float32."""
        return CudaRecorder() if self.device == "cuda" and self.dtype == "float32" else None

    def compiler(self, recipe: Recipe, plan: Plan) -> Callable[[BatchPass], BatchPass]:
        """Return the function that compiles the pass of a training; here it changes nothing."""
        return lambda run: run

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> TorchNetwork:
        """Create a network."""
        self.check(model)
        if weights is not None:
            check_weights(model, weights)
        # Modules draw weights, which are overwritten, from torch's global generator on the CPU.
        with torch.random.fork_rng(devices=[]):
            net = TorchNetwork(model, self.products).to(self.placement.dtype)
        initialize(model, net.tensors, weights, seed)
        return net.to(self.device)

    def weights(self, net: TorchNetwork) -> Weights:
        """Copy all tensors by name."""
        return {name: kernel_out(name, tensor) for name, tensor in net.tensors.items()}

    def predict(self, net: TorchNetwork, x: Array) -> Array:
        """Compute the outputs outside training."""
        require_inputs(net.model, x)
        shape = net.model.output_shape
        net.eval()
        with torch.inference_mode(), product_precision(self.products):
            parts = [
                channel_last(net(self._x(net, x[first : first + PREDICTED_AT_ONCE]), {}), shape)
                for first in range(0, len(x), PREDICTED_AT_ONCE)
            ]
        return np.concatenate(parts) if parts else np.empty((0, *shape), self.dtype)

    def _x(self, net: TorchNetwork, x: Array) -> TorchInputs:
        return self.placement.x(net.model, x)

    @contextlib.contextmanager
    def _pass(
        self, net: TorchNetwork, batch: Batch
    ) -> Iterator[tuple[TorchInputs, dict[int, Tensor]]]:
        """Put x and the masks on the device and the network in the mode of the batch; restore the
        state afterwards."""
        if batch.training:
            require_samples(net.model, len(batch.x), "torch normalises no batch of one value")
        state = {name: buffer.clone() for name, buffer in net.named_buffers()}
        net.train(batch.training)
        try:
            with product_precision(self.products):
                yield self._x(net, batch.x), self.placement.masks(net.model, batch.masks)
        finally:
            with torch.no_grad():
                for name, buffer in net.named_buffers():
                    buffer.copy_(state[name])

    def gradients(self, net: TorchNetwork, batch: Batch, loss: Loss) -> Gradients:
        """Compute the loss and its gradients."""
        self.check(loss)
        check_batch(net.model, batch, loss)
        tensors = net.tensors
        trained = {t.name: tensors[t.name] for t in net.model.tensors if t.trainable}
        floats = float_places(net.model)
        with self._pass(net, batch) as (x, masks):
            # Token ids have no gradient.
            inputs = [x[place].requires_grad_() for place in floats]
            value = loss_function(loss)(net(x, masks), self.placement.y(loss, batch.y))
            found = torch.autograd.grad(value, [*trained.values(), *inputs])
        weights = {
            name: kernel_out(name, gradient) for name, gradient in zip(trained, found, strict=False)
        }
        shapes = [net.model.shapes[place] for place in floats]
        dx = [
            channel_last(gradient, shape).copy()
            for gradient, shape in zip(found[len(trained) :], shapes, strict=True)
        ]
        return Gradients(value.item(), weights, input_gradients(net.model, dx))

    def trace(self, net: TorchNetwork, batch: Batch) -> list[Array]:
        """Compute the output of every layer."""
        check_inputs(net.model, batch)
        with torch.no_grad(), self._pass(net, batch) as (x, masks):
            outputs: list[Tensor] = []
            net(x, masks, outputs)
            shapes = net.model.output_shapes
            return [channel_last(*each).copy() for each in zip(outputs, shapes, strict=True)]

    def fit(
        self, net: TorchNetwork, samples: Samples, recipe: Recipe, plan: Plan
    ) -> Generator[Epoch]:
        """Train, and yield every epoch."""
        self.check(recipe)
        check_targets(recipe.loss, samples.y, net.model.output_shape)
        require_batches(net.model, len(samples.x), recipe, plan)
        yield from fit_network(
            net, samples, self.placement, recipe, plan, self.recorder(), self.compiler(recipe, plan)
        )

    def replicate(self, models: Model | Sequence[Model], plans: Sequence[Plan]) -> TorchReplicas:
        """Create networks that train as one program."""
        every = models_for_replicas(models, len(plans))
        for model in {id(model): model for model in every}.values():
            self.check(model)
        return TorchReplicas(self, every, plans)

    def replicas_at_once(self, model: Model, recipe: Recipe) -> int:
        """Return the number of replicas that train fastest at a time."""
        values = sum(math.prod(shape) for shape in model.shapes) * recipe.batch_size
        return max(1, ACTIVATION_BYTES[self.device] // (values * np.dtype(self.dtype).itemsize))


class TorchTF32Engine(TorchEngine):
    """torch on CUDA with products in TF32, in convolutions and dense layers."""

    name = "torch-tf32"
    devices = ("cuda",)
    dtypes = ("float32",)
    products = "tf32"


class TorchBfloat16Engine(TorchEngine):
    """torch with products in bfloat16, by autocast. Weights, statistics, losses and updates are
    float32."""

    name = "torch-bf16"
    dtypes = ("float32",)
    products = "bfloat16"


class TorchCompileEngine(TorchEngine):
    """torch on the CPU, with the forward and the backward pass of native trainings compiled by
    `torch.compile`. The smaller last batch of an epoch is computed eagerly.

    With a plan, everything is computed eagerly, as by the engine `torch`. Optimisers are torch's
    fused ones, which have nothing to compile.
    """

    name = "torch-compile"
    devices = ("cpu",)

    def compiler(self, recipe: Recipe, plan: Plan) -> Callable[[BatchPass], BatchPass]:
        """Return the function that compiles the pass of a native training."""
        if plan.parity:
            return super().compiler(recipe, plan)
        whole = recipe.micro_batches(recipe.batch_size)[0]
        return partial(compile_pass, size=whole if recipe.batch_sizes is None else None)
