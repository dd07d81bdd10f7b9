"""Dynamic loss scaling and mixed precision: the scale, what is divided by it, what a skipped update
leaves, and which values are rounded."""

from __future__ import annotations

from mutants.mutant import Mutant

_SKIP = "if self.scaler is not None and not self._unscale(self.scaler):\n            return"
_FINITE = "finite = bool(np.isfinite(gradient).all())"
_GROWS = "if self.good == record.interval:"
_FALLS = "self.scale, self.good = self.scale * record.backoff, 0"
_STEP = "update.step(rates(step))"
_SCALER = "self.scaler = None if recipe.loss_scale is None else LossScaler(recipe.loss_scale)"


def _but(effect: str) -> str:
    """The skipping of an update that overflows, but for one effect of it."""
    return (
        "if self.scaler is not None and not self._unscale(self.scaler):\n"
        f"            {effect}\n"
        "            return"
    )


def _shared(name: str, what: str, check: str, old: str, new: str) -> Mutant:
    return Mutant(f"loss_scale_{name}", what, check, "../loss_scale", old, new)


def _update(name: str, what: str, check: str, old: str, new: str) -> Mutant:
    return Mutant(f"loss_scale_{name}", what, check, "updates", old, new)


SCALE = (
    _shared(
        "never_grows",
        "The scale never grows again.",
        "state/loss_scale-growth",
        _GROWS,
        "if False:",
    ),
    _shared(
        "grows_every_step",
        "The scale grows after every update that is made.",
        "state/loss_scale-backoff",
        _GROWS,
        "if True:",
    ),
    _shared(
        "grows_a_step_late",
        "The scale grows after one update more than the interval.",
        "state/loss_scale-growth",
        _GROWS,
        "if self.good > record.interval:",
    ),
    _shared(
        "interval_of_all_updates",
        "An overflow does not interrupt the interval: updates need not be in a row.",
        "state/loss_scale-growth",
        _FALLS,
        "self.scale = self.scale * record.backoff",
    ),
    _shared(
        "never_falls",
        "The scale stays when an update overflows.",
        "state/loss_scale-backoff",
        _FALLS,
        "self.good = 0",
    ),
    _shared(
        "falls_by_the_square",
        "The scale falls twice after an overflow.",
        "state/loss_scale-backoff",
        _FALLS,
        "self.scale, self.good = self.scale * record.backoff**2, 0",
    ),
    _shared(
        "always_halves",
        "The scale halves, whatever its factor.",
        "state/loss_scale-factors",
        _FALLS,
        "self.scale, self.good = self.scale * 0.5, 0",
    ),
    _shared(
        "grows_to_infinity",
        "The scale grows beyond the largest one.",
        "state/loss_scale-largest",
        "min(self.scale * record.growth, LARGEST)",
        "self.scale * record.growth",
    ),
    _shared(
        "falls_to_zero",
        "The scale falls on and on, and every update is skipped.",
        "state/loss_scale-smallest",
        "if self.scale < SMALLEST and not self.fell:",
        "if False:",
    ),
    _shared(
        "smallest_is_refused",
        "The smallest scale itself is an error.",
        "state/loss_scale-smallest",
        "if self.scale < SMALLEST and not self.fell:",
        "if self.scale <= SMALLEST and not self.fell:",
    ),
    _shared(
        "schedule_counts_all",
        "Skipped updates move the schedule in Keras's convention too.",
        "schedule/loss_scale",
        'return self.skipped if self.record.schedule_counts == "updates" else 0',
        "return 0",
    ),
    _update(
        "kept_between_trainings",
        "A second training goes on with the scale of the first.",
        "state/loss_scale-again",
        _SCALER,
        "self.scaler = None if recipe.loss_scale is None else vars(net).setdefault(\n"
        '            "scaler", LossScaler(recipe.loss_scale)\n'
        "        )",
    ),
    Mutant(
        "loss_scale_of_each_epoch",
        "Every epoch begins with the initial scale.",
        "state/loss_scale-epochs",
        "training",
        "update.resume()",
        "update.resume()\n"
        "        if update.scaler is not None:\n"
        "            update.scaler.scale = update.scaler.record.initial",
    ),
)

