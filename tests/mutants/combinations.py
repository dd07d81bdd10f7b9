"""Mistakes where two parts of a recipe meet, in replicas that train by recipes with all parts, and
after more epochs than most checks have."""

from __future__ import annotations

from mutants.mutant import Mutant

_STEP = "update.step(rates(step))"
_SHARE = "net.gradient *= share.astype(net.dtype).reshape(-1, 1)"
_DRAW = "np.greater_equal(drawn, np.float32(rate), out=kept)"
_EPOCH = "update.resume()"


def _combined(name: str, what: str, loss: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"combined_{name}", what, f"trajectory/combined-{loss}", file, old, new)


def _replicas(name: str, what: str, subject: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"replicas_{name}", what, f"determinism/{subject}", file, old, new)


def _late(name: str, what: str, check: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"late_{name}", what, check, file, old, new)


MUTANTS = (
    _combined(
        "limit_of_parts",
        "The gradient of each part of a batch is clipped by value.",
        "sparse_categorical_crossentropy",
        "training",
        _SHARE,
        f"{_SHARE}\n"
        '        if getattr(recipe.clip, "kind", "") == "clip_value":\n'
        "            limit = recipe.clip.limit\n"
        "            np.clip(net.gradient, -limit, limit, out=net.gradient)",
    ),
    _combined(
        "equal_parts",
        "With batches of several sizes, all parts of a batch count as much.",
        "categorical_crossentropy",
        "training",
        "shares = _shares(recipe.loss, [source.targets(order, place) for place in places])",
        "shares = _shares(recipe.loss, [source.targets(order, place) for place in places])\n"
        "    if recipe.batch_sizes is not None:\n"
        "        shares = [np.full_like(share, 1 / len(parts)) for share in shares]",
    ),
    _combined(
        "average_of_sizes",
        "With batches of several sizes, the average leaves out the first two updates.",
        "categorical_crossentropy",
        "training",
        _STEP,
        f"{_STEP}\n"
        "            if recipe.batch_sizes is not None and step < 2:\n"
        "                update.averages = None",
    ),
    Mutant(
        "combined_rmsprop_without_penalty",
        "RMSprop has no coupled weight decay.",
        "step/decay-coupled-kernels",
        "updates",
        "self.net.gradient[:, part] += decay.rate * self.net.parameters[:, part]",
        'rate = 0.0 if self.stepper.optimizer.kind == "rmsprop" else decay.rate\n'
        "            self.net.gradient[:, part] += rate * self.net.parameters[:, part]",
    ),
    _replicas(
        "divide_a_loss",
        "The gradient of a loss is divided by the number of replicas.",
        "replicas-combined",
        "losses",
        "return (d * d).sum(axis=_over(d)) / (2 * d.shape[-1]), d / d.shape[-1]",
        "return (d * d).sum(axis=_over(d)) / (2 * d.shape[-1]), d / d.shape[-1] / len(d)",
    ),
    _replicas(
        "share_signs",
        "A loss of signs takes the targets of the first replica for all.",
        "replicas-combined",
        "losses",
        "signs = y[:, None, :]",
        "signs = y[:1, None, :]",
    ),
    _replicas(
        "share_a_rate_of_rmsprop",
        "RMSprop takes the learning rate of the first replica for all.",
        "replicas-combined",
        "optimizers",
        "scratch *= learning_rate",
        "scratch *= np.ravel(learning_rate)[0]",
    ),
    _replicas(
        "share_parts",
        "The parts of a batch are weighted by the labels of the first replica.",
        "replicas-combined",
        "training",
        _SHARE,
        "net.gradient *= share.astype(net.dtype)[0]",
    ),
    _replicas(
        "share_initialisers",
        "All replicas start by the initialisers of the first.",
        "replicas-combined",
        "engine",
        "self.net.load(plan.weights(model), replica)",
        "self.net.load(plan.weights(models[0]), replica)",
    ),
    _replicas(
        "share_an_accuracy",
        "Each replica reports the mean accuracy of all.",
        "replicas",
        "losses",
        "found: NDArray[Any] = right.sum(axis=_over(right))",
        "found: NDArray[Any] = np.full(len(right), right.sum() / len(right))",
    ),
    _replicas(
        "share_late_inputs",
        "The predictions of more than 5,000 inputs are those of the inputs of the first replica.",
        "replicas-combined",
        "engine",
        "net.forward(self._inward(net, x[:, here]), training=False)",
        "net.forward(\n"
        "                    self._inward(net, (x[:1] if x.shape[1] > 5000 else x)[:, here]),\n"
        "                    training=False,\n"
        "                )",
    ),
    _replicas(
        "of_four",
        "The replicas beyond the third have no momentum.",
        "replicas-combined",
        "optimizers",
        "velocity *= momentum\n            velocity += gradient",
        "velocity *= momentum\n            velocity[3:] = 0\n            velocity += gradient",
    ),
    _replicas(
        "drop_the_same_channels",
        "Natively, all replicas drop the same channels.",
        "replicas-drop-spatial_dropout",
        "dropout",
        _DRAW,
        "if isinstance(self.layer, SpatialDropout):\n"
        "                drawn[...] = drawn[:1]\n"
        f"            {_DRAW}",
    ),
    _replicas(
        "drop_the_same_weights",
        "Natively, the attention of all replicas drops the same weights.",
        "replicas-drop-multi_head_attention",
        "dropout",
        _DRAW,
        "if not isinstance(self.layer, Dropout):\n"
        "                drawn[...] = drawn[:1]\n"
        f"            {_DRAW}",
    ),
    _replicas(
        "keep_nan_statistics",
        "A replica that fails keeps the moving statistics of the batch in which it failed.",
        "diverged-replica",
        "training",
        "self.kept[lost] = net.parameters[lost].copy(), before[lost]",
        "self.kept[lost] = net.parameters[lost].copy(), net.state[lost].copy()",
    ),
    _replicas(
        "keep_failures",
        "A replica that failed in one training counts as failed in the next.",
        "diverged-replica",
        "engine",
        "self.failures = {}",
        'self.failures = getattr(self, "failures", {})',
    ),
    _late(
        "orders_repeat",
        "The order of the fourth epoch is that of all later ones.",
        "trajectory/long-sgd",
        "training",
        "plan.order(epoch, samples)",
        "plan.order(min(epoch, 4), samples)",
    ),
    _late(
        "augmentations_repeat",
        "The augmentations of the third epoch are those of all later ones.",
        "trajectory/long-sgd",
        "training",
        "augment_replicas(samples, recipe, plans, epoch.number)",
        "augment_replicas(samples, recipe, plans, min(epoch.number, 3))",
    ),
    _late(
        "average_stops",
        "The average stops after ten epochs.",
        "trajectory/long-sgd",
        "training",
        _EPOCH,
        f"{_EPOCH}\n        if epoch.number > 10 and update.averages is not None:\n"
        "            update._update_averages = lambda decay: None",
    ),
    _late(
        "average_of_ten",
        "The decay of an average is at most 0.9.",
        "step/average",
        "updates",
        "self.average = recipe.average",
        "self.average = recipe.average and type(recipe.average)(min(recipe.average.decay, 0.9))",
    ),
    _late(
        "dilated_groups",
        "In a sequence, the windows of several groups are not dilated.",
        "forward/dilated_conv1d",
        "convolution",
        "places = places[:, :, :, ::down, ::across, :, ::rows, ::columns]",
        "if self.groups > 1 and len(self.places) == 1:\n"
        "            rows, columns = 1, 1\n"
        "            places = places[..., : self.window[0], : self.window[1]]\n"
        "        places = places[:, :, :, ::down, ::across, :, ::rows, ::columns]",
    ),
)
