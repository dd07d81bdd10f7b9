"""Multi-head attention and learned positions."""

from __future__ import annotations

from mutants.mutant import Mutant

_SCALE = "attending.dtype.type(1.0 / math.sqrt(layer.size(self.shape)))"
_MASK = "scores[..., np.triu(np.ones((t, t), np.bool_), 1)] = -np.inf"
_SOFTMAX = f"""{_MASK}
        # Less the largest score, no exponential overflows.
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)"""
_TABLE = "table[:, : self.t]"

MUTANTS = (
    Mutant(
        "attention_scaled_by_the_width",
        "The scores are divided by the root of the width instead of the key size.",
        "forward/multi_head_attention",
        "attention",
        _SCALE,
        "attending.dtype.type(1.0 / math.sqrt(self.shape[-1]))",
    ),
    Mutant(
        "attention_scaled_by_the_key_size",
        "The scores are divided by the key size instead of its root.",
        "forward/multi_head_attention",
        "attention",
        _SCALE,
        "attending.dtype.type(1.0 / layer.size(self.shape))",
    ),
    Mutant(
        "attention_unscaled",
        "The scores are not scaled.",
        "forward/multi_head_attention",
        "attention",
        _SCALE,
        "attending.dtype.type(1.0)",
    ),
    Mutant(
        "attention_scaled_after_the_softmax",
        "The weights are scaled, after the softmax, instead of the scores.",
        "forward/multi_head_attention",
        "attention",
        "        scores *= self.scale\n        if layer.causal:",
        "        if layer.causal:",
    ),
    Mutant(
        "attention_scale_missing_backward",
        "The gradients of the scores are not scaled.",
        "gradient/multi_head_attention",
        "attention",
        "        d_scores *= self.scale\n",
        "",
    ),
    Mutant(
        "causal_mask_after_the_softmax",
        "The causal mask sets weights to zero after the softmax, so that rows do not sum to one.",
        "forward/causal_attention",
        "attention",
        _SOFTMAX,
        _SOFTMAX.replace(_MASK, "pass") + "\n        if layer.causal:\n"
        "            scores[..., np.triu(np.ones((t, t), np.bool_), 1)] = 0",
    ),
    Mutant(
        "causal_mask_hides_itself_too",
        "A position other than the first does not see itself.",
        "forward/causal_attention",
        "attention",
        _MASK,
        "mask = np.triu(np.ones((t, t), np.bool_), 0)\n"
        "            mask[0, 0] = False\n"
        "            scores[..., mask] = -np.inf",
    ),
    Mutant(
        "causal_mask_of_a_context_hides_itself_too",
        "A position other than the first sees the earlier ones of a context alone.",
        "forward/causal_cross_attention",
        "attention",
        _MASK,
        "mask = np.triu(np.ones((t, t), np.bool_), 0 if layer.context else 1)\n"
        "            mask[0, 0] = False\n"
        "            scores[..., mask] = -np.inf",
    ),
    Mutant(
        "causal_mask_shows_the_next_position",
        "A position sees the one after it.",
        "forward/causal_attention",
        "attention",
        _MASK,
        "scores[..., np.triu(np.ones((t, t), np.bool_), 2)] = -np.inf",
    ),
    Mutant(
        "causal_mask_transposed",
        "A position sees itself and those after it.",
        "forward/causal_attention",
        "attention",
        _MASK,
        "scores[..., np.tril(np.ones((t, t), np.bool_), -1)] = -np.inf",
    ),
    Mutant(
        "causal_mask_is_a_small_number",
        "The scores of later positions are lowered by 10, which leaves them a trace of weight.",
        "forward/causal_attention",
        "attention",
        _MASK,
        "scores[..., np.triu(np.ones((t, t), np.bool_), 1)] -= 10",
    ),
    Mutant(
        "causal_mask_missing",
        "Causal attention sees all positions.",
        "forward/causal_attention",
        "attention",
        "if layer.causal:",
        "if False:",
    ),
    Mutant(
        "future_leaks_backward",
        "1e-13 of the gradient of an output reaches the values of later positions.",
        "gradient/future-causal_attention",
        "attention",
        "d_value = self.used.swapaxes(-1, -2) @ d_out",
        "d_value = (self.used + 1e-13).swapaxes(-1, -2) @ d_out",
    ),
    Mutant(
        "heads_split_over_positions",
        "The channels are split into heads after they are reshaped with the positions first.",
        "forward/multi_head_attention",
        "attention",
        "parts = y.reshape(len(y), self.layer.heads, -1, t, y.shape[-1] // t)",
        "n, r = y.shape[-1] // t, len(y)\n"
        "        parts = y.reshape(r, -1, t, n).swapaxes(1, 2)"
        ".reshape(r, self.layer.heads, t, -1, n).swapaxes(2, 3)",
    ),
    Mutant(
        "heads_interleaved",
        "Head h has the channels h, h + heads, and so on, of queries, keys and values alone.",
        "forward/multi_head_attention",
        "attention",
        "parts = y.reshape(len(y), self.layer.heads, -1, t, y.shape[-1] // t)",
        "parts = y.reshape(len(y), -1, self.layer.heads, t, y.shape[-1] // t).swapaxes(1, 2)",
    ),
    Mutant(
        "attention_over_the_batch",
        "Positions attend to the same position of other samples: the two axes are swapped.",
        "forward/multi_head_attention",
        "attention",
        "return np.ascontiguousarray(parts.transpose(0, 1, 4, 3, 2))",
        "return np.ascontiguousarray(parts.transpose(0, 1, 4, 3, 2) if t != y.shape[-1] // t "
        "else parts.transpose(0, 1, 3, 4, 2))",
    ),
    Mutant(
        "attention_softmax_over_queries",
        "The softmax is over the queries instead of the keys.",
        "forward/multi_head_attention",
        "attention",
        "scores /= scores.sum(axis=-1, keepdims=True)",
        "scores /= scores.sum(axis=-2, keepdims=True)",
    ),
    Mutant(
        "attention_overflows",
        "The largest score is not subtracted before the exponential.",
        "forward/multi_head_attention-far",
        "attention",
        "scores -= scores.max(axis=-1, keepdims=True)",
        "pass",
    ),
    Mutant(
        "attention_softmax_gradient_diagonal",
        "The softmax of the weights passes the diagonal of its derivative alone.",
        "gradient/multi_head_attention",
        "attention",
        "d_scores -= (d_weights * self.weights).sum(axis=-1, keepdims=True)",
        "d_scores -= d_weights * self.weights",
    ),
    Mutant(
        "attention_value_gradient_undropped",
        "The gradient of the values passes weights that were dropped.",
        "gradient/multi_head_attention",
        "attention",
        "d_value = self.used.swapaxes(-1, -2) @ d_out",
        "d_value = self.weights.swapaxes(-1, -2) @ d_out",
    ),
    Mutant(
        "attention_dropout_not_in_the_gradient",
        "The gradient of the weights passes those that were dropped.",
        "gradient/multi_head_attention",
        "attention",
        "d_weights *= self.kept",
        "pass",
    ),
    Mutant(
        "attention_dropout_before_the_softmax",
        "Scores are dropped, so the others of a row grow.",
        "forward/multi_head_attention",
        "attention",
        "self.used = scores if self.kept is None else scores * self.kept",
        "self.used = scores if self.kept is None else (self.kept > 0) * scores / np.maximum("
        "((self.kept > 0) * scores).sum(axis=-1, keepdims=True), 1e-12)",
    ),
    Mutant(
        "attention_dropout_shared_over_heads",
        "All heads have the mask of the first.",
        "forward/multi_head_attention",
        "attention",
        "kept.transpose(0, 2, 4, 3, 1)",
        "np.repeat(kept[:, :, :1], kept.shape[2], axis=2).transpose(0, 2, 4, 3, 1)",
    ),
    Mutant(
        "attention_dropout_drawn_for_one_head",
        "Natively, all heads have the mask of the first.",
        "state/multi_head_attention-dropout",
        "attention",
        "kept.transpose(0, 2, 4, 3, 1)",
        "(kept if self.mask is not None else np.repeat(kept[:, :, :1], kept.shape[2], axis=2))"
        ".transpose(0, 2, 4, 3, 1)",
    ),
    Mutant(
        "attention_dropout_drawn_for_one_query",
        "Natively, all queries have the mask of the first.",
        "state/multi_head_attention-dropout",
        "attention",
        "kept.transpose(0, 2, 4, 3, 1)",
        "(kept if self.mask is not None else np.repeat(kept[:, :, :, :1], kept.shape[3], axis=3))"
        ".transpose(0, 2, 4, 3, 1)",
    ),
    Mutant(
        "attention_dropout_transposed",
        "The masks of queries and keys are swapped.",
        "forward/multi_head_attention",
        "attention",
        "kept.transpose(0, 2, 4, 3, 1)",
        "kept.transpose(0, 2, 4, 1, 3)",
    ),
    Mutant(
        "attention_output_without_bias",
        "The output projection has no bias.",
        "forward/multi_head_attention",
        "attention",
        "if self.layer.use_bias:\n            y +=",
        'if self.layer.use_bias and name != "output":\n            y +=',
    ),
    Mutant(
        "attention_output_kernel_missing",
        "The heads are added instead of combined by the output kernel, where the widths allow it.",
        "forward/multi_head_attention",
        "attention",
        'y = self._project("output", self.mixed)',
        "same = self.mixed.shape[1] == self.shape[-1]\n"
        '        y = self.mixed if same else self._project("output", self.mixed)',
    ),
    Mutant(
        "attention_keys_are_queries",
        "The keys are computed with the kernel of the queries.",
        "forward/multi_head_attention",
        "attention",
        'for name in ("key", "value")',
        'for name in ("query", "value")',
    ),
    Mutant(
        "attention_dx_of_the_values",
        "dx is the gradient by way of the values alone.",
        "gradient/multi_head_attention",
        "attention",
        "sum(each[1:], each[0])",
        "each[-1]",
    ),
    Mutant(
        "attention_normalised_in_half",
        "In float32, the weights of attention are rounded to float16.",
        "forward/multi_head_attention@float32",
        "attention",
        "self.weights = scores",
        "if scores.dtype == np.float32:\n"
        "            scores = scores.astype(np.float16).astype(np.float32)\n"
        "        self.weights = scores",
    ),
    Mutant(
        "positions_shifted",
        "The first position has the vector of the second.",
        "forward/position_embedding",
        "embedding",
        _TABLE,
        "np.roll(table, -1, axis=1)[:, : self.t]",
    ),
    Mutant(
        "positions_from_the_end",
        "A shorter sequence has the vectors of the last positions.",
        "forward/position_embedding",
        "embedding",
        _TABLE,
        "table[:, -self.t :]",
    ),
    Mutant(
        "positions_added_twice",
        "The vectors of positions are added twice.",
        "forward/position_embedding",
        "embedding",
        _TABLE,
        "2 * table[:, : self.t]",
    ),
    Mutant(
        "positions_gradient_of_the_mean",
        "The gradient of positions is divided by the number of samples.",
        "gradient/position_embedding",
        "embedding",
        "own[:, self.t :] = 0",
        "own[:, : self.t] /= dy.shape[-1]\n        own[:, self.t :] = 0",
    ),
    Mutant(
        "positions_beyond_keep_a_gradient",
        "The gradient of positions that a sequence does not have is that of its last one.",
        "gradient/position_embedding",
        "embedding",
        "own[:, self.t :] = 0",
        "own[:, self.t :] = own[:, self.t - 1 : self.t]",
    ),
)
