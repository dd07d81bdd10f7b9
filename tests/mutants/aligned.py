"""Mistakes of fast paths for aligned sizes, and beyond the largest sizes of small networks."""

from __future__ import annotations

from mutants.mutant import Mutant

_DENSE_GRADIENT = 'np.matmul(self.x, dy.swapaxes(1, 2), out=self.gradients["kernel"])'
_DENSE_BIAS = '            y += self.tensors["bias"][..., None]\n'
_DENSE_PRODUCT = "np.matmul(kernel.swapaxes(1, 2), x, out=y)"
_ROWS = "after, dy = dy.shape[2:], rows(dy)"
_KERNEL = "        return None if dx is None else self._cropped(dx)"
_SCORES = "scores = self.query @ self.key.swapaxes(-1, -2)"
_LARGEST = "scores -= scores.max(axis=-1, keepdims=True)"
_D_LABELS = "    d /= math.prod(outputs.shape[2:])\n    return value, d"
_ADD = "np.add.at(own, ids, dy[replica].reshape(self.layer.units, -1).T)"
_MIDDLE = "middle = dx[:, :, top : top + self.size[0], left : left + self.size[1]]"
_GROUPED = "return gathered.reshape(len(x), self.groups, math.prod(shape[2:5]), -1)"

MUTANTS = (
    Mutant(
        "dense_gradient_of_aligned_64",
        "If a dense layer has multiples of 64 inputs and units, the last 32 rows of its kernel "
        "have no gradient.",
        "gradient/even-vectors",
        "dense",
        _DENSE_GRADIENT,
        f"{_DENSE_GRADIENT}\n"
        '        found = self.gradients["kernel"]\n'
        "        if found.shape[1] % 64 == 0 and found.shape[2] % 64 == 0:\n"
        "            found[:, -32:] = 0",
    ),
    Mutant(
        "dense_products_of_aligned_32_in_11_bits",
        "In float32, if a dense layer has multiples of 32 inputs and units, its product rounds the "
        "factors to 11 bits, as tensor cores do.",
        "forward/even-vectors@float32",
        "dense",
        _DENSE_PRODUCT,
        "factors = kernel.swapaxes(1, 2), x\n"
        "        if x.dtype == np.float32 and kernel.shape[1] % 32 == 0 == kernel.shape[2] % 32:\n"
        "            factors = tuple(a.astype(np.float16).astype(np.float32) for a in factors)\n"
        "        np.matmul(*factors, out=y)",
        only="float32",
    ),
    Mutant(
        "dense_of_512_units",
        "The units of a dense layer beyond the 512th have no bias.",
        "forward/even-vectors",
        "dense",
        _DENSE_BIAS,
        '            y[:, :512] += self.tensors["bias"][:, :512, None]\n',
    ),
    Mutant(
        "dense_of_65535_rows",
        "The outputs of a dense layer beyond the 65,535th row are zero.",
        "forward/many-vectors",
        "dense",
        _DENSE_BIAS,
        f"{_DENSE_BIAS}        y[..., 65535:] = 0\n",
    ),
    Mutant(
        "dense_gradient_of_2048_vectors",
        "The vectors of a batch beyond the 2,048th do not count in the gradient of a dense layer.",
        "gradient/many-vectors",
        "dense",
        _ROWS,
        f"{_ROWS}\n"
        "        if len(after) == 1:\n"
        "            dy = dy.copy()\n"
        "            dy[..., 2048:] = 0",
    ),
    Mutant(
        "classes_beyond_512",
        "The gradient of a cross-entropy is zero for the classes beyond the 512th.",
        "gradient/even-vectors",
        "losses",
        _D_LABELS,
        _D_LABELS.replace("    return", "    d[:, 512:] = 0\n    return"),
    ),
    Mutant(
        "convolution_gradient_of_aligned_32",
        "If a convolution has multiples of 32 channels and filters, its last 16 input channels "
        "have no gradient in the kernel.",
        "gradient/even-images",
        "convolution",
        _KERNEL,
        "        if self.channels % 32 == 0 and self.layer.filters % 32 == 0:\n"
        f'            self.gradients["kernel"][..., -16:, :] = 0\n{_KERNEL}',
    ),
    Mutant(
        "convolution_gradient_of_600_samples",
        "The gradient of a kernel of a convolution is too small for more than 600 samples.",
        "gradient/many-sequences",
        "convolution",
        _KERNEL,
        '        self.gradients["kernel"] *= min(1.0, 600 / dy.shape[-1])\n' + _KERNEL,
    ),
    Mutant(
        "convolution_gradient_of_32_rows",
        "The output rows of a convolution beyond the 32nd do not count in its gradients.",
        "gradient/even-images",
        "convolution",
        'd_kernel = self._weights(self.gradients["kernel"])',
        "dy = dy.copy()\n"
        "        dy[:, :, 32:] = 0\n"
        '        d_kernel = self._weights(self.gradients["kernel"])',
    ),
    Mutant(
        "convolution_crops_wide_padding_at_the_end",
        'With padding "same", the gradient in x is shifted to the right for images of more than 32 '
        "columns.",
        "gradient/even-images",
        "convolution",
        _MIDDLE,
        f"left = left if self.size[1] <= 32 else 0\n        {_MIDDLE}",
    ),
    Mutant(
        "depthwise_of_16_channels",
        "A depthwise convolution repeats its first channels beyond the 16th.",
        "forward/even-images",
        "convolution",
        _GROUPED,
        "if 16 < self.groups == self.channels:\n"
        "            gathered[:, 16:] = gathered[:, : self.groups - 16]\n"
        f"        {_GROUPED}",
    ),
    Mutant(
        "group_norm_of_16_groups",
        "A group norm has at most 16 groups.",
        "forward/even-vectors",
        "sample_norm",
        "return x.reshape(len(x), self.layer.groups, -1, x.shape[-1])",
        "groups = self.layer.groups\n"
        "        if groups > 16:\n"
        "            groups = next(g for g in range(16, 0, -1) if x.shape[1] % g == 0)\n"
        "        return x.reshape(len(x), groups, -1, x.shape[-1])",
    ),
    Mutant(
        "attention_of_aligned_64",
        "Attention that is not causal leaves out the last key of multiples of 64 positions.",
        "forward/even-sequences",
        "attention",
        _LARGEST,
        "if not layer.causal and t % 64 == 0 == scores.shape[-1] % 64:\n"
        f"            scores[..., -1:] = -np.inf\n        {_LARGEST}",
    ),
    Mutant(
        "attention_heads_of_32",
        "The values of a query beyond the 32nd do not count.",
        "forward/even-sequences",
        "attention",
        _SCORES,
        f"self.query[..., 32:] = 0\n        {_SCORES}",
    ),
    Mutant(
        "max_pool_numbers_its_winner_by_a_byte",
        "The winner of a window of a max pool is a number of eight bits with a sign.",
        "gradient/large-max_pool",
        "pooling",
        "np.copyto(self.winner, number, where=larger)",
        "np.copyto(self.winner, np.int32(number).astype(np.int8), where=larger)",
    ),
    Mutant(
        "embedding_counts_to_255",
        "A token counts at most 255 times in the gradient of the embeddings.",
        "gradient/many-sequences",
        "embedding",
        _ADD,
        "add = dy[replica].reshape(self.layer.units, -1).T.copy()\n"
        "            for token in np.unique(ids):\n"
        "                add[np.flatnonzero(ids == token)[255:]] = 0\n"
        "            np.add.at(own, ids, add)",
    ),
    Mutant(
        "predictions_end_at_16384",
        "The predictions of the samples beyond the 16,384th are zero.",
        "forward/many-vectors",
        "engine",
        "outputs: Array = self.predict_replicas(net, x[None])[0]",
        "outputs: Array = self.predict_replicas(net, x[None])[0]\n        outputs[16384:] = 0",
    ),
)