GRADIENT = (
    _update(
        "divided_twice",
        "The gradient is divided by the scale twice.",
        "step/loss_scale",
        "gradient /= scaler.scale",
        "gradient /= scaler.scale**2",
    ),
    _update(
        "never_divided",
        "The gradient keeps the scale.",
        "step/loss_scale",
        "gradient /= scaler.scale",
        "",
    ),
    _update(
        "divided_by_the_next",
        "The gradient is divided by the scale of the next backward pass.",
        "step/loss_scale",
        f"gradient /= scaler.scale\n        {_FINITE}\n        scaler.update(finite)",
        "finite = bool(np.isfinite(gradient).all())\n"
        "        scaler.update(finite)\n"
        "        gradient /= scaler.scale",
    ),
    _update(
        "clipped_before_dividing",
        "The scaled gradient is clipped.",
        "step/loss_scale",
        "gradient /= scaler.scale",
        "if self.clip is not None:\n"
        "            CLIPS[type(self.clip)](self.clip, gradient)\n"
        "        gradient /= scaler.scale",
    ),
    Mutant(
        "loss_scale_in_the_loss",
        "The reported loss is the scaled one.",
        "trajectory/native-loss_scale",
        "training",
        "losses, correct = _pass(\n"
        "                net, self.source, order, here, recipe, plans, step, update.scale\n"
        "            )",
        "losses, correct = _pass(\n"
        "                net, self.source, order, here, recipe, plans, step, update.scale\n"
        "            )\n"
        "            losses = losses * (update.scale or 1.0)",
    ),
    Mutant(
        "loss_scale_of_the_first_part",
        "Only the gradient of the first part of a batch is scaled.",
        "step/loss_scale-accumulate",
        "training",
        "recipe.loss, own, scale)",
        "recipe.loss, own, scale if part is parts[0] else None)",
    ),
)

SKIPPING = (
    _update(
        "overflow_never_skipped",
        "An update that overflows is made.",
        "step/loss_scale-overflow",
        _FINITE,
        "finite = True",
    ),
    _update(
        "overflow_to_zeros",
        "Infinite entries become zero, and the update is made.",
        "step/loss_scale-overflow",
        _SKIP,
        "if self.scaler is not None and not self._unscale(self.scaler):\n"
        "            gradient = self.net.gradient\n"
        "            gradient[~np.isfinite(gradient)] = 0.0",
    ),
    _update(
        "overflow_of_the_first_tensor",
        "Infinities are looked for in the first tensor.",
        "step/loss_scale-overflow-later",
        _FINITE,
        "first = next(iter(self.net.gradients.values()))\n"
        "        finite = bool(np.isfinite(first).all())",
    ),
    _update(
        "overflow_of_the_last_tensor",
        "Infinities are looked for in the last tensor.",
        "step/loss_scale-overflow",
        _FINITE,
        "*_, last = self.net.gradients.values()\n        finite = bool(np.isfinite(last).all())",
    ),
    _update(
        "overflow_of_a_tensor_alone",
        "Only the tensors whose gradients are infinite are left out.",
        "step/loss_scale-overflow",
        _SKIP,
        "if self.scaler is not None and not self._unscale(self.scaler):\n"
        "            for each in self.net.gradients.values():\n"
        "                each[...] = each if np.isfinite(each).all() else 0.0",
    ),
    _update(
        "nan_is_no_overflow",
        "NaN is not counted as an overflow.",
        "step/loss_scale-overflow-nan",
        _FINITE,
        "finite = not np.isinf(gradient).any()",
    ),
    _update(
        "skipped_update_counts",
        "Adam counts the updates that are skipped.",
        "step/loss_scale-overflow",
        _SKIP,
        _but("self.stepper.steps += 1"),
    ),
    _update(
        "skipped_update_decays",
        "Weights decay in an update that is skipped.",
        "step/loss_scale-overflow",
        _SKIP,
        _but(
            "for part in self.decaying:\n"
            "                self.net.parameters[:, part] *= 1.0 - learning_rate * self.decay.rate"
        ),
    ),
    _update(
        "skipped_update_averages",
        "An update that is skipped moves the averages.",
        "step/loss_scale-overflow",
        _SKIP,
        _but(
            "if self.average is not None:\n"
            "                self._update_averages(self.average.decay)"
        ),
    ),
    _update(
        "skipped_update_of_zeros",
        "A skipped update is one by a gradient of zeros, which the momentum goes on through.",
        "step/loss_scale-overflow",
        _SKIP,
        "if self.scaler is not None and not self._unscale(self.scaler):\n"
        "            self.net.gradient[...] = 0.0",
    ),
    Mutant(
        "loss_scale_restores_statistics",
        "A skipped update takes back what the batch did to the moving statistics.",
        "step/loss_scale-overflow",
        "training",
        _STEP,
        "skipped = update.scaler.skipped if update.scaler is not None else 0\n"
        f"            {_STEP}\n"
        "            if update.scaler is not None and update.scaler.skipped > skipped:\n"
        "                net.state[...] = before",
    ),
)


