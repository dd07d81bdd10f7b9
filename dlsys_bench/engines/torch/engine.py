"""The torch engine, as its users would write it: nn layers, torch.optim, an eager loop over tensors on the device."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine, Gradients, OnEpoch, check_targets
from dlsys_bench.errors import DivergedError, EngineError
from dlsys_bench.plan import Array, Plan, Weights, epochs_of
from dlsys_bench.result import Epoch, History
from dlsys_bench.spec import initializers, layers, losses, optimizers
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

PREDICTED_AT_ONCE = 1000


class Dropout(nn.Dropout):
    """torch's own, unless it is told what to keep."""

    mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None or not self.training:
            return super().forward(x)
        return x * self.mask / (1.0 - self.p)


class ChannelLastFlatten(nn.Module):
    """(N, C, H, W) -> (N, H W C): the order in which every engine's dense kernel counts its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


def _conv2d(layer: layers.Conv2D, shape: layers.Shape) -> nn.Module:
    (top, bottom), (left, right) = layer.pads(shape)
    even = top == bottom and left == right
    conv = nn.Conv2d(
        shape[2], layer.filters, layer.kernel_size, layer.strides, (top, left) if even else 0, bias=layer.use_bias
    )
    return conv if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)


def _batch_norm(layer: layers.BatchNorm, shape: layers.Shape) -> nn.Module:
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    return kind(shape[-1], eps=layer.epsilon, momentum=1.0 - layer.moving_decay)


ACTIVATIONS: dict[str, Callable[[layers.Activation], nn.Module]] = {
    "linear": lambda layer: nn.Identity(),
    "sigmoid": lambda layer: nn.Sigmoid(),
    "tanh": lambda layer: nn.Tanh(),
    "relu": lambda layer: nn.ReLU(),
    "leaky_relu": lambda layer: nn.LeakyReLU(layer.negative_slope),
    "softmax": lambda layer: nn.Softmax(dim=1),
}

LAYERS: dict[type[layers.Layer], Callable[[Any, layers.Shape], nn.Module]] = {
    layers.Conv2D: _conv2d,
    layers.AveragePool: lambda layer, shape: nn.AvgPool2d(layer.pool_size, layer.steps),
    layers.MaxPool: lambda layer, shape: nn.MaxPool2d(layer.pool_size, layer.steps),
    layers.BatchNorm: _batch_norm,
    layers.Dropout: lambda layer, shape: Dropout(layer.drop_rate),
    layers.Flatten: lambda layer, shape: ChannelLastFlatten(),
    layers.Dense: lambda layer, shape: nn.Linear(shape[0], layer.units, bias=layer.use_bias),
    layers.Activation: lambda layer, shape: ACTIVATIONS[layer.function](layer),
}

INITIALIZERS: dict[type[initializers.Initializer], Callable[..., object]] = {
    initializers.GlorotUniform: lambda record, t, fans, g: nn.init.xavier_uniform_(t, generator=g),
    initializers.GlorotNormal: lambda record, t, fans, g: nn.init.xavier_normal_(t, generator=g),
    initializers.HeUniform: lambda record, t, fans, g: nn.init.kaiming_uniform_(t, nonlinearity="relu", generator=g),
    initializers.HeNormal: lambda record, t, fans, g: nn.init.kaiming_normal_(t, nonlinearity="relu", generator=g),
    initializers.Uniform: lambda record, t, fans, g: nn.init.uniform_(t, record.low, record.high, generator=g),
    initializers.Normal: lambda record, t, fans, g: nn.init.normal_(t, 0.0, record.stddev, generator=g),
    initializers.FanInUniform: lambda record, t, fans, g: nn.init.uniform_(
        t, -1.0 / math.sqrt(fans.fan_in), 1.0 / math.sqrt(fans.fan_in), generator=g
    ),
    initializers.Zeros: lambda record, t, fans, g: nn.init.zeros_(t),
    initializers.Ones: lambda record, t, fans, g: nn.init.ones_(t),
}


def _start(
    record: initializers.Initializer, target: Tensor, fans: initializers.Fans, generator: torch.Generator
) -> None:
    """Draw torch's way; where torch cannot (it finds the fans of kernels alone), from the law itself."""
    if target.ndim > 1 or type(record) in (initializers.Zeros, initializers.Ones):
        INITIALIZERS[type(record)](record, target, fans, generator)
    else:
        law = record.law(fans)
        if law.family == "uniform":
            nn.init.uniform_(target, law.low, law.high, generator=generator)
        else:
            nn.init.normal_(target, 0.0, law.stddev, generator=generator)


LOSSES: dict[type[losses.Loss], Callable[[Tensor, Tensor], Tensor]] = {
    losses.CategoricalCrossEntropy: lambda out, y: functional.cross_entropy(
        out, functional.one_hot(y, out.shape[1]).to(out.dtype)
    ),
    losses.SparseCategoricalCrossEntropy: functional.cross_entropy,
    losses.MeanSquaredError: functional.mse_loss,
    losses.HalfMeanSquaredError: lambda out, y: functional.mse_loss(out, y, reduction="sum") / (2 * len(y)),
    losses.PerceptronCriterion: lambda out, y: functional.relu(-y * out[:, 0]).mean(),
    losses.Hinge: lambda out, y: functional.relu(1 - y * out[:, 0]).mean(),
}

