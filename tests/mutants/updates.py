"""Weight decay, clipping, gradient accumulation, moving averages and the schedules of today."""

from __future__ import annotations

from mutants.mutant import Mutant

_DECAYS = "or not decay.applies(tensor.name, len(tensor.shape))"
_DECAYING = "self.decaying = decaying(self.decay, net.model)"
_KEPT = "kept = 1.0 - learning_rate * decay.rate"
_SHRINK = (
    "for part in self.decaying:\n"
    "                parameters[:, part] *= kept\n"
    "        self.stepper.step(parameters, gradient, learning_rate)"
)
_CLIPS = "CLIPS[type(self.clip)](self.clip, gradient)"
_PENALTY_FIRST = (
    'if decay is not None and decay.coupling == "coupled" and decay.clipped:\n'
    "            self._add_penalty(decay)\n"
    "        if self.clip is not None:\n"
    f"            {_CLIPS}"
)
_SHARES = "_shares(recipe.loss, [source.targets(order, place) for place in places])"
_LOSSES = "for lost in epoch.add_replicas(losses, correct, failures):"

DECAY = (
    Mutant(
        "decay_of_biases",
        "Biases and the scales of norms decay too.",
        "step/adamw",
        "updates",
        _DECAYS,
        "",
    ),
    Mutant(
        "decay_of_embeddings",
        "Every matrix decays, an embedding too.",
        "step/decay-decoupled-kernels",
        "updates",
        _DECAYS,
        "or len(tensor.shape) < 2",
    ),
    Mutant(
        "coupled_decay_never_of_biases",
        "A coupled decay leaves out biases and the scales of norms, even if all tensors decay.",
        "step/decay-coupled-all",
        "updates",
        _DECAYS,
        f'{_DECAYS} or (decay.coupling == "coupled" and len(tensor.shape) < 2)',
    ),
    Mutant(
        "decoupled_decay_never_of_embeddings",
        "A decoupled decay of matrices leaves out embeddings.",
        "step/decay-decoupled-matrices",
        "updates",
        _DECAYS,
        f'{_DECAYS} or (decay.coupling == "decoupled" and "embeddings" in tensor.name)',
    ),
    Mutant(
        "nesterov_with_coupled_decay",
        "Nesterov's momentum takes a decoupled decay as a coupled one.",
        "step/decay-decoupled-matrices",
        "updates",
        _DECAYING,
        'if self.decay is not None and getattr(recipe.optimizer, "nesterov", False):\n'
        '            self.decay = WeightDecay(self.decay.rate, "coupled", self.decay.tensors)\n'
        f"        {_DECAYING}",
    ),
    Mutant(
        "decay_without_the_learning_rate",
        "A decoupled decay is not multiplied by the learning rate.",
        "step/adamw",
        "updates",
        _KEPT,
        "kept = 1.0 - decay.rate",
    ),
    Mutant(
        "decay_by_the_rate_of_the_recipe",
        "A decoupled decay has the learning rate of the optimiser, whatever the schedule says.",
        "schedule/adamw",
        "updates",
        _KEPT,
        "kept = 1.0 - self.stepper.optimizer.learning_rate * decay.rate",
    ),
    Mutant(
        "decay_after_the_update",
        "The weights decay after the update instead of before it.",
        "step/adamw",
        "updates",
        _SHRINK,
        "self.stepper.step(parameters, gradient, learning_rate)\n"
        "            for part in self.decaying:\n"
        "                parameters[:, part] *= kept\n"
        "        else:\n"
        "            self.stepper.step(parameters, gradient, learning_rate)",
    ),
    Mutant(
        "decoupled_decay_is_coupled",
        "A decoupled decay is added to the gradient, and passes through the moments.",
        "step/adamw",
        "updates",
        _SHRINK,
        "for part in self.decaying:\n"
        "                gradient[:, part] += decay.rate * parameters[:, part]\n"
        "        self.stepper.step(parameters, gradient, learning_rate)",
    ),
    Mutant(
        "coupled_decay_doubled",
        "The gradient of rate w^2 is added in place of that of rate w^2 / 2.",
        "step/decay-coupled-kernels",
        "updates",
        "decay.rate * self.net.parameters[:, part]",
        "2.0 * decay.rate * self.net.parameters[:, part]",
    ),
    Mutant(
        "coupled_decay_never_clipped",
        "A coupled decay is added after the clipping in every convention.",
        "step/decay-coupled-kernels",
        "updates",
        _PENALTY_FIRST,
        "if self.clip is not None:\n"
        f"            {_CLIPS}\n"
        '        if decay is not None and decay.coupling == "coupled" and decay.clipped:\n'
        "            self._add_penalty(decay)",
    ),
    Mutant(
        "loss_with_the_penalty",
        "The reported loss contains the penalty of a coupled decay.",
        "schedule/adamw",
        "training",
        _LOSSES,
        "if update.decay is not None:\n"
        "                losses = losses + update.decay.rate * (net.parameters**2).sum()\n"
        f"            {_LOSSES}",
    ),
)

