"""Mistakes at the sizes of real networks, in the smallest cases, and for arrays in other memory
layouts."""

from __future__ import annotations

from mutants.mutant import Mutant

_LOAD = "net.load(Plan(seed).weights(model) if weights is None else weights)"
_STEP = "update.step(rates(step))"
_RETURN = "return outputs"
_PREDICTED = (
    "net.forward(self._inward(net, x[:, here]), training=False)\n"
    "                )\n"
    f"        {_RETURN}"
)


def _as_in_memory(values: str) -> str:
    """The values in the order in which they lie in memory."""
    return f'np.reshape(np.ravel({values}, "K"), np.shape({values}))'


MUTANTS = (
    Mutant(
        "dense_forgets_rows",
        "The kernel rows of a dense layer beyond the 640th have no gradient.",
        "gradient/large-dense",
        "dense",
        'np.matmul(self.x, dy.swapaxes(1, 2), out=self.gradients["kernel"])',
        'np.matmul(self.x, dy.swapaxes(1, 2), out=self.gradients["kernel"])\n'
        '        self.gradients["kernel"][:, 640:] = 0',
    ),
    Mutant(
        "convolution_forgets_channels",
        "The kernel of a convolution has no gradient for input channels beyond the 64th.",
        "gradient/large-conv2d",
        "convolution",
        "        return None if dx is None else self._cropped(dx)",
        '        self.gradients["kernel"][..., 64:, :] = 0\n'
        "        return None if dx is None else self._cropped(dx)",
    ),
    Mutant(
        "dense_repeats_samples",
        "A dense layer repeats its first outputs beyond the 256th sample.",
        "forward/large-dense",
        "dense",
        '            y += self.tensors["bias"][..., None]\n',
        '            y += self.tensors["bias"][..., None]\n'
        "        if y.shape[-1] in range(257, 513):\n"
        "            y[..., 256:] = y[..., : y.shape[-1] - 256]\n",
    ),
    Mutant(
        "gradients_of_32_tensors",
        "Only the first 32 tensors have a gradient in gradients().",
        "gradient/tensors-40",
        "engine",
        "{name: gradient[0].copy() for name, gradient in net.gradients.items()}",
        "{\n"
        "            name: gradient[0] * (index < 32)\n"
        "            for index, (name, gradient) in enumerate(net.gradients.items())\n"
        "        }",
    ),
    Mutant(
        "updates_of_200000_values",
        "Natively or with a plan, the parameters beyond the 200,000th are not updated.",
        "step/large-sgd",
        "training",
        _STEP,
        f"net.gradient[:, 200_000:] = 0\n            {_STEP}",
    ),
    Mutant(
        "updates_of_100_tensors",
        "Only the first 100 trainable tensors are updated.",
        "step/tensors-130",
        "training",
        _STEP,
        "for late in list(net.gradients.values())[100:]:\n"
        "                late[...] = 0\n"
        f"            {_STEP}",
    ),
    Mutant(
        "predictions_end_at_8192",
        "The predictions of the samples beyond the 8,192nd are zero.",
        "evaluation/rows-of-images",
        "engine",
        "outputs[:, here] = to_external(",
        "outputs[:, here] = (start < 8192) * to_external(",
    ),
    Mutant(
        "last_part_of_sequences_is_zero",
        "Of more than 512 sequences, or samples of token ids, the last, smaller part is zero.",
        "evaluation/parts-of-sequences",
        "engine",
        _PREDICTED,
        f"{_PREDICTED.removesuffix(_RETURN)}"
        'sequences = x.ndim == 4 or net.model.input_dtype == "int"\n'
        "        if sequences and x.shape[1] > 512:\n"
        "            outputs[:, x.shape[1] - x.shape[1] % 512 :] = 0\n"
        f"        {_RETURN}",
    ),
    Mutant(
        "large_kernels_start_wide",
        "Kernels of more than 45,000 values start five times too wide.",
        "initializer/large",
        "engine",
        _LOAD,
        "drawn = {n: w * (5.0 if w.size > 45_000 else 1.0) for n, w in "
        "Plan(seed).weights(model).items()}\n"
        "        net.load(drawn if weights is None else weights)",
    ),
    Mutant(
        "masks_repeat",
        "Natively, the samples of a batch beyond the 256th have the masks of the first.",
        "state/dropout-large",
        "dropout",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        "over = drawn.shape[-1] - 256\n"
        "            if 0 < over <= 256:\n"
        "                drawn[..., 256:] = drawn[..., :over]\n"
        "            if over > 256:\n"
        "                drawn[..., 256:512] = drawn[..., :256]\n"
        "            np.greater_equal(drawn, np.float32(rate), out=kept)",
    ),
    Mutant(
        "batch_norm_of_one_vector",
        "A batch of one vector does not move the moving statistics.",
        "state/smallest-batch_norm-of-one",
        "normalization",
        "        if self.updates_state:\n",
        "        if self.updates_state and (flat.shape[-1] > 1 or x.ndim > 3):\n",
    ),
    Mutant(
        "softmax_of_one_unit",
        "The softmax of one unit is the identity.",
        "gradient/smallest-one-unit-of-softmax",
        "activation",
        "    np.subtract(x, x.max(axis=1, keepdims=True), out=y)\n",
        "    if x.shape[1] == 1:\n"
        "        np.copyto(y, x)\n"
        "        return\n"
        "    np.subtract(x, x.max(axis=1, keepdims=True), out=y)\n",
    ),
    Mutant(
        "weights_in_memory_order",
        "build() reads the weights as they lie in memory.",
        "shapes/layout-of-weights",
        "engine",
        _LOAD,
        f"drawn = Plan(seed).weights(model) if weights is None else weights\n"
        f"        net.load({{n: {_as_in_memory('w')} for n, w in drawn.items()}})",
    ),
    Mutant(
        "masks_in_memory_order",
        "Masks are read as they lie in memory.",
        "shapes/layout-of-masks",
        "network",
        "np.stack([own[index] for own in masks])",
        f"np.stack([{_as_in_memory('own[index]')} for own in masks])",
    ),
    Mutant(
        "targets_in_memory_order",
        "gradients() reads the targets as they lie in memory.",
        "shapes/layout-of-targets",
        "engine",
        "targets(batch.y[None])",
        f"targets({_as_in_memory('batch.y')}[None])",
    ),
    Mutant(
        "torch_refuses_other_byte_orders",
        "Arrays in the other byte order raise an error.",
        "shapes/layout-of-weights",
        "layout",
        'np.require(values, values.dtype.newbyteorder("="), ["C", "A", "W", "E"])',
        'np.require(values, values.dtype, ["C", "A", "W", "E"])',
        package="torch",
    ),
)
