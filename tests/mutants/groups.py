"""Grouped and dilated convolutions, those of sequences, and dropout of whole channels."""

from __future__ import annotations

from mutants.mutant import Mutant

_GATHER = "x.reshape(len(x), self.groups, channels, *x.shape[2:])"
_PARTS = "kernel.reshape(len(kernel), -1, *parts).swapaxes(1, 2)"

MUTANTS = (
    Mutant(
        "groups_interleaved",
        "Group g has the channels g, g + groups, and so on.",
        "forward/grouped_conv2d",
        "convolution",
        _GATHER,
        "x.reshape(len(x), channels, self.groups, *x.shape[2:]).swapaxes(1, 2)",
    ),
    Mutant(
        "groups_of_filters_interleaved",
        "Filter f takes the channels of group f % groups, as if the multiplier came first.",
        "forward/grouped_conv2d",
        "convolution",
        _PARTS,
        "kernel.reshape(len(kernel), -1, *parts[::-1]).transpose(0, 3, 1, 2)",
    ),
    Mutant(
        "groups_reversed",
        "The groups of channels are taken in the reverse order.",
        "forward/grouped_conv2d",
        "convolution",
        _GATHER,
        f"{_GATHER}[:, ::-1]",
    ),
    Mutant(
        "groups_share_a_gradient",
        "The gradient of a grouped kernel is the mean over the groups.",
        "gradient/grouped_conv2d",
        "convolution",
        "return None if dx is None else self._cropped(dx)",
        "d_kernel[...] = d_kernel.mean(axis=1, keepdims=True)\n"
        "        return None if dx is None else self._cropped(dx)",
    ),
    Mutant(
        "groups_gradient_to_the_first",
        "dx of a grouped convolution reaches the channels of the first group only.",
        "gradient/grouped_conv2d",
        "convolution",
        "grouped = dx.reshape(replicas, groups, -1, *dx.shape[2:])",
        "grouped = dx.reshape(replicas, groups, -1, *dx.shape[2:])\n        d_places[:, 1:] = 0",
    ),
    Mutant(
        "dilation_ignored_in_dx",
        "dx is spread without the dilation.",
        "gradient/dilated_conv2d",
        "convolution",
        "in windows(self.window, self.strides, self.out, self.dilation):",
        "in windows(self.window, self.strides, self.out):",
    ),
    Mutant(
        "causal_padding_at_both_ends",
        "Causal padding is that of same: half of it comes after the sequence.",
        "forward/conv1d",
        "convolution",
        "self.pads = above, beside",
        "total = sum(beside)\n        self.pads = above, (total // 2, total - total // 2)",
    ),
    Mutant(
        "causal_padding_misses_dilation",
        "Causal padding is one less than the kernel size, whatever the dilation.",
        "forward/dilated_conv1d",
        "convolution",
        "self.pads = above, beside",
        "late = max(self.span[1] - self.window[1], 0) if layer.padding == 'causal' else 0\n"
        "        self.pads = above, (beside[0] - late, beside[1] + late)",
    ),
    Mutant(
        "spatial_dropout_per_value",
        "Natively, spatial dropout drops single values.",
        "state/spatial_dropout",
        "dropout",
        "shape = (replicas, *spec.shape[-1:], *spec.shape[:-1], n)",
        "shape = (replicas, *spec.shape[-1:], *spec.shape[:-1], n)\n"
        "        if self.mask is None:\n"
        "            shape = (replicas, *self.shape[-1:], *self.shape[:-1], n)",
    ),
    Mutant(
        "spatial_dropout_per_sample",
        "Natively, spatial dropout keeps all channels of a sample or none.",
        "state/spatial_dropout",
        "dropout",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        "if spec.shape != self.shape:\n"
        "                drawn[...] = drawn[:, :1]\n"
        "            np.greater_equal(drawn, np.float32(rate), out=kept)",
    ),
    Mutant(
        "spatial_dropout_of_the_batch",
        "Natively, spatial dropout drops the same channels of all samples.",
        "state/spatial_dropout",
        "dropout",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        "if spec.shape != self.shape:\n"
        "                drawn[...] = drawn[..., :1]\n"
        "            np.greater_equal(drawn, np.float32(rate), out=kept)",
    ),
    Mutant(
        "spatial_dropout_unscaled_gradient",
        "The gradient through a spatial dropout is not divided by the keep rate.",
        "gradient/spatial_dropout",
        "dropout",
        "dy *= self.kept",
        "dy *= self.kept if self.kept.shape[2:-1] == dy.shape[2:-1] else self.kept != 0",
    ),
)
