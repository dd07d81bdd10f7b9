"""The losses and the accuracies."""

from __future__ import annotations

from mutants.mutant import Mutant

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
        "gradient/network",
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
)