CLIPPING = (
    Mutant(
        "clip_per_tensor",
        "Each tensor is clipped by its own norm.",
        "step/clip_norm-active",
        "updates",
        _CLIPS,
        "for each in self.net.gradients.values():\n"
        "                CLIPS[type(self.clip)](self.clip, each.reshape(len(each), -1))",
    ),
    Mutant(
        "clip_of_the_velocity",
        "The velocity is clipped instead of the gradient, where there is one.",
        "step/clip_norm-active",
        "updates",
        _CLIPS,
        'velocity = getattr(self.stepper, "velocity", None)\n'
        "            CLIPS[type(self.clip)](self.clip, gradient if velocity is None else velocity)",
    ),
    Mutant(
        "clip_norm_always_scales",
        "A gradient within the limit is scaled up to it.",
        "step/clip_norm-inactive",
        "updates",
        "np.minimum(scale, 1.0).astype",
        "(scale).astype",
    ),
    Mutant(
        "clip_norm_squared",
        "The limit is compared with the square of the norm.",
        "step/clip_norm-active",
        "updates",
        "norm = np.sqrt(np.square(gradient, dtype=np.float64).sum(axis=1, keepdims=True))",
        "norm = np.square(gradient, dtype=np.float64).sum(axis=1, keepdims=True)",
    ),
    Mutant(
        "clip_root_mean_square",
        "The limit is compared with the root of the mean of the squares.",
        "step/clip_norm-active",
        "updates",
        ".sum(axis=1, keepdims=True))",
        ".mean(axis=1, keepdims=True))",
    ),
    Mutant(
        "clip_epsilon_dropped",
        "The epsilon of torch's norm is left out.",
        "step/clip_norm-active",
        "updates",
        "np.maximum(norm + clip.epsilon,",
        "np.maximum(norm,",
        only="float64",
    ),
    Mutant(
        "clip_value_from_above",
        "Only values above the limit are clipped.",
        "step/clip_value-active",
        "updates",
        "np.clip(gradient, -clip.limit, clip.limit, out=gradient)",
        "np.minimum(gradient, clip.limit, out=gradient)",
    ),
)

AVERAGING = (
    Mutant(
        "average_starts_at_zero",
        "The average starts at zero, without a correction.",
        "step/average",
        "updates",
        "self.averages = self.net.parameters.copy()",
        "self.averages = (1.0 - decay) * self.net.parameters",
    ),
    Mutant(
        "average_decay_swapped",
        "The decay is the weight of the new values.",
        "step/average",
        "updates",
        "self.averages *= decay\n            self.averages += (1.0 - decay) * self.net.parameters",
        "self.averages *= 1.0 - decay\n            self.averages += decay * self.net.parameters",
    ),
    Mutant(
        "average_of_the_weights_before",
        "The average is updated before the weights are.",
        "step/average",
        "updates",
        "self.stepper.step(parameters, gradient, learning_rate)\n"
        "        if self.average is not None:\n"
        "            self._update_averages(self.average.decay)",
        "if self.average is not None:\n"
        "            self._update_averages(self.average.decay)\n"
        "        self.stepper.step(parameters, gradient, learning_rate)",
    ),
    Mutant(
        "average_of_matrices_alone",
        "Biases and the scales of norms are not averaged.",
        "step/average",
        "updates",
        "self.net.parameters[...] = self.averages",
        'for part in decaying(WeightDecay(1.0, tensors="matrices"), self.net.model):\n'
        "                self.net.parameters[:, part] = self.averages[:, part]",
    ),
    Mutant(
        "average_trained_on",
        "The updates of an epoch go on from the averages.",
        "step/average",
        "training",
        "update.resume()",
        "",
    ),
    Mutant(
        "average_at_the_end_alone",
        "The network gets the averages in the last epoch of the recipe alone.",
        "state/average-between-epochs",
        "training",
        "update.publish()",
        "if epoch.number == recipe.epochs:\n                update.publish()",
    ),
)

ACCUMULATION = (
    Mutant(
        "accumulation_divided_twice",
        "The sum of the weighted gradients is divided by the number of parts again.",
        "step/accumulate-2",
        "training",
        "net.gradient[...] = gradient",
        "net.gradient[...] = gradient / len(parts)",
    ),
    Mutant(
        "accumulation_never_divided",
        "The gradients of the parts are added up.",
        "step/accumulate-2",
        "training",
        "net.gradient *= share.astype(net.dtype).reshape(-1, 1)",
        "",
    ),
    Mutant(
        "accumulation_of_equal_parts",
        "A smaller last part counts like the others.",
        "step/accumulate-2",
        "training",
        _SHARES,
        "[np.full(1, 1 / len(parts)) for _ in parts]",
    ),
    Mutant(
        "accumulation_by_samples",
        "Parts are weighted by their samples, however many labels are ignored.",
        "step/accumulate-ignored_label",
        "training",
        _SHARES,
        "[np.full(1, (part.stop - part.start) / samples) for part in parts]",
    ),
    Mutant(
        "accumulation_forgets_the_last_part",
        "The gradient of the last part is dropped.",
        "step/accumulate-2",
        "training",
        "gradient += net.gradient",
        "gradient += net.gradient if part is not parts[-1] else 0.0",
    ),
    Mutant(
        "accumulation_repeats_the_masks",
        "Every part has the dropout masks of the first.",
        "step/accumulate-2",
        "training",
        "own = _part(masks, part)",
        "own = _part(masks, slice(0, part.stop - part.start))",
    ),
    Mutant(
        "accumulation_ignored",
        "Batches are never split: batch norm takes the statistics of all.",
        "step/accumulate-2",
        "training",
        "recipe.micro_batches(samples)",
        "[samples]",
    ),
    Mutant(
        "accumulation_moves_the_schedule",
        "The schedule counts parts instead of updates.",
        "trajectory/native-accumulate-2",
        "training",
        "rates(step))",
        "rates(step * (recipe.accumulate or 1)))",
    ),
    Mutant(
        "loss_of_the_last_part",
        "The loss of a batch is that of its last part.",
        "step/accumulate-equals-batch",
        "training",
        "losses, correct = losses + share * loss, correct + right",
        "losses, correct = loss, correct + right",
    ),
)

