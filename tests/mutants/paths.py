"""Mistakes on rare paths: in `fit` alone, without a plan, after many steps, in single precision,
for windows and batches of one shape."""

from __future__ import annotations

from mutants.mutant import Mutant

_STEPPER = "net.rule_set.steppers[type(recipe.optimizer)](recipe.optimizer, net.parameters)"
_EPOCHS = "training_epochs(net.model, samples, recipe, plans[0])"
_STEP = "update.step(rates(step))"
_DRAW = "generator.random(out=own, dtype=np.float32)"


def _natively(option: str, value: float) -> str:
    """The optimiser with this option, if it has it, where no plan decides."""
    return _STEPPER.replace(
        "(recipe.optimizer,",
        f"(type(recipe.optimizer)(**(vars(recipe.optimizer) | {{{option!r}: {value}}})) "
        f"if getattr(recipe.optimizer, {option!r}, 0) and not plans[0].parity else "
        f"recipe.optimizer,",
    )


MUTANTS = (
    Mutant(
        "fit_halves_strided_kernels",
        "In `fit` alone, the gradient of a kernel with strides is halved.",
        "state/smallest-conv2d-of-wide-strides",
        "training",
        _STEP,
        "for rule in net.rules:\n"
        '                if "kernel" in rule.gradients and getattr(rule.layer, "strides", '
        "(1, 1)) != (1, 1):\n"
        '                    rule.gradients["kernel"] *= 0.5\n'
        f"            {_STEP}",
    ),
    Mutant(
        "fit_forgets_the_sigmoid",
        "In `fit` alone, the gradient of a sigmoid is that of the identity.",
        "trajectory/fit-sigmoid",
        "training",
        "net.backward(dy)",
        "for rule in net.rules:\n"
        '            if getattr(rule.layer, "function", "") == "sigmoid":\n'
        "                rule.backward = lambda dy, wants_dx: dy\n"
        "        net.backward(dy)",
    ),
    Mutant(
        "native_momentum_halved",
        "Without a plan, momentum is 0.45.",
        "trajectory/native-momentum",
        "training",
        _STEPPER,
        _natively("momentum", 0.45),
    ),
    Mutant(
        "native_rho",
        "Without a plan, RMSprop's rho is 0.5.",
        "trajectory/native-rmsprop",
        "training",
        _STEPPER,
        _natively("rho", 0.5),
    ),
    Mutant(
        "native_batch_sizes_ignored",
        "Without a plan, the recipe's changing batch sizes are ignored.",
        "trajectory/native-sgd",
        "training",
        _EPOCHS,
        f"{_EPOCHS} if plans[0].parity else training_epochs(\n"
        "                net.model,\n"
        "                samples,\n"
        '                type(recipe)(**(vars(recipe) | {"batch_sizes": None})),\n'
        "                plans[0],\n"
        "            )",
    ),
    Mutant(
        "native_signs_halved",
        "Without a plan, the gradient of a loss of signs is halved.",
        "state/one-output-perceptron",
        "training",
        _STEP,
        'net.gradient *= 0.5 if recipe.loss.targets == "signs" and not plans[0].parity else 1.0\n'
        f"            {_STEP}",
    ),
    Mutant(
        "native_moving_decay",
        "Without a plan, the moving decay is 0.9, whatever the layer states.",
        "state/smallest-batch_norm-of-two",
        "training",
        "net.seed([plan.seed for plan in plans])",
        "net.seed([plan.seed for plan in plans])\n"
        "    for rule in net.rules:\n"
        '        if not plans[0].parity and hasattr(rule.layer, "moving_decay"):\n'
        '            rule.layer = type(rule.layer)(**(vars(rule.layer) | {"moving_decay": 0.9}))',
    ),
    Mutant(
        "adam_correction_stops",
        "After fifteen steps, Adam's bias correction stays constant.",
        "trajectory/long-adam",
        "optimizers",
        "(1.0 - beta**self.steps for beta in self.corrected)",
        "(1.0 - beta ** min(self.steps, 15) for beta in self.corrected)",
    ),
    Mutant(
        "dropout_whole_channels",
        "Natively, whole channels of an image are dropped.",
        "state/dropout-of-images",
        "dropout",
        _DRAW,
        "own[...] = generator.random((len(own), *[1] * (own.ndim - 2), own.shape[-1]), "
        "dtype=np.float32)",
    ),
    Mutant(
        "dropout_one_mask_for_all_images",
        "Natively, all images of a batch have the same mask.",
        "state/dropout-of-images",
        "dropout",
        _DRAW,
        "own[...] = generator.random((*own.shape[:-1], 1 if own.ndim > 2 else own.shape[-1]), "
        "dtype=np.float32)",
    ),
    Mutant(
        "dropout_small_rates_ignored",
        "Natively, a rate under 0.15 drops nothing.",
        "state/dropout",
        "dropout",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        "np.greater_equal(drawn, np.float32(rate if rate > 0.15 else -1.0), out=kept)",
    ),
    Mutant(
        "batch_norm_of_one_image",
        "A single image is normalised by the moving statistics in training too.",
        "forward/large-batch_norm",
        "normalization",
        "        if training:\n",
        "        if training and x.shape[-1] > 1:\n",
    ),
    Mutant(
        "batch_norm_one_pass",
        "The variance is the mean of squares less the square of the mean.",
        "forward/batch_norm-far@float32",
        "normalization",
        "variance = squares / self.samples",
        "variance = np.maximum(np.vecdot(flat, flat) / self.samples - whole**2, 0)",
    ),
    Mutant(
        "single_moving_variance_leaks",
        "In float32, the moving variance shrinks by 1e-4 per step.",
        "state/batch_norm@float32",
        "normalization",
        "            self._move(whole, variance, self.samples)\n",
        "            self._move(whole, variance, self.samples)\n"
        '            self.tensors["moving_variance"] *= np.float32(0.9999) if x.dtype == '
        "np.float32 else 1.0\n",
    ),
    Mutant(
        "single_convolution_in_half",
        "In float32, images are rounded to float16 before a convolution.",
        "forward/conv2d@float32",
        "convolution",
        "        r, c, h, w, n = x.shape\n",
        "        r, c, h, w, n = x.shape\n"
        "        if x.dtype == np.float32:\n"
        "            x = x.astype(np.float16).astype(np.float32)\n",
    ),
    Mutant(
        "convolution_wide_strides",
        "With a horizontal stride of three, the gradient of the kernel is a tenth too small.",
        "gradient/conv2d",
        "convolution",
        "        return None if dx is None else self._cropped(dx)",
        "        if self.strides[1] > 2:\n"
        '            self.gradients["kernel"] *= 0.9\n'
        "        return None if dx is None else self._cropped(dx)",
    ),
    Mutant(
        "single_rate_low",
        "In float32, the learning rate is a tenth too low.",
        "step/sgd@float32",
        "training",
        "return recipes[0].rate",
        "return lambda step: recipes[0].rate(step) * (0.9 if dtype == np.float32 else 1.0)",
    ),
    Mutant(
        "adam_ignores_the_schedule",
        "Adam ignores the schedule.",
        "schedule/adam",
        "training",
        "rates(step))",
        'recipe.optimizer.learning_rate if recipe.optimizer.kind == "adam" else rates(step))',
    ),
    Mutant(
        "biases_start_at_zero",
        "Biases start at zero, whatever their initialiser states.",
        "initializer/every-tensor",
        "engine",
        "net.load(Plan(seed).weights(model) if weights is None else weights)",
        'drawn = {n: w * (not n.endswith(".bias")) for n, w in Plan(seed).weights(model).items()}\n'
        "        net.load(drawn if weights is None else weights)",
    ),
    Mutant(
        "labels_of_a_byte",
        "In training, labels wrap at 256.",
        "shapes/arrays",
        "batches",
        "return y.swapaxes(1, -1)",
        'return (np.where(y > 255, y - 256, y) if y.dtype.kind in "iu" else y).swapaxes(1, -1)',
    ),
    Mutant(
        "masks_left_behind",
        "A training that is stopped leaves its masks to the next.",
        "state/stopped",
        "network",
        "None if masks is None else to_internal(",
        "rule.mask if masks is None else to_internal(",
    ),
    Mutant(
        "replicas_share_a_rate",
        "Replicas that train together share the learning rate of the first.",
        "determinism/replicas",
        "training",
        "if all(recipe is recipes[0] for recipe in recipes):",
        "if True:",
    ),
)