OPTIMIZERS: dict[type[optimizers.Optimizer], Callable[[Any, Any], torch.optim.Optimizer]] = {
    optimizers.SGD: lambda record, parameters: torch.optim.SGD(
        parameters, record.learning_rate, record.momentum, record.dampening, nesterov=record.nesterov
    ),
    optimizers.Adam: lambda record, parameters: torch.optim.Adam(
        parameters, record.learning_rate, (record.beta_1, record.beta_2), record.epsilon
    ),
    optimizers.RMSprop: lambda record, parameters: torch.optim.RMSprop(
        parameters, record.learning_rate, record.rho, record.epsilon
    ),
}

TENSORS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Net(nn.Module):
    """One module a layer, its tensors under the model's names; kernels still lie torch's way."""

    def __init__(self, model: Model, device: str) -> None:
        super().__init__()
        self.model, self.device = model, device
        self.layers = nn.ModuleList(
            LAYERS[type(layer)](layer, shape) for layer, shape in zip(model.layers, model.shapes, strict=False)
        )
        self.homes: dict[str, tuple[nn.Module, str]] = {}
        for tensor in model.tensors:
            layer, part = tensor.name.split(".")
            module = self.layers[model.names.index(layer)]
            self.homes[tensor.name] = (module[-1] if isinstance(module, nn.Sequential) else module, TENSORS[part])

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its own tensors by the model's names. Looked up each time: moving to a device replaces the buffers."""
        return {name: getattr(module, part) for name, (module, part) in self.homes.items()}

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        for layer in self.layers:
            x = layer(x)
            yield x

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def keep(self, masks: Mapping[int, NDArray[np.bool_]] | None) -> None:
        """Hand each dropout layer what it keeps, or let it draw."""
        for place, layer in enumerate(self.layers):
            if isinstance(layer, Dropout):
                layer.mask = None if masks is None else _channel_first(torch.from_numpy(masks[place])).to(self.device)


def _channel_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


def _channel_last(y: Tensor) -> Array:
    return (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).detach().cpu().numpy()


def _kernel_out(name: str, tensor: Tensor) -> Array:
    """Torch's (out, in, h, w) and (out, in) as (h, w, in, out) and (in, out), a copy."""
    order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(tensor.ndim) if name.endswith(".kernel") else None
    return np.ascontiguousarray((tensor.permute(order) if order else tensor).detach().cpu().numpy()).copy()


def _kernel_in(name: str, values: Array) -> Tensor:
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(values.ndim) if name.endswith(".kernel") else None
    return torch.from_numpy(np.ascontiguousarray(values.transpose(order) if order else values))