def _torch(name: str, what: str, check: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"torch_loss_scale_{name}", what, check, file, old, new, package="torch")


TORCH = (
    _torch(
        "clipped_before_dividing",
        "The gradients are clipped before `unscale_`.",
        "step/loss_scale",
        "training",
        "finite = optimizer.unscale()\n"
        "        if recipe.clip is not None:\n"
        "            CLIPS[type(recipe.clip)](recipe.clip, parameters)",
        "if recipe.clip is not None:\n"
        "            CLIPS[type(recipe.clip)](recipe.clip, parameters)\n"
        "        finite = optimizer.unscale()",
    ),
    _torch(
        "decays_all_the_same",
        "Weights decay outside torch's optimiser in an update that it skips.",
        "step/loss_scale-overflow",
        "optimizers",
        "if self.shrinking and self.finite:",
        "if self.shrinking:",
    ),
    _torch(
        "averages_all_the_same",
        "Averages are updated after every batch.",
        "step/loss_scale-overflow",
        "training",
        "if finite:\n            averages.update()",
        "averages.update()",
    ),
    _torch(
        "never_updated",
        "`GradScaler.update` is never called but for the first time.",
        "state/loss_scale-backoff",
        "optimizers",
        "self.scaler.update()",
        "self.scaler.update(self.scaler.get_scale()) if self.scaler.is_enabled() else None",
    ),
    _torch(
        "average_of_no_update",
        "Before the first update that is made, the network has averages of zero.",
        "state/loss_scale-average",
        "updates",
        "if not self.started:\n            return",
        "",
    ),
)


def _products(name: str, what: str, check: str, file: str, old: str, new: str) -> Mutant:
    own = f"torch_products_{name}"
    return Mutant(own, what, check, file, old, new, package="torch", only="float32")


PRODUCTS = (
    _products(
        "ignored",
        "Products are computed in float32, whatever the recipe says.",
        "step/products-float16",
        "training",
        "rounded_products(net, recipe.products)",
        "rounded_products(net, None)",
    ),
    _products(
        "of_one_format",
        "Products in float16 are computed in bfloat16.",
        "step/products-float16",
        "precision",
        '"float16": torch.float16',
        '"float16": torch.bfloat16',
    ),
    _products(
        "and_weights",
        "An update rounds the weights to the format of the products.",
        "step/products-float16",
        "training",
        "if finite:\n            averages.update()",
        "with torch.no_grad():\n"
        "            for each in parameters if recipe.products is not None else []:\n"
        "                each.copy_(each.to(net.format or each.dtype))\n"
        "        if finite:\n            averages.update()",
    ),
    _products(
        "after_the_training",
        "What follows a training has its format.",
        "trajectory/products-float16",
        "precision",
        "finally:\n        net.format = before",
        'finally:\n        net.format = FORMATS.get(products or "", before)',
    ),
    _products(
        "scaled_too_late",
        "The gradient is scaled, and not the loss.",
        "step/loss_scale-float16-underflow",
        "optimizers",
        "return self.scaler.scale(loss)",
        'for each in self.parameters if not hasattr(self, "hooked") else []:\n'
        "            each.register_post_accumulate_grad_hook(\n"
        "                lambda own: [own.grad.mul_(self.scaler.get_scale())] and None\n"
        "            )\n"
        "        self.scaler.scale(loss)\n"
        "        self.hooked = True\n"
        "        return loss",
    ),
)

MUTANTS = (*SCALE, *GRADIENT, *SKIPPING, *TORCH, *PRODUCTS)
