"""Mistakes with tensors of one kind, with parts and shards of batches, and at large sizes."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "decay_leaves_out_kernels_of_attention",
        "Tensors named _kernel, those of attention, do not decay.",
        "step/kinds-decay-decoupled-kernels",
        "updates",
        "if decay is None or not decay.applies(tensor.name, len(tensor.shape)):",
        (
            "if decay is None or not decay.applies(tensor.name, len(tensor.shape)) or "
            "tensor.name.endswith('_kernel'):"
        ),
    ),
    Mutant(
        "decay_leaves_out_kernels_of_convolutions",
        "Tensors of more than two axes do not decay.",
        "step/kinds-decay-decoupled-kernels",
        "updates",
        "        if decay is None or",
        ("        if len(tensor.shape) > 2:\n            continue\n        if decay is None or"),
    ),
    Mutant(
        "decay_of_position_embeddings",
        "Position embeddings decay with every decay.",
        "step/kinds-decay-decoupled-kernels",
        "updates",
        "        if decay is None or not",
        "        if decay is None or not tensor.name.startswith('position_') and not",
    ),
    Mutant(
        "adam_skips_tokens_that_are_absent",
        "Adam leaves rows of an embedding without a token as they are.",
        "step/kinds-decay-decoupled-kernels",
        "updates",
        "        self.stepper.step(parameters, gradient, learning_rate)",
        (
            "        from dlsys_bench.spec.optimizers import Adam\n"
            "        lazy = []\n"
            "        if isinstance(self.stepper.optimizer, Adam):\n"
            "            for name, own in self.net.gradients.items():\n"
            "                if name.endswith('.embeddings') and not "
            "name.startswith('position'):\n"
            "                    rows = ~own.any(axis=-1)\n"
            "                    start = own.__array_interface__['data'][0] - "
            "gradient.__array_interface__['data'][0]\n"
            "                    at = start // gradient.itemsize\n"
            "                    span = slice(at, at + own[0].size)\n"
            "                    kept = [(v, v[:, span].copy()) for v in (parameters, "
            "self.stepper.mean, self.stepper.square)]\n"
            "                    lazy.append((np.repeat(rows.reshape(len(rows), -1), "
            "own.shape[-1], axis=1), span, kept))\n"
            "        self.stepper.step(parameters, gradient, learning_rate)\n"
            "        for rows, span, kept in lazy:\n"
            "            for vector, before in kept:\n"
            "                vector[:, span] = np.where(rows, before, vector[:, span])"
        ),
    ),
    Mutant(
        "clipping_leaves_out_embeddings",
        "The gradients of embeddings are not clipped, and not in the norm.",
        "step/kinds-clip_norm-active",
        "updates",
        "            CLIPS[type(self.clip)](self.clip, gradient)",
        (
            "            tables = {n: v.copy() for n, v in self.net.gradients.items() if "
            'n.endswith(".embeddings")}\n'
            "            for name in tables:\n"
            "                self.net.gradients[name][...] = 0\n"
            "            CLIPS[type(self.clip)](self.clip, gradient)\n"
            "            for name, values in tables.items():\n"
            "                self.net.gradients[name][...] = values"
        ),
    ),
    Mutant(
        "embeddings_take_the_last_part",
        "Embeddings have the gradient of the last part of a batch.",
        "step/kinds-accumulate-2",
        "training",
        "    net.gradient[...] = gradient",
        (
            "    last = {n: v.copy() for n, v in net.gradients.items() if "
            'n.endswith(".embeddings")}\n'
            "    net.gradient[...] = gradient\n"
            "    for name, values in last.items():\n"
            "        net.gradients[name][...] = values"
        ),
    ),
    Mutant(
        "parts_of_sequences_weighted_by_samples",
        ("The parts of a batch of sequences count by their samples, not by the labels kept."),
        "step/accumulate-ignored_label",
        "training",
        ("shares = _shares(recipe.loss, [source.targets(order, place) for place in places])"),
        (
            "shares = _shares(recipe.loss, [source.targets(order, place) for place in "
            "places])\n"
            "    if source.y.ndim == 3:\n"
            "        shares = [np.full(net.replicas, (p.stop - p.start) / samples) for p "
            "in places]"
        ),
    ),
    Mutant(
        "shards_weighted_by_samples",
        "The shards of a large batch count by their samples, not by the labels kept.",
        "step/large-batch-of-sequences",
        "training",
        (
            "        shares = _shares(loss, [source.targets(order, place) for place in "
            "places])\n"
            "    passes"
        ),
        (
            "        shares = [np.full(net.replicas, (p.stop - p.start) / samples) for p "
            "in places]\n"
            "    passes"
        ),
    ),
    Mutant(
        "shards_add_to_old_gradients_of_embeddings",
        "The second shard of a large batch adds to the last gradient of an embedding.",
        "step/large-batch-of-sequences",
        "embedding",
        ("            own.fill(0)\n            ids"),
        ("            if self.updates_state:\n                own.fill(0)\n            ids"),
    ),
    Mutant(
        "accuracy_of_the_first_shard",
        "The accuracy of a large batch counts its first shard alone.",
        "step/large-batch",
        "training",
        "value, correct = value + other_value, correct + other_correct",
        "value, correct = value + other_value, correct",
    ),
    Mutant(
        "shards_without_loss_scale",
        "The gradients of shards of a large batch are not scaled.",
        "step/large-batch",
        "training",
        ("    if scale is not None:\n        dy *= scale"),
        ("    if scale is not None and share is None:\n        dy *= scale"),
    ),
    Mutant(
        "batch_of_1024_samples",
        "Samples of a batch from the 1,025th on are zero.",
        "step/large-batch",
        "batches",
        "        return x.reshape(len(rows), *self.shape, -1)",
        ("        x[..., 1024:] = 0\n        return x.reshape(len(rows), *self.shape, -1)"),
    ),
    Mutant(
        "smoothing_counts_ignored_labels",
        "With smoothing and without class weights, ignored labels count in the mean.",
        "loss/categorical_crossentropy-label_smoothing-ignored_label",
        "losses",
        "    divisors = np.where(divisors > 0, divisors, 1)",
        (
            "    if loss.label_smoothing and loss.ignored_label is not None and "
            "loss.class_weights is None:\n"
            "        divisors = np.full(len(divisors), y[0].size, divisors.dtype)\n"
            "    divisors = np.where(divisors > 0, divisors, 1)"
        ),
    ),
    Mutant(
        "token_ids_in_float16",
        "Token ids go through float16, which has every whole number up to 2,048.",
        "forward/large-embedding",
        "embedding",
        "        self.x, table = x,",
        ("        x = x.astype(np.float16).astype(np.int32)\n        self.x, table = x,"),
    ),
    Mutant(
        "attention_in_blocks_of_256_keys",
        "The softmax of each 256 keys subtracts their own largest score.",
        "forward/large-cross_attention",
        "attention",
        "        scores -= scores.max(axis=-1, keepdims=True)",
        (
            "        for first in range(0, scores.shape[-1], 256):\n"
            "            block = scores[..., first : first + 256]\n"
            "            largest = block.max(axis=-1, keepdims=True)\n"
            "            block -= np.where(np.isfinite(largest), largest, 0)"
        ),
    ),
    Mutant(
        "convolution_gradient_of_64_columns",
        "The gradient of a convolution leaves out columns from the 65th on.",
        "gradient/large-conv2d",
        "convolution",
        "        dy = dy.reshape(replicas, filters, *self.out, -1)",
        (
            "        dy = dy.reshape(replicas, filters, *self.out, -1)\n"
            "        if self.out[0] > 1:\n"
            "            dy = dy.copy()\n"
            "            dy[:, :, :, 64:] = 0"
        ),
    ),
)
