"""The losses and the accuracies."""

from __future__ import annotations

from mutants.mutant import Mutant

_CE, _SPARSE = "loss/categorical_crossentropy", "evaluation/sparse_categorical_crossentropy"

_SMOOTHING = (
    "loss.label_smoothing / outputs.shape[1], outputs.dtype)\n"
    "    right = np.take_along_axis(targets, labels, axis=1) + 1 - loss.label_smoothing"
)
_KEPT = "targets *= kept\n"
_DIVISORS = "divisors = total_weight(loss, y).astype(outputs.dtype)"

MUTANTS = (
    Mutant(
        "cross_entropy_gradient_not_averaged",
        "The gradient of the cross-entropy is summed over the batch: 1/N is missing.",
        "gradient/network",
        "losses",
        "d /= math.prod(outputs.shape[2:])",
        "pass",
    ),
    Mutant(
        "cross_entropy_label_smoothing",
        "Labels are smoothed: a tenth of each is distributed over all classes.",
        "gradient/network",
        "losses",
        "np.take_along_axis(d, picked, axis=1) - 1, axis=1)",
        "np.take_along_axis(d, picked, axis=1) - 0.9, axis=1)\n    d -= 0.1 / d.shape[1]",
    ),
    Mutant(
        "cross_entropy_overflows",
        "The largest output is not subtracted, and the loss is NaN for large outputs.",
        "loss/categorical_crossentropy",
        "losses",
        "shifted = outputs - outputs.max(axis=1, keepdims=True)\n"
        "    d = np.exp(shifted)\n"
        "    total = d.sum(axis=1, keepdims=True)\n"
        "    value = (np.log",
        "shifted = outputs\n"
        "    d = np.exp(shifted)\n"
        "    total = d.sum(axis=1, keepdims=True)\n"
        "    value = (np.log",
    ),
    Mutant(
        "cross_entropy_clipped",
        "Probabilities are clipped at 1e-7, so the loss is bounded.",
        "loss/categorical_crossentropy",
        "losses",
        "(np.log(total) - np.take_along_axis(shifted, picked, axis=1)).mean(axis=_over(shifted))",
        "np.minimum(np.log(total) - np.take_along_axis(shifted, picked, axis=1), "
        "-np.log(1e-7)).mean(axis=_over(shifted))",
    ),
    Mutant(
        "squared_error_not_averaged_over_outputs",
        "The mean squared error is averaged over the samples alone.",
        "gradient/dense",
        "losses",
        "count = math.prod(d.shape[1:])",
        "count = d.shape[-1]",
    ),
    Mutant(
        "half_squared_error_gradient_clipped",
        "The gradient of the half squared error is clipped at a hundred.",
        "loss/half_mean_squared_error",
        "losses",
        "/ (2 * d.shape[-1]), d / d.shape[-1]",
        "/ (2 * d.shape[-1]), np.clip(d, -100, 100) / d.shape[-1]",
    ),
    Mutant(
        "hinge_not_flat",
        "The margin losses are not flat beyond their margin.",
        "gradient/inputs",
        "losses",
        "np.where(short > 0, -signs, 0)",
        "np.where(short > -1, -signs, 0)",
    ),
    Mutant(
        "accuracy_ties_last",
        "Of equal outputs, the last is the prediction.",
        "evaluation/ties",
        "losses",
        "outputs.argmax(axis=1)",
        "outputs.shape[1] - 1 - outputs[:, ::-1].argmax(axis=1)",
    ),
    Mutant(
        "accuracy_zero_is_positive",
        "An output of zero counts as positive.",
        "evaluation/ties",
        "losses",
        "np.sign(outputs[:, 0])",
        "np.where(outputs[:, 0] >= 0, 1, -1)",
    ),
    Mutant(
        "smoothing_over_the_other_classes",
        "Labels are smoothed over the K - 1 classes that are wrong.",
        f"{_CE}-label_smoothing",
        "losses",
        _SMOOTHING,
        "loss.label_smoothing / max(outputs.shape[1] - 1, 1), outputs.dtype)\n"
        "    right = np.full(labels.shape, 1 - loss.label_smoothing, outputs.dtype)",
    ),
    Mutant(
        "smoothing_without_the_label",
        "The label keeps its share of 1 - s alone, so that the targets do not sum to one.",
        f"{_CE}-label_smoothing",
        "losses",
        _SMOOTHING,
        "loss.label_smoothing / outputs.shape[1], outputs.dtype)\n"
        "    right = np.full(labels.shape, 1 - loss.label_smoothing, outputs.dtype)",
    ),
    Mutant(
        "ignored_labels_in_the_divisor",
        "The mean divides by all labels, also by those that are ignored.",
        f"{_CE}-ignored_label",
        "losses",
        _DIVISORS,
        "divisors = np.full(len(y), float(np.prod(y.shape[1:]))).astype(outputs.dtype)",
    ),
    Mutant(
        "nothing_kept_is_nan",
        "A batch in which every label is ignored divides zero by zero.",
        f"{_CE}-ignored_label",
        "losses",
        "divisors = np.where(divisors > 0, divisors, 1)",
        'with np.errstate(invalid="ignore"):\n'
        "        divisors = np.where(divisors > 0, divisors, np.nan)",
    ),
    Mutant(
        "ignored_labels_are_smoothed",
        "An ignored label keeps what smoothing gives to every class.",
        f"{_CE}-label_smoothing-ignored_label-class_weights",
        "losses",
        _KEPT,
        "targets = np.where(kept, targets, loss.label_smoothing / outputs.shape[1])\n",
    ),
    Mutant(
        "ignored_label_zero_is_none",
        "The ignored label is compared with zero, as padding often is, instead of with the option.",
        f"{_CE}-ignored_label",
        "losses",
        _KEPT,
        "targets *= y[:, None] != min(loss.ignored_label or 0, 0)\n",
    ),
    Mutant(
        "class_weights_squared",
        "The weights of the classes are applied twice.",
        f"{_CE}-class_weights",
        "losses",
        "weights = np.array(loss.class_weights, outputs.dtype)",
        "weights = np.array(loss.class_weights, outputs.dtype) ** 2",
    ),
    Mutant(
        "class_weights_in_the_divisor",
        "The mean divides by the sum of the weights, whatever the convention.",
        f"{_CE}-class_weights",
        "losses",
        _DIVISORS,
        'divisors = total_weight(type(loss)(**(vars(loss) | {"weighting": "classes"})), y)',
    ),
    Mutant(
        "class_weights_only_of_the_label",
        "With smoothing, every class has the weight of the label, whatever the convention.",
        f"{_CE}-label_smoothing-ignored_label-class_weights",
        "losses",
        'if loss.weighting == "samples" else by_class',
        "if by_class.size else by_class",
    ),
    Mutant(
        "ignored_answers_may_be_correct",
        "An ignored label counts as a correct answer if the network predicts it.",
        f"{_SPARSE}-ignored_label",
        "losses",
        "right &= kept_answers(loss, y)",
        "pass",
    ),
    Mutant(
        "running_loss_weighted_by_samples",
        "The running loss weighs a batch by its samples, not by the labels kept.",
        f"{_SPARSE}-ignored_label",
        "../epochs",
        "weights = list(self.weights.by_batch(self.used, self.sizes).weights.T)",
        "weights = self.sizes",
    ),
    Mutant(
        "accuracy_over_all_answers",
        "The running accuracy divides by all answers, also by those that are ignored.",
        f"{_SPARSE}-ignored_label",
        "../epochs",
        "return self.weights.by_batch(self.used, self.sizes).kept.sum(axis=1)",
        "return sum(self.sizes)",
    ),
    Mutant(
        "weights_of_other_samples",
        "The weights of the batches are those of the samples before they are shuffled.",
        f"{_SPARSE}-ignored_label",
        "../epochs",
        "weights = list(self.weights.by_batch(self.used, self.sizes).weights.T)",
        "weights = list(self.weights.by_batch(None, self.sizes).weights.T)",
    ),
    Mutant(
        "sequences_not_averaged",
        "The gradient of a sequence is summed over its positions.",
        f"{_CE}-positions",
        "losses",
        "d /= math.prod(outputs.shape[2:])",
        "d /= outputs.shape[-1]",
    ),
    Mutant(
        "mean_of_the_means_of_sequences",
        "The loss is the mean over the samples of the mean over the labels that each keeps.",
        f"{_CE}-ignored_label-positions",
        "losses",
        _KEPT,
        "targets *= kept\n"
        "    if kept.ndim > 3:\n"
        "        share = kept.sum() / kept.shape[-1]\n"
        "        targets *= share / np.maximum(kept.sum(axis=2, keepdims=True), 1)\n",
    ),
    Mutant(
        "only_whole_sequences_are_correct",
        "An answer counts if all positions of its sample are correct.",
        f"{_SPARSE}-positions",
        "losses",
        "right = _answers(loss, outputs) == y",
        "right = _answers(loss, outputs) == y\n"
        "    right = right & (right.all(axis=1, keepdims=True) if right.ndim == 3 else True)",
    ),
    Mutant(
        "accuracy_of_sequences_by_samples",
        "The accuracy divides by the samples, not by their positions.",
        "evaluation/binary_crossentropy",
        "../epochs",
        "each = answers_per_sample(self.recipe.loss, self.model.output_shape)",
        "each = 1",
    ),
    Mutant(
        "labels_of_the_next_position",
        "In training, labels are those of the position before.",
        "shapes/layout-of-targets",
        "batches",
        "return targets(self.y[:, here])",
        "y = self.y[:, here]\n"
        "            labels = y.ndim > 2 and y.dtype == np.int64\n"
        "            return targets(np.roll(y, 1, 2) if labels else y)",
    ),
    Mutant(
        "binary_overflows",
        "The binary cross-entropy takes the exponential of the outputs.",
        "loss/binary_crossentropy",
        "losses",
        "value = np.maximum(outputs, 0) - y * outputs + np.log1p(small)",
        'with np.errstate(over="ignore"):\n        value = np.log1p(np.exp(outputs)) - y * outputs',
    ),
    Mutant(
        "binary_clipped",
        "Probabilities are clipped at 1e-7, so the binary cross-entropy is bounded.",
        "loss/binary_crossentropy",
        "losses",
        "+ np.log1p(small)",
        "+ np.log1p(small)\n    value = np.minimum(value, -np.log(1e-7))",
    ),
    Mutant(
        "binary_summed_over_outputs",
        "The gradient of the binary cross-entropy is summed over the outputs.",
        "gradient/network",
        "losses",
        "(sigmoid - y) / math.prod(outputs.shape[1:])",
        "(sigmoid - y) / outputs.shape[-1]",
    ),
    Mutant(
        "binary_threshold_of_a_half",
        "Outputs, which are logits, predict 1 above one half.",
        "evaluation/binary_crossentropy",
        "losses",
        "else outputs > 0",
        "else outputs > 0.5",
    ),
    Mutant(
        "binary_zero_is_one",
        "An output of zero predicts 1.",
        "evaluation/ties",
        "losses",
        "else outputs > 0",
        "else outputs >= 0",
    ),
    Mutant(
        "huber_delta_not_multiplied",
        "Beyond delta, the gradient of Huber's loss is the sign of the error.",
        "loss/huber",
        "losses",
        "d / math.prod(d.shape[1:])\n\n\ndef _margin",
        "np.where(np.abs(error) > loss.delta, np.sign(error), d) / math.prod(d.shape[1:])\n\n\n"
        "def _margin",
    ),
    Mutant(
        "huber_delta_of_one",
        "Huber's loss has a delta of one, whatever the record says.",
        "loss/huber",
        "losses",
        "d = np.clip(error, -loss.delta, loss.delta)",
        "d = np.clip(error, -1, 1)",
    ),
    Mutant(
        "huber_not_halved",
        "Huber's loss is the square of the error within delta, and its gradient half its slope.",
        "gradient/network",
        "losses",
        "return (d * (error - d / 2))",
        "return (d * (2 * error - d))",
    ),
    Mutant(
        "huber_is_smooth_l1",
        "Huber's loss is divided by delta, as torch's SmoothL1Loss is.",
        "loss/huber",
        "losses",
        "(d * (error - d / 2)).mean(axis=_over(d)), d / math.prod(d.shape[1:])",
        "(d * (error - d / 2)).mean(axis=_over(d)) / loss.delta, (\n"
        "        d / loss.delta / math.prod(d.shape[1:])\n"
        "    )",
    ),
)