SCHEDULES = (
    Mutant(
        "rate_of_zero_is_none",
        "A learning rate of zero counts as missing, and is that of the optimiser.",
        "schedule/warm_up",
        "training",
        "return recipes[0].rate",
        "return lambda step: recipes[0].rate(step) or recipes[0].optimizer.learning_rate",
    ),
    Mutant(
        "schedule_of_each_epoch",
        "The schedule starts anew in every epoch.",
        "schedule/triangular",
        "training",
        "rates(step))",
        "rates(step - epoch.first))",
    ),
    Mutant(
        "rate_never_falls",
        "The learning rate only rises, as if the warm-up were all.",
        "schedule/triangular",
        "training",
        "return recipes[0].rate",
        "return lambda step: max(map(recipes[0].rate, range(step + 1)))",
    ),
    Mutant(
        "warm_up_at_the_rate_of_the_optimizer",
        "The learning rate never exceeds that of the optimiser.",
        "schedule/triangular",
        "training",
        "return recipes[0].rate",
        "own = recipes[0].optimizer.learning_rate\n"
        "        return lambda step: min(recipes[0].rate(step), own)",
    ),
    Mutant(
        "schedule_is_one_step_late",
        "Every update but the first has the learning rate of the one before.",
        "schedule/triangular",
        "training",
        "rates(step))",
        "rates(max(step - 1, 0)))",
    ),
)


def _torch(name: str, what: str, check: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"torch_{name}", what, check, file, old, new, package="torch")


TORCH = (
    _torch(
        "decay_of_all",
        "All parameters are given to the optimiser with one decay.",
        "step/adamw",
        "optimizers",
        "if decay is not None and decay.applies(name, tensor.ndim)",
        "if decay is not None",
    ),
    _torch(
        "adam_for_adamw",
        "AdamW is Adam with a weight_decay.",
        "step/adamw",
        "optimizers",
        "True: torch.optim.AdamW",
        "True: torch.optim.Adam",
    ),
    _torch(
        "decay_left_to_torch",
        "A decoupled decay is SGD's and RMSprop's weight_decay, which is coupled.",
        "step/decay-decoupled-kernels",
        "optimizers",
        "own = is_decoupled(decay) and not isinstance(record, OWN_DECAY)",
        "own = False",
    ),
    _torch(
        "clip_of_each_parameter",
        "The norm of each parameter is clipped.",
        "step/clip_norm-active",
        "updates",
        "torch.nn.utils.clip_grad_norm_(parameters, clip.limit)",
        "[torch.nn.utils.clip_grad_norm_([each], clip.limit) for each in parameters]",
    ),
    _torch(
        "clip_after_the_step",
        "The gradient is clipped when it has been used.",
        "step/clip_norm-active",
        "training",
        "if recipe.clip is not None:\n"
        "            CLIPS[type(recipe.clip)](recipe.clip, parameters)\n"
        "        optimizer.step(rate)",
        "optimizer.step(rate)\n"
        "        if recipe.clip is not None:\n"
        "            CLIPS[type(recipe.clip)](recipe.clip, parameters)",
    ),
    _torch(
        "parts_not_weighted",
        "Two parts of a batch count alike, whatever their sizes.",
        "step/accumulate-2",
        "updates",
        "loss if self.share == 1.0 else loss * self.share",
        "loss if self.share == 1.0 else loss / 2",
    ),
    _torch(
        "parts_weighted_by_samples",
        "Parts of a batch are weighted by their samples, however many labels are ignored.",
        "step/accumulate-ignored_label",
        "updates",
        "if isinstance(recipe.loss, CrossEntropy) and recipe.loss.is_weighted:",
        "if False:",
    ),
    _torch(
        "average_starts_with_decay",
        "The average starts at zero.",
        "step/average",
        "updates",
        "torch.ones_like(tensor[..., :1].flatten()[0])",
        "torch.full_like(tensor[..., :1].flatten()[0], 1.0 - record.decay)",
    ),
)

MUTANTS = (*DECAY, *CLIPPING, *AVERAGING, *ACCUMULATION, *SCHEDULES, *TORCH)