class TorchEngine(Engine):
    """Eager torch on the CPU or on CUDA."""

    name = "torch"
    convention = "torch"
    conventions = ("torch",)
    devices = ("cpu", "cuda")

    def __init__(self, device: str = "cpu", dtype: str = "float32") -> None:
        super().__init__(device, dtype)
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineError('engine "torch" finds no CUDA device on this machine: use --device cpu')
        self.torch_dtype = getattr(torch, dtype)

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> Net:
        self.check(model)
        net = Net(model, self.device).to(self.torch_dtype)
        generator = torch.Generator().manual_seed(seed)
        tensors = net.tensors
        with torch.no_grad():
            for tensor in model.tensors:
                target = tensors[tensor.name]
                if weights is not None:
                    target.copy_(_kernel_in(tensor.name, weights[tensor.name]))
                else:
                    _start(tensor.initializer, target, tensor.fans, generator)
        return net.to(self.device)

    def weights(self, net: Net) -> Weights:
        return {name: _kernel_out(name, tensor) for name, tensor in net.tensors.items()}

    def _x(self, x: Array) -> Tensor:
        return (
            _channel_first(torch.as_tensor(np.ascontiguousarray(x), dtype=self.torch_dtype))
            .to(self.device)
            .contiguous()
        )

    def _y(self, loss: losses.Loss, y: NDArray[Any]) -> Tensor:
        dtype = torch.int64 if loss.targets == "labels" else self.torch_dtype
        return torch.as_tensor(np.ascontiguousarray(y), dtype=dtype).to(self.device)

    def predict(self, net: Net, x: Array) -> Array:
        net.eval()
        with torch.inference_mode():
            parts = [
                _channel_last(net(self._x(x[start : start + PREDICTED_AT_ONCE])))
                for start in range(0, len(x), PREDICTED_AT_ONCE)
            ]
        return np.concatenate(parts) if parts else np.empty((0, *net.model.output_shape), self.dtype)

    @contextlib.contextmanager
    def _pass(self, net: Net, batch: Batch) -> Iterator[Tensor]:
        """X on the device, the network in the batch's mode with its masks; afterwards the state as it was."""
        state = {name: buffer.clone() for name, buffer in net.named_buffers()}
        net.train(batch.training)
        net.keep(batch.masks)
        try:
            yield self._x(batch.x)
        finally:
            net.keep(None)
            with torch.no_grad():
                for name, buffer in net.named_buffers():
                    buffer.copy_(state[name])

    def gradients(self, net: Net, batch: Batch, loss: losses.Loss) -> Gradients:
        check_targets(loss, batch.y, net.model.output_shape)
        tensors = net.tensors
        trained = {t.name: tensors[t.name] for t in net.model.tensors if t.trainable}
        with self._pass(net, batch) as x:
            x.requires_grad_()
            value = LOSSES[type(loss)](net(x), self._y(loss, batch.y))
            *found, dx = torch.autograd.grad(value, [*trained.values(), x])
        weights = {name: _kernel_out(name, gradient) for name, gradient in zip(trained, found, strict=True)}
        return Gradients(value.item(), weights, _channel_last(dx).copy())

    def trace(self, net: Net, batch: Batch) -> list[Array]:
        with torch.no_grad(), self._pass(net, batch) as x:
            return [_channel_last(y).copy() for y in net.outputs(x)]

    def fit(self, net: Net, samples: Samples, recipe: Recipe, plan: Plan, on_epoch: OnEpoch | None = None) -> History:
        self.check(recipe)
        check_targets(recipe.loss, samples.y, net.model.output_shape)
        _check_last_batch(net.model, len(samples.x), recipe, plan)
        x, y = self._x(samples.x), self._y(recipe.loss, samples.y)
        optimizer = OPTIMIZERS[type(recipe.optimizer)](recipe.optimizer, net.parameters())
        loss_of = LOSSES[type(recipe.loss)]
        step, history = 0, []
        # Dropout draws from torch's global generator: seed it for this training only.
        with torch.random.fork_rng(devices=[0] if self.device == "cuda" else []):
            torch.manual_seed(plan.seed)
            for epoch, batches in enumerate(epochs_of(len(x), recipe, plan), start=1):
                net.train()
                started = time.perf_counter()
                order = self._order(epoch, len(x), recipe, plan)
                values: list[Tensor] = []
                right: list[Tensor] = []
                rates: list[float] = []
                for indices in order[: sum(batches)].split(batches):  # type: ignore[no-untyped-call]
                    if recipe.schedule is not None:
                        for group in optimizer.param_groups:
                            group["lr"] = recipe.schedule.rate(step)
                    if plan.parity:
                        net.keep(plan.masks(net.model, step, len(indices)))
                    target = y[indices]
                    optimizer.zero_grad()
                    outputs = net(x[indices])
                    value = loss_of(outputs, target)
                    value.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    values.append(value.detach())
                    right.append(_hits(recipe.loss, outputs.detach(), target))
                    rates.append(optimizer.param_groups[0]["lr"])
                    step += 1
                record = _epoch(epoch, step, values, right, batches, recipe, started, rates)
                history.append(record)
                if on_epoch is not None:
                    on_epoch(record)
        net.keep(None)
        return history

    def _order(self, epoch: int, samples: int, recipe: Recipe, plan: Plan) -> Tensor:
        if plan.parity:
            return torch.from_numpy(plan.order(epoch, samples, recipe.shuffle)).to(self.device)
        return (
            torch.randperm(samples, device=self.device) if recipe.shuffle else torch.arange(samples, device=self.device)
        )


def _hits(loss: losses.Loss, outputs: Tensor, y: Tensor) -> Tensor:
    if loss.targets == "labels":
        return (outputs.argmax(1) == y).sum()
    if loss.targets == "signs":
        return (outputs[:, 0].sign() == y).sum()
    return torch.zeros(())


def _epoch(
    epoch: int,
    step: int,
    values: list[Tensor],
    right: list[Tensor],
    sizes: list[int],
    recipe: Recipe,
    started: float,
    rates: list[float],
) -> Epoch:
    """The running means of an epoch. The device is asked once, here, so that no step waits for it."""
    found = torch.stack(values).double().cpu().numpy()
    hits = int(torch.stack(right).sum())
    seconds = time.perf_counter() - started
    broken = np.flatnonzero(~np.isfinite(found))
    if broken.size:
        raise DivergedError(epoch, int(broken[0]) + 1, float(found[broken[0]]))
    accuracy = None if recipe.loss.targets == "values" else hits / sum(sizes)
    by_step = {"learning_rate": rates, "batch_size": sizes, "loss": found.tolist()} if recipe.moves else None
    return Epoch(epoch, step, seconds, float(np.average(found, weights=sizes)), accuracy, by_step=by_step)


def _check_last_batch(model: Model, samples: int, recipe: Recipe, plan: Plan) -> None:
    """Torch refuses to normalise a batch of one value per channel; say so before the epoch is spent."""
    alone = any(1 in sizes for sizes in epochs_of(samples, recipe, plan))
    for name, layer, shape in zip(model.names, model.layers, model.shapes, strict=False):
        if alone and isinstance(layer, layers.BatchNorm) and math.prod(shape[:-1]) == 1:
            raise EngineError(
                f'engine "torch" cannot normalise a batch of one sample ({name}): {samples} samples in batches of '
                f"{recipe.batch_size} leave one over; choose another batch size"
            )
