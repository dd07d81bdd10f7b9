"""Batch norm: its statistics and its gradients."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "batch_norm_unbiased_variance",
        "A batch is normalised by its unbiased variance.",
        "forward/batch_norm",
        "normalization",
        "variance = squares / self.samples",
        "variance = squares / max(self.samples - 1, 1)",
    ),
    Mutant(
        "batch_norm_epsilon_outside",
        "Epsilon is added to the root instead of under it.",
        "forward/batch_norm",
        "normalization",
        "1.0 / np.sqrt(variance + x.dtype.type(self.layer.epsilon))",
        "1.0 / (np.sqrt(variance) + x.dtype.type(self.layer.epsilon))",
    ),
    Mutant(
        "batch_norm_eval_uses_batch",
        "Predictions use the statistics of the batch.",
        "forward/batch_norm",
        "normalization",
        'return self._normalised(x, self.tensors["moving_mean"], self.tensors["moving_variance"])',
        "return self._normalised(x, rows(x).mean(axis=-1), rows(x).var(axis=-1))",
    ),
    Mutant(
        "batch_norm_moves_in_eval",
        "Predictions update the moving statistics.",
        "forward/large-batch_norm",
        "normalization",
        "        return y.reshape(-1, *x.shape[1:])",
        "        if not self.training:\n"
        "            self._move(flat.mean(axis=-1), flat.var(axis=-1), flat.shape[-1])\n"
        "        return y.reshape(-1, *x.shape[1:])",
    ),
    Mutant(
        "batch_norm_decay_swapped",
        "The weights of the old and the new moving statistics are swapped.",
        "state/batch_norm",
        "normalization",
        "moving *= self.layer.moving_decay\n            moving += (1.0 - self.layer.moving_decay) "
        "* now",
        "moving *= 1.0 - self.layer.moving_decay\n            moving += self.layer.moving_decay * "
        "now",
    ),
    Mutant(
        "batch_norm_moving_variance_unbiased",
        "The unbiased variance moves the statistic, whatever the convention.",
        "state/batch_norm",
        "normalization",
        'if self.layer.moving_variance == "unbiased":',
        "if True:",
    ),
    Mutant(
        "batch_norm_moving_variance_biased",
        "The biased variance moves the statistic, whatever the convention.",
        "state/batch_norm",
        "normalization",
        'if self.layer.moving_variance == "unbiased":',
        "if False:",
    ),
    Mutant(
        "batch_norm_moving_mean_forgotten",
        "The moving mean is not updated.",
        "state/batch_norm",
        "normalization",
        'in ((self.tensors["moving_mean"], mean), (self.tensors["moving_variance"], variance)):',
        'in ((self.tensors["moving_variance"], variance),):',
    ),
    Mutant(
        "batch_norm_dx_not_through_variance",
        "dx treats the variance as a constant.",
        "gradient/batch_norm",
        "normalization",
        "dx -= through_variance",
        "pass",
    ),
    Mutant(
        "batch_norm_dx_not_through_mean",
        "dx treats the mean as a constant.",
        "gradient/batch_norm",
        "normalization",
        "dx -= (scale * d_beta / self.samples + self.offset * slope)[..., None]",
        "pass",
    ),
    Mutant(
        "batch_norm_gamma_gradient",
        "The gradient of gamma uses the centred values, not the normalised ones.",
        "gradient/batch_norm",
        "normalization",
        "np.multiply(dots(flat, self.centred, dy.shape[-1]) + self.offset * d_beta, self.inverse, "
        "out=d_gamma)",
        "d_gamma[...] = dots(flat, self.centred, dy.shape[-1])",
    ),
    Mutant(
        "batch_norm_gradient_always_in_training",
        "In inference, dx passes through the statistics of the batch.",
        "gradient/batch_norm",
        "normalization",
        "self.training, self.offset = False, x.dtype.type(0)",
        "self.training, self.samples, self.offset = True, rows(x).shape[-1], x.dtype.type(0)",
    ),
    Mutant(
        "batch_norm_frozen_after_passes",
        "After 16 passes in doubles a layer no longer moves its statistics. No tensor tells how "
        "many there were.",
        "checkpoint/file",
        "normalization",
        "self._move(whole, variance, self.samples)",
        'self.passes = getattr(self, "passes", 0) + 1\n'
        "            if self.passes <= 16 or x.dtype == np.float32:\n"
        "                self._move(whole, variance, self.samples)",
        only="float64",
    ),
)
