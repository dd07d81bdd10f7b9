"""Dropout: its scale, its masks and their seeds."""

from __future__ import annotations

from mutants.mutant import Mutant

_DRAW = "generator.random(out=own, dtype=np.float32)"

MUTANTS = (
    Mutant(
        "dropout_scale_missing",
        "The values that are kept are not scaled.",
        "forward/dropout",
        "dropout",
        "kept *= kept.dtype.type(1.0 / (1.0 - rate))",
        "pass",
    ),
    Mutant(
        "dropout_scale_of_rate",
        "The values that are kept are divided by the drop rate.",
        "forward/dropout",
        "dropout",
        "kept *= kept.dtype.type(1.0 / (1.0 - rate))",
        "kept *= kept.dtype.type(1.0 / (rate or 1.0))",
    ),
    Mutant(
        "dropout_in_eval",
        "Dropout is active in inference.",
        "forward/dropout",
        "dropout",
        "if not training or (self.mask is None and rate == 0.0):",
        "if self.mask is None and rate == 0.0:",
    ),
    Mutant(
        "dropout_scaled_in_eval",
        "Dropout is scaled in training and again in inference.",
        "forward/dropout",
        "dropout",
        "        if self.kept is None:\n            return x",
        "        if self.kept is None:\n            return x * (1.0 - self.layer.drop_rate)",
    ),
    Mutant(
        "dropout_gradient_undropped",
        "The gradient passes through values that were dropped.",
        "gradient/dropout",
        "dropout",
        "dy *= self.kept",
        "dy *= self.kept.max()",
    ),
    Mutant(
        "dropout_rate_inverted",
        "Natively, the drop rate is the rate that is kept.",
        "state/dropout",
        "dropout",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        "np.less(drawn, np.float32(rate), out=kept)",
    ),
    Mutant(
        "dropout_one_mask_for_the_batch",
        "Natively, all samples of a batch have the same mask.",
        "state/dropout",
        "dropout",
        _DRAW,
        "own[...] = generator.random((*own.shape[:-1], 1), dtype=np.float32)",
    ),
    Mutant(
        "dropout_whole_samples",
        "Natively, a sample keeps all units or none.",
        "state/dropout",
        "dropout",
        _DRAW,
        "own[...] = generator.random(own.shape[-1], dtype=np.float32)",
    ),
    Mutant(
        "dropout_same_mask_each_step",
        "Natively, every step of one shape has the same mask.",
        "state/dropout",
        "dropout",
        _DRAW,
        "np.random.Generator(np.random.SFC64(own.size)).random(out=own, dtype=np.float32)",
    ),
    Mutant(
        "dropout_layers_share_masks",
        "Natively, dropout layers of one shape drop the same units.",
        "state/dropout",
        "network",
        "np.random.SeedSequence((seed, index, *stream))",
        "np.random.SeedSequence((seed, 0, *stream))",
    ),
    Mutant(
        "dropout_from_the_process",
        "Native masks are drawn from the generator of the process, which the seed does not set.",
        "determinism/seed",
        "dropout",
        _DRAW,
        "own[...] = np.random.random(own.shape)",
    ),
    Mutant(
        "dropout_from_entropy",
        "Native masks are seeded by the operating system.",
        "determinism/seed",
        "network",
        "np.random.SeedSequence((seed, index, *stream))",
        "np.random.SeedSequence()",
    ),
    Mutant(
        "dropout_of_whole_channels_of_sequences",
        "Natively, dropout of a sequence drops the same channels at all positions.",
        "state/dropout-of-sequences",
        "dropout",
        _DRAW,
        "shape = own.shape if own.ndim != 3 else (own.shape[0], 1, own.shape[-1])\n"
        "                own[...] = generator.random(shape, dtype=np.float32)",
    ),
    Mutant(
        "dropout_branches_share_masks",
        "Natively, dropout layers at one depth drop the same units.",
        "state/dropout",
        "network",
        "        for index, rule in self.dropouts.items():\n"
        "            rule.generators = [\n"
        "                np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, index, "
        "*stream))))",
        "        depth, depths = dict.fromkeys(self.inputs, 0), {}\n"
        "        for row in self.model.table:\n"
        "            depths[row.place] = 1 + max(depth[source] for source in row.sources)\n"
        "            depth[row.value] = depths[row.place]\n"
        "        for index, rule in self.dropouts.items():\n"
        "            rule.generators = [\n"
        "                np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, "
        "depths[index], *stream))))",
    ),
    Mutant(
        "dropout_masks_overlap",
        "Natively, the generator advances by a quarter of what a mask has drawn.",
        "determinism/dropout-layers",
        "dropout",
        _DRAW,
        "state = generator.bit_generator.state\n"
        "                generator.random(out=own, dtype=np.float32)\n"
        "                if type(self.layer) is Dropout:\n"
        "                    generator.bit_generator.state = state\n"
        "                    generator.random(-(-own.size // 4), dtype=np.float32)",
    ),
)
