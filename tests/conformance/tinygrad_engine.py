"""An adapter by a third party: tinygrad 0.14 as its users write it, with nn, nn.optim and a TinyJit
over the step."""

import os
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from tinygrad import Context, Tensor, TinyJit, nn

from dlsys_bench.data import Samples
from dlsys_bench.engines.augmentation import augment
from dlsys_bench.engines.base import Batch, Engine, Gradients
from dlsys_bench.engines.epochs import UpdateStep, training_epochs
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights, batch_slices
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

# What an optimiser of tinygrad remembers is float32 otherwise, and SGD then refuses to move a
# float64 parameter.
os.environ.setdefault("OPTIM_DTYPE", "float64")
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # the order of the axes that puts the channel there


def convolution(layer: Any, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    axes, pads = range(1, x.ndim - 1), sum(layer.pads(x.shape[1:])[::-1], ())
    y = x.permute(0, -1, *axes).conv2d(
        kernel.permute(-1, -2, *(axis - 1 for axis in axes)),
        bias,
        layer.groups,
        layer.steps,
        layer.spacing,
        pads,
    )
    return y.permute(0, *(axis + 1 for axis in axes), 1)


def attention(layer: Any, x: Any, own: list[Tensor], kept: Tensor | None) -> Tensor:
    (x, context), step = x if layer.context else (x, x), len(own) // 4
    parts = [own[n : n + step] for n in range(0, len(own), step)]
    query, key, value = (
        given.linear(*part).reshape(*given.shape[:2], layer.heads, -1).transpose(1, 2)
        for given, part in zip((x, context, context), parts, strict=False)
    )
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    if layer.causal:
        scores = scores.masked_fill(Tensor.ones(*scores.shape[2:]).triu(1) > 0, float("-inf"))
    weights, rate = scores.softmax(), layer.drop_rate
    used = weights.dropout(rate) if kept is None else weights * kept / (1 - rate)
    return (used @ value).transpose(1, 2).flatten(2).linear(*parts[3])


LAYERS: dict[str, Any] = {
    "conv1d": convolution,
    "conv2d": convolution,
    "position_embedding": lambda layer, x, vectors: x + vectors[: x.shape[1]],
    "dense": lambda layer, x, kernel, bias=None: x.linear(kernel, bias),
    "average_pool": lambda layer, x: (
        x.permute(FIRST).avg_pool2d(layer.pool_size, layer.steps).permute(LAST)
    ),
    "max_pool": lambda layer, x: (
        x.permute(FIRST).max_pool2d(layer.pool_size, layer.steps).permute(LAST)
    ),
    "dropout": lambda layer, x: x.dropout(layer.drop_rate),
    "flatten": lambda layer, x: x.flatten(1),
    "add": lambda layer, x: sum(x[1:], x[0]),
    "concat": lambda layer, x: x[0].cat(*x[1:], dim=-1),
    "layer_norm": lambda layer, x, gamma, beta: x.layernorm(-1, layer.epsilon) * gamma + beta,
    "rms_norm": lambda layer, x, gamma: (
        x * (x.square().mean(-1, keepdim=True) + layer.epsilon).rsqrt() * gamma
    ),
    "group_norm": lambda layer, x, gamma, beta: (
        x.reshape(len(x), -1, layer.groups, x.shape[-1] // layer.groups)
        .layernorm((1, 3), layer.epsilon)
        .reshape(x.shape)
        * gamma
        + beta
    ),
    "global_average_pool": lambda layer, x: x.mean(tuple(range(1, x.ndim - 1))),
    "gelu_tanh": lambda layer, x: x.gelu(),
    "leaky_relu": lambda layer, x: x.leaky_relu(layer.negative_slope),
    "linear": lambda layer, x: x,
    **{
        name: lambda layer, x, name=name: getattr(x, name)()
        for name in ("sigmoid", "tanh", "relu", "softmax", "softplus", "silu")
    },
}


def cross_entropy(loss: Any, o: Tensor, y: Tensor) -> Tensor:
    # As torch weighs classes.
    smoothing, classes = loss.label_smoothing, o.shape[-1]
    hot = y.cast("int").one_hot(classes) * is_kept(loss, y).unsqueeze(-1)
    weights = Tensor.cat(*(Tensor.full((1,), w) for w in loss.class_weights or [1.0] * classes))
    targets = (1 - smoothing) * hot + smoothing / classes * hot.sum(-1, keepdim=True)
    total = (weights * hot).sum()
    return -(weights * targets * o.log_softmax()).sum() / (total == 0).where(1, total)


def is_kept(loss: Any, y: Tensor) -> Tensor:
    # No label is -1 unless that one is ignored.
    return y != (-1 if getattr(loss, "ignored_label", None) is None else loss.ignored_label)


LOSSES: dict[str, Any] = {
    "categorical_crossentropy": cross_entropy,
    "sparse_categorical_crossentropy": cross_entropy,
    "binary_crossentropy": lambda loss, o, y: o.binary_crossentropy_logits(y.reshape(o.shape)),
    "mean_squared_error": lambda loss, o, y: (o - y).square().mean(),
    "half_mean_squared_error": lambda loss, o, y: (o - y).square().sum() / (2 * len(y)),
    "huber": lambda loss, o, y: (
        ((a := (o - y).abs()) <= loss.delta)
        .where(a * a / 2, loss.delta * (a - loss.delta / 2))
        .mean()
    ),
    "perceptron": lambda loss, o, y: (-y * o[:, 0]).relu().mean(),
    "hinge": lambda loss, o, y: (1 - y * o[:, 0]).relu().mean(),
}
ANSWERS: dict[str, Any] = {
    "labels": lambda o: o.argmax(-1),
    "binary": lambda o: o > 0,
    "signs": lambda o: o.sign(),
    "values": lambda o: o,
}
CLIPS: dict[str | None, Any] = {
    None: lambda clip, found: found,
    "clip_value": lambda clip, found: [each.clamp(-clip.limit, clip.limit) for each in found],
    "clip_norm": lambda clip, found: [
        each * (clip.limit / (norm + clip.epsilon)).minimum(1)
        for norm in [sum(each.square().sum() for each in found).sqrt()]
        for each in found
    ],
}


Net = tuple[Model, dict[str, Tensor]]


class TinygradEngine(Engine):
    name, convention, conventions = "tinygrad", "torch", ("torch",)
    lacks = {  # noqa: RUF012
        "layer:max_pool": (
            "equal values in a window share the gradient; in torch and Keras the first gets all"
        ),
        "layer:embedding": "the adapter takes floats",
        "inputs": "the adapter takes one array",
        "layer:spatial_dropout": "Tensor.dropout drops single values",
        "function:elu": "the gradient of Tensor.elu is NaN at large inputs, where exp overflows",
        "function:gelu": "Tensor.erf is an approximation, to seven digits",
        "optimizer:rmsprop": "nn.optim has none",
        "average": "tinygrad has none",
        "loss_scale": "tinygrad has none",
        "products:float16": "tinygrad has none beside float32",
        "products:bfloat16": "tinygrad has none beside float32",
    }

    def _mode(self, training: bool) -> Context:
        return Context(TRAINING=int(training), DEFAULT_FLOAT=self.dtype)

    def _in(self, values: Any) -> Tensor:
        return Tensor(np.array(values, self.dtype, order="C"))

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> Net:
        self.check(model)
        with self._mode(False):
            Tensor.manual_seed(seed)
            starts = weights or {
                t.name: self._draw(t.shape, t.initializer.distribution(t.fans))
                for t in model.tensors
            }
            return model, {
                t.name: self._in(starts[t.name]).realize().is_param_(t.trainable)
                for t in model.tensors
            }

    def _draw(self, shape: tuple[int, ...], start: Any) -> Array:
        # The fan out of glorot_uniform lacks the window.
        return np.asarray(
            (
                Tensor.uniform(shape, low=start.low, high=start.high)
                if start.family == "uniform"
                else Tensor.normal(shape, mean=start.value, std=start.stddev)
            ).numpy()
        )

    def weights(self, net: Net) -> Weights:
        return {name: tensor.numpy().copy() for name, tensor in net[1].items()}

    def _outputs(
        self, net: Net, x: Tensor, masks: dict[int, Tensor], look: bool = False
    ) -> list[Tensor]:
        """Of every layer. Who looks at training moves no statistics of a batch norm."""
        found = [x]
        for place, layer, inputs in ((row.place, row.layer, row.sources) for row in net[0].table):
            x, options, own = (
                [found[each] for each in inputs] if layer.merges else found[inputs[0]],
                vars(layer),
                [net[1][t.name] for t in net[0].tensors_of(place)],
            )
            if layer.kind == "batch_norm":
                norm = nn.BatchNorm(
                    x.shape[-1], options["epsilon"], True, not look, 1 - options["moving_decay"]
                )
                norm.weight, norm.bias, norm.running_mean, norm.running_var = own
                found.append(norm(x.reshape(-1, x.shape[-1])).reshape(x.shape))
            elif layer.kind == "multi_head_attention":
                found.append(attention(layer, x, own, masks.get(place)))
            elif place in masks:
                found.append(x * masks[place] / (1 - options["drop_rate"]))
            else:
                found.append(LAYERS[options.get("function", layer.kind)](layer, x, *own))
        return found[1:]

    def predict(self, net: Net, x: Array) -> Array:
        with self._mode(False):
            parts = [
                self._outputs(net, self._in(x[n : n + 1000]), {})[-1].numpy()
                for n in range(0, len(x), 1000)
            ]
        return np.concatenate([np.empty((0, *net[0].output_shape), self.dtype), *parts])

    def _look(self, net: Net, batch: Batch) -> list[Tensor]:
        masks = {
            place: self._in(mask) for place, mask in (batch.masks or {}).items() if batch.training
        }
        x = self._in(batch.x).realize()
        return [x, *self._outputs(net, x, masks, look=batch.training)]

    def gradients(self, net: Net, batch: Batch, loss: Loss) -> Gradients:
        trained = {name: tensor for name, tensor in net[1].items() if tensor.is_param}
        with self._mode(batch.training):
            x, *_, output = self._look(net, batch)
            found = [
                value := LOSSES[loss.kind](loss, output, self._in(batch.y)),
                *value.gradient(x, *trained.values()),
            ]
            Tensor.realize(*found)
        _, dx, *weights = [tensor.numpy().copy() for tensor in found]
        return Gradients(value.item(), dict(zip(trained, weights, strict=True)), dx)

    def trace(self, net: Net, batch: Batch) -> list[Array]:
        with self._mode(batch.training):
            Tensor.realize(*(found := self._look(net, batch)))
        return [tensor.numpy().copy() for tensor in found[1:]]

    def fit(self, net: Net, samples: Samples, recipe: Recipe, plan: Plan) -> Generator[Epoch]:
        self.check(recipe)
        with self._mode(True):
            Tensor.manual_seed(plan.seed)
            update, count = self._update(net, recipe), len(samples.x)
            shuffle = TinyJit(lambda: Tensor.randperm(count).realize())
        own_order = recipe.shuffle and not plan.parity and count > 1
        for epoch in training_epochs(net[0], samples, recipe, plan):
            own = Samples(augment(samples.x, recipe, plan, epoch.number), samples.y)
            with self._mode(True):
                for step in epoch.steps(shuffle().numpy() if own_order else None):
                    epoch.add(*update(step, own))
            yield epoch.end()

    def _update(
        self, net: Net, recipe: Recipe
    ) -> Callable[[UpdateStep, Samples], tuple[float, float]]:
        """Return a function that makes one update. It returns the loss, and how many answers are
        right."""
        o, own, record = vars(recipe.optimizer), list(net[1].values()), recipe.loss
        optimizer = (
            nn.optim.SGD(own, o["learning_rate"], o["momentum"], nesterov=o["nesterov"])
            if "momentum" in o
            else nn.optim.Adam(own, o["learning_rate"], o["beta_1"], o["beta_2"], o["epsilon"])
        )
        for power in ("b1_t", "b2_t") if "beta_1" in o else ():
            # nn.optim.Adam keeps the powers of its betas in float32, whatever OPTIM_DTYPE says.
            setattr(optimizer, power, Tensor([1.0], dtype="float64").realize().is_param_(False))
        # nn.optim.SGD has no dampening: the gradient of every step but the first is scaled by it.
        dampening = o["dampening"] if o.get("momentum") else 0
        scales = [Tensor([1.0 - less]).realize() for less in (0, dampening)]
        # The decays of nn.optim are those of all parameters, coupled in SGD and decoupled in AdamW.
        decay, clip, trained = o["decay"], recipe.clip, optimizer.params
        coupled = decay is not None and decay.coupling == "coupled"
        decays = [
            decay.rate if decay and decay.applies(name, each.ndim) else 0.0
            for name, each in net[1].items()
            if each.is_param
        ]

        def compiled(x: Tensor, y: Tensor, scale: Tensor, masks: dict[int, Tensor]) -> Tensor:
            optimizer.zero_grad()
            parts = [
                self._outputs(net, x[here], {place: each[here] for place, each in masks.items()})
                for here in batch_slices(recipe.micro_batches(len(x)))
            ]
            output = Tensor.cat(*(part[-1] for part in parts))
            (loss := LOSSES[record.kind](record, output, y)).backward()
            right = (ANSWERS[record.targets](output).reshape(y.shape) == y) * is_kept(record, y)
            found = CLIPS[clip.kind if clip else None](clip, [each.grad for each in trained])
            for each, gradient, rate in zip(trained, found, decays, strict=True):
                each.grad = (gradient + rate * each.detach() if coupled else gradient) * scale
            figures = Tensor.stack(loss, right.sum().cast(loss.dtype))
            # The parameters move only when all that depends on them is known.
            Tensor.realize(figures, *(each.grad for each in trained), *optimizer.buffers)
            for each, rate in zip(trained, decays, strict=True):
                if rate and not coupled:
                    each.assign(each.detach() * (1 - rate * optimizer.lr)).realize()
            return figures.realize(*optimizer.schedule_step())

        jitted: dict[int, Any] = {}

        def update(step: UpdateStep, samples: Samples) -> tuple[float, float]:
            optimizer.lr.assign([step.learning_rate]).realize()
            x, y = self._in(samples.x[step.chosen]), self._in(samples.y[step.chosen])
            masks = {place: self._in(mask) for place, mask in step.masks.items()}
            run = jitted.setdefault(len(step.chosen), TinyJit(compiled))
            loss, right = run(x, y, scales[step.number > 0], masks).tolist()
            return loss, right

        return update
