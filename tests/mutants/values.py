"""Mistakes that only inputs of some sizes, some values of an option or some structures reveal."""

from __future__ import annotations

from mutants.mutant import Mutant

_SIGMOID = """np.tanh(y, out=y)
    y += 1
    y *= x.dtype.type(0.5)


def _d_sigmoid"""
_SHIFTED = "np.subtract(x, x.max(axis=1, keepdims=True), out=y)"
_ELU = "np.copyto(y, x, where=x > 0)\n\n\ndef _d_elu"
_RIGHT = "right = _answers(loss, outputs) == y"
_SCALE = "attending.dtype.type(1.0 / math.sqrt(layer.size(self.shape)))"
_SOFTMAX = "scores -= scores.max(axis=-1, keepdims=True)"
_KEPT = "kept = self.scales(n, scores.dtype, training)"
_GIVEN = "given = _inputs(rule, values, sources)\n"
_BACKWARD = """            found = (
                (yield from rule.backward_shard(here, wants))
                if rule.exchanges and self.training
                else rule.backward(here, wants)
            )
"""
_DECAY = "self.layer.moving_decay"
_MOVE = """moving *= self.layer.moving_decay
            moving += (1.0 - self.layer.moving_decay) * now"""

MUTANTS = (
    Mutant(
        "sigmoid_ends_at_8",
        "Beyond 8, a sigmoid is one, and below -8 it is zero.",
        "forward/far",
        "activation",
        _SIGMOID,
        _SIGMOID.replace("\n\n\n", "\n    np.copyto(y, x > 0, where=np.abs(x) > 8)\n\n\n"),
    ),
    Mutant(
        "softplus_is_linear_from_10",
        "Beyond 10, a softplus is its input.",
        "forward/far",
        "activation",
        "np.logaddexp(x, 0, out=y)",
        "np.logaddexp(x, 0, out=y)\n    np.copyto(y, x, where=x > 10)",
    ),
    Mutant(
        "elu_ends_at_minus_10",
        "Below -10, an elu is -1.",
        "forward/far",
        "activation",
        _ELU,
        f"np.copyto(y, -1, where=x < -10)\n    {_ELU}",
    ),
    Mutant(
        "softmax_flushes_small_exponentials",
        "A softmax is zero where its input is 10 below the largest.",
        "forward/far",
        "activation",
        f"{_SHIFTED}\n    np.exp(y, out=y)",
        f"{_SHIFTED}\n    np.copyto(y, -np.inf, where=y < -10)\n    np.exp(y, out=y)",
    ),
    Mutant(
        "softmax_shifts_by_the_largest_of_the_batch",
        "A softmax subtracts the largest value of the batch from all rows.",
        "forward/far",
        "activation",
        _SHIFTED,
        "np.subtract(x, x.max(), out=y)",
    ),
    Mutant(
        "answers_in_half_precision",
        "The largest output is searched for in half precision.",
        "evaluation/ties",
        "losses",
        _RIGHT,
        "right = _answers(loss, outputs.astype(np.float16)) == y",
    ),
    Mutant(
        "batch_norm_has_a_least_epsilon",
        "An epsilon of a batch norm below 1e-5 is 1e-5.",
        "forward/batch_norm-of-small-values",
        "normalization",
        "x.dtype.type(self.layer.epsilon)",
        "x.dtype.type(max(self.layer.epsilon, 1e-5))",
    ),
    Mutant(
        "sample_norm_has_a_least_epsilon",
        "An epsilon of a norm of samples below 1e-6 is 1e-6.",
        "forward/layer_norm-of-small-values",
        "sample_norm",
        "x.dtype.type(self.layer.epsilon)",
        "x.dtype.type(max(self.layer.epsilon, 1e-6))",
    ),
    Mutant(
        "batch_norm_never_freezes",
        "A moving decay of one is taken for the default of other libraries.",
        "state/batch_norm-long",
        "normalization",
        _MOVE,
        f"decay = {_DECAY} if {_DECAY} < 1 else 0.9\n            {_MOVE.replace(_DECAY, 'decay')}",
    ),
    Mutant(
        "max_pool_starts_at_minus_1000",
        "A maximum is at least -1000.",
        "gradient/max_pool-of-large-negatives",
        "pooling",
        "np.copyto(y, first)\n        self.winner.fill(0)",
        "np.maximum(first, -1000, out=y)\n        self.winner.fill(0)",
    ),
    Mutant(
        "attention_has_as_many_keys_as_queries",
        "Attention to a context takes as many blocks of 16 keys as it has of queries.",
        "gradient/cross_attention-of-long-context",
        "attention",
        _SOFTMAX,
        f"scores[..., -(-t // 16) * 16 :] = -np.inf\n        {_SOFTMAX}",
    ),
    Mutant(
        "attention_shifts_by_the_largest_of_the_batch",
        "The softmax of attention subtracts the largest score of all samples.",
        "gradient/multi_head_attention-of-unlike-samples",
        "attention",
        _SOFTMAX,
        "scores -= scores.max()",
    ),
    Mutant(
        "masks_of_attention_repeat",
        "A mask that an engine draws repeats after 32 keys.",
        "state/multi_head_attention-dropout-of-many-keys",
        "attention",
        _KEPT,
        f"{_KEPT}\n"
        "        if kept is not None and self.mask is None and kept.shape[1] > 32:\n"
        "            kept[:, 32:64] = kept[:, : kept[:, 32:64].shape[1]]",
    ),
    Mutant(
        "drop_rate_of_bytes",
        "What is kept is decided by a random byte, and so by a rate that is rounded.",
        "state/dropout-in-large-fit",
        "dropout",
        "np.greater_equal(drawn, np.float32(rate), out=kept)",
        "np.greater_equal(np.floor(drawn * 256), int(rate * 256), out=kept)",
    ),
    Mutant(
        "drop_rate_in_twentieths",
        "The drop rate of masks that the engine draws is rounded to a multiple of 0.05.",
        "state/multi_head_attention-dropout-of-many-keys",
        "dropout",
        "rate = spec.drop_rate",
        "rate = spec.drop_rate if self.mask is not None else round(spec.drop_rate * 20) / 20",
    ),
    Mutant(
        "scale_of_attention_in_the_first_dtype",
        "The scale of attention is kept in the first precision in which it was computed.",
        "forward/multi_head_attention-after-float32",
        "attention",
        f"self.scale = {_SCALE}",
        "firsts = AttentionRule.firsts = getattr(AttentionRule, 'firsts', {})\n"
        f"        own = {_SCALE}\n"
        "        first = firsts.setdefault(layer.size(self.shape), own)\n"
        "        self.scale = attending.dtype.type(first)",
    ),
    Mutant(
        "folding_forgets_the_mean",
        "A batch norm that is folded into a convolution without a bias has no mean.",
        "gradient/batch_norm-after-conv2d",
        "network",
        _GIVEN,
        f"{_GIVEN}"
        "            below = [row.layer for row in self.model.table if row.value == sources[0]]\n"
        "            folds = not training and rule.layer.kind == 'batch_norm'\n"
        "            if folds and below and not getattr(below[0], 'use_bias', True):\n"
        "                given = given + rule.tensors['moving_mean'].reshape(\n"
        "                    len(rule.tensors['moving_mean']), -1, *(1 for _ in given.shape[2:])\n"
        "                )\n",
    ),
    Mutant(
        "add_and_relu_leave_the_shortcut_unmasked",
        "Fused with an addition, a relu does not mask the gradient of the second input.",
        "gradient/add-before-relu",
        "network",
        _BACKWARD,
        "            unmasked = vars(self).setdefault('unmasked', {})\n"
        "            if getattr(rule.layer, 'function', '') == 'relu':\n"
        "                unmasked[sources[0]] = here.copy()\n"
        f"{_BACKWARD}"
        "            if found is not None and rule.layer.kind == 'add' and place in unmasked:\n"
        "                found = [*found[:-1], unmasked[place]]\n",
    ),
)
