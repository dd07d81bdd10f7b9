"""Limits on what users choose freely: positions, heads, windows, groups, branches, inputs, classes,
parts of a batch and tensors. No small example reaches them."""

from __future__ import annotations

from mutants.mutant import Mutant

_LARGEST = "scores -= scores.max(axis=-1, keepdims=True)"
_MIXED = "self.mixed = self._joined(self.used @ self.value)"
_KERNEL = "        return None if dx is None else self._cropped(dx)"
_GATHERED = "return x.reshape(len(rows), *self.shape, -1)"
_INWARD = "arrays = input_arrays(net.model, x, self.dtype, leading=2)"
_BIAS = '            y += self.tensors["bias"][..., None]\n'


def _without(axes: int, part: str) -> str:
    """The inputs of a batch with zeros in a part, if a sample has this number of axes."""
    return (
        "found = x.reshape(len(rows), *self.shape, -1)\n"
        f"        if len(self.shape) == {axes}:\n"
        f"            found[{part}] = 0\n"
        "        return found"
    )


MUTANTS = (
    Mutant(
        "attention_of_four_keys",
        "The keys beyond the fourth have no weight.",
        "forward/large-multi_head_attention",
        "attention",
        _LARGEST,
        f"scores[..., 4:] = -np.inf\n        {_LARGEST}",
    ),
    Mutant(
        "attention_of_16_keys_with_dropout",
        "With dropout, the keys beyond the 16th have no weight.",
        "forward/large-multi_head_attention",
        "attention",
        "self.used = scores if self.kept is None else scores * self.kept",
        "self.used = scores if self.kept is None else scores * self.kept * ("
        "np.arange(scores.shape[-1]) < 16)",
    ),
    Mutant(
        "attention_of_eight_heads",
        "The heads beyond the eighth are zero.",
        "forward/large-multi_head_attention",
        "attention",
        _MIXED,
        "mixed = self.used @ self.value\n"
        "        mixed[:, 8:] = 0\n"
        "        self.mixed = self._joined(mixed)",
    ),
    Mutant(
        "numba_attention_of_16_keys",
        "In the kernel for short sequences, the keys beyond the 16th have no weight.",
        "forward/large-multi_head_attention",
        "attention",
        "count, own = i + 1 if causal else s_, (one * t_ + i) * line + n\n                at,",
        "count = min(i + 1 if causal else s_, 16)\n"
        "                own = (one * t_ + i) * line + n\n                at,",
        package="numba",
    ),
    Mutant(
        "dense_bias_of_16_positions",
        "The bias is not added at the positions of a sequence beyond the 16th.",
        "forward/large-dense",
        "dense",
        _BIAS,
        f"{_BIAS}"
        "            if len(after) == 2:\n"
        "                late = y.reshape(*y.shape[:2], *after)[:, :, 16:]\n"
        '                late -= self.tensors["bias"][..., None, None]\n',
    ),
    Mutant(
        "training_of_16_positions",
        "In training, the inputs at the positions of a sequence beyond the 16th are zero.",
        "trajectory/fit-large-sequences",
        "batches",
        _GATHERED,
        _without(2, ":, :, 16:"),
    ),
    Mutant(
        "training_of_256_images",
        "In training, the images of a batch beyond the 256th are black.",
        "trajectory/batches-of-512-images",
        "batches",
        _GATHERED,
        _without(3, "..., 256:"),
    ),
    Mutant(
        "convolution_of_six_rows",
        "The rows of a kernel beyond the sixth have no gradient.",
        "gradient/large-conv2d",
        "convolution",
        _KERNEL,
        f'        self.gradients["kernel"][:, 6:] = 0\n{_KERNEL}',
    ),
    Mutant(
        "convolution_of_eight_groups",
        "The filters of the groups beyond the eighth have no gradient.",
        "gradient/large-grouped_conv2d",
        "convolution",
        _KERNEL,
        "        first = 8 * self.layer.filters // self.groups\n"
        f'        self.gradients["kernel"][..., first:] = 0\n{_KERNEL}',
    ),
    Mutant(
        "average_of_16_values",
        "An average pool divides by 16 if its window has more values.",
        "forward/large-average_pool",
        "pooling",
        "y *= y.dtype.type(1.0 / (len(others) + 1))",
        "y *= y.dtype.type(1.0 / min(len(others) + 1, 16))",
    ),
    Mutant(
        "maximum_of_16_values",
        "A max pool leaves out the values of a window beyond the 16th.",
        "forward/large-max_pool",
        "pooling",
        "enumerate(others, start=1)",
        "enumerate(others[:15], start=1)",
    ),
    Mutant(
        "six_groups_of_channels",
        "A group norm has at most six groups.",
        "forward/large-group_norm",
        "sample_norm",
        "return x.reshape(len(x), self.layer.groups, -1, x.shape[-1])",
        "return x.reshape(len(x), min(self.layer.groups, 6), -1, x.shape[-1])",
    ),
    Mutant(
        "addition_of_four",
        "An addition leaves out inputs beyond the fourth.",
        "forward/large-add",
        "merging",
        "for other in others:",
        "for other in others[:2]:",
    ),
    Mutant(
        "concatenation_of_four_backward",
        "The inputs of a concatenation beyond the fourth have no gradient.",
        "gradient/large-concat",
        "merging",
        "np.copyto(dx, part)",
        "np.copyto(dx, part if number < 4 else 0)",
    ),
    Mutant(
        "eight_inputs",
        "The named inputs beyond the eighth are zero.",
        "gradient/large-inputs",
        "engine",
        _INWARD,
        f"{_INWARD}\n        arrays = [each * (place < 8) for place, each in enumerate(arrays)]",
    ),
    Mutant(
        "training_of_eight_inputs",
        "In training, the named inputs beyond the eighth are zero.",
        "trajectory/fit-large-inputs",
        "batches",
        "x = [own.batch(order, here, shard) for own in self.inputs]",
        "x = [own.batch(order, here, shard) for own in self.inputs]\n"
        "        x = [each * (place < 8) for place, each in enumerate(x)]",
    ),
    Mutant(
        "cross_entropy_of_128_classes",
        "The outputs of the classes beyond the 128th have no gradient.",
        "loss/large-categorical_crossentropy",
        "losses",
        "d /= math.prod(outputs.shape[2:])",
        "d /= math.prod(outputs.shape[2:])\n    d[:, 128:] = 0",
    ),
    Mutant(
        "cross_entropy_of_128_weights",
        "With an option of the loss, the outputs of the classes beyond the 128th have no gradient.",
        "loss/large-categorical_crossentropy",
        "losses",
        "d /= divisors.reshape(-1, *(1 for _ in outputs.shape[1:]))",
        "d /= divisors.reshape(-1, *(1 for _ in outputs.shape[1:]))\n    d[:, 128:] = 0",
    ),
    Mutant(
        "four_parts_of_a_batch",
        "The parts of a batch beyond the fourth are left out.",
        "step/accumulate-9",
        "training",
        "zip(parts, places, shares, strict=True)",
        "zip(parts[:4], places[:4], shares[:4], strict=True)",
    ),
    Mutant(
        "norm_of_500_values",
        "The norm by which a gradient is clipped is that of its first 500 values.",
        "step/tensors-130",
        "updates",
        "np.square(gradient, dtype=np.float64)",
        "np.square(gradient[:, :500], dtype=np.float64)",
    ),
    Mutant(
        "averages_of_500_values",
        "The averages of the parameters beyond the 500th are the parameters.",
        "step/tensors-130",
        "updates",
        "self.averages += (1.0 - decay) * self.net.parameters",
        "self.averages += (1.0 - decay) * self.net.parameters\n"
        "            self.averages[:, 500:] = self.net.parameters[:, 500:]",
    ),
    Mutant(
        "decay_of_16_tensors",
        "At most 16 tensors decay.",
        "step/tensors-130",
        "updates",
        "found.append(slice(start, end))",
        "found.extend([slice(start, end)] * (len(found) < 16))",
    ),
    Mutant(
        "overflow_in_32_tensors",
        "An overflow is looked for in the first 32 tensors.",
        "step/loss_scale-overflow-later",
        "updates",
        "finite = bool(np.isfinite(gradient).all())",
        "first = list(self.net.gradients.values())[:32]\n"
        "        finite = all(np.isfinite(each).all() for each in first)",
    ),
)
