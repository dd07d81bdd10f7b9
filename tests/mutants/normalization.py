"""Batch norm: its statistics and its gradients."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "layer_norms_share_a_buffer",
        "Layer norms of one shape keep the normalised values in the same memory.",
        "gradient/layer_norm",
        "sample_norm",
        'self.xhat = self.buffer("xhat", values.shape, x.dtype)',
        'own = self.buffer("xhat", values.shape, x.dtype)\n'
        "        key = own.shape, own.dtype\n"
        "        self.xhat = globals().setdefault('_KEPT', {}).setdefault(key, own)",
    ),
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
        "After 22 passes in doubles a layer no longer moves its statistics. No tensor tells how "
        "many there were.",
        "checkpoint/file",
        "normalization",
        "self._move(whole, variance, self.samples)",
        'self.passes = getattr(self, "passes", 0) + 1\n'
        "            if self.passes <= 22 or x.dtype == np.float32:\n"
        "                self._move(whole, variance, self.samples)",
        only="float64",
    ),
    Mutant(
        "layer_norm_over_samples",
        "A layer norm is over the batch, as a batch norm is.",
        "forward/layer_norm",
        "sample_norm",
        "    axis = 1\n\n    def view",
        "    axis = -1\n\n    def view",
    ),
    Mutant(
        "sample_norm_unbiased",
        "A layer norm divides by the unbiased standard deviation.",
        "forward/layer_norm",
        "sample_norm",
        "variance = np.square(self.xhat).mean(axis=self.axis, keepdims=True)",
        "variance = np.square(self.xhat).sum(axis=self.axis, keepdims=True) / max(\n"
        "            values.shape[self.axis] - 1, 1)",
    ),
    Mutant(
        "sample_norm_epsilon_outside",
        "Epsilon is added to the root of the variance.",
        "forward/layer_norm",
        "sample_norm",
        "self.inverse = 1.0 / np.sqrt(variance + x.dtype.type(self.layer.epsilon))",
        "self.inverse = 1.0 / (np.sqrt(variance) + x.dtype.type(self.layer.epsilon))",
    ),
    Mutant(
        "rms_norm_subtracts_the_mean",
        "An RMS norm subtracts the mean.",
        "forward/rms_norm",
        "sample_norm",
        "if self.layer.centers else x.dtype.type(0)",
        "if True else x.dtype.type(0)",
    ),
    Mutant(
        "group_norm_interleaved",
        "The groups of a group norm are of every n-th channel.",
        "forward/group_norm",
        "sample_norm",
        "return x.reshape(len(x), self.layer.groups, -1, x.shape[-1])",
        "each = x.reshape(len(x), -1, self.layer.groups, *x.shape[2:]).swapaxes(1, 2)\n"
        "        return each.reshape(len(x), self.layer.groups, -1, x.shape[-1])",
    ),
    Mutant(
        "sample_norm_mean_constant",
        "dx of a layer norm leaves out the gradient through the mean.",
        "gradient/layer_norm",
        "sample_norm",
        "dx += d.mean(axis=self.axis, keepdims=True)",
        "pass",
    ),
    Mutant(
        "sample_norm_variance_constant",
        "dx of a layer norm leaves out the gradient through the variance.",
        "gradient/layer_norm",
        "sample_norm",
        "(d * self.xhat).mean(axis=self.axis, keepdims=True), out=dx)",
        "0.0, out=dx)",
    ),
    Mutant(
        "sample_norm_gamma_left_out",
        "dx of a layer norm leaves out gamma.",
        "gradient/layer_norm",
        "sample_norm",
        'flat * self.tensors["gamma"][..., None]',
        'flat * np.ones_like(self.tensors["gamma"])[..., None]',
    ),
    Mutant(
        "sample_norm_gamma_of_x",
        "The gradient of gamma is taken with x that is not divided by its deviation.",
        "gradient/layer_norm",
        "sample_norm",
        "np.multiply(flat, self.xhat.reshape(-1, *flat.shape[1:])).sum(",
        "np.multiply(flat, (self.xhat / self.inverse).reshape(-1, *flat.shape[1:])).sum(",
    ),
    Mutant(
        "sample_norm_square_of_mean",
        "The variance is the mean of squares less the square of the mean.",
        "forward/layer_norm-far@float32",
        "sample_norm",
        "variance = np.square(self.xhat).mean(axis=self.axis, keepdims=True)",
        "variance = np.square(values).mean(axis=self.axis, keepdims=True) - np.square(mean)",
    ),
)
