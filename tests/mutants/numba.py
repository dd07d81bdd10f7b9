"""Mistakes in the compiled kernels of the numba engine."""

from __future__ import annotations

from mutants.mutant import Mutant


def _numba(name: str, what: str, check: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(f"numba_{name}", what, check, file, old, new, package="numba")


MUTANTS = (
    _numba(
        "attention_sees_one_position_ahead",
        "A causal position has the weights of the next one as well.",
        "forward/causal_attention",
        "attention",
        "count, own = i + 1 if causal else s_, (one * t_ + i) * line + n\n                at,",
        "count = min(i + 2, s_) if causal else s_\n"
        "                own = (one * t_ + i) * line + n\n                at,",
    ),
    _numba(
        "attention_context_as_long_as_the_queries",
        "The values of a context are found as if it had as many positions as the queries.",
        "forward/cross_attention",
        "attention",
        "return query, key, starts[2] + r * by_replica[2] + first * lines[1] + n",
        "return query, key, starts[2] + r * by_replica[2] + first * lines[0] + n",
    ),
    _numba(
        "attention_context_without_its_last_gradient",
        "The keys and values at the last position of a context have no gradient of this batch.",
        "gradient/cross_attention",
        "attention",
        "for j in range(s_):\n                first",
        "for j in range(s_ - (s_ != t_)):\n                first",
    ),
    _numba(
        "stride_without_padding_in_dx",
        "Where a stride is not one, dx forgets the zeros before the image.",
        "gradient/conv2d",
        "direct_convolution",
        "place = first + self.before\n",
        "place = first + self.before * (self.stride == 1)\n",
    ),
    _numba(
        "layer_norm_gradient_without_the_mean",
        "dx of a layer norm misses the gradient through the mean.",
        "gradient/layer_norm",
        "sample_norm",
        "less = share if centers else zero",
        "less = zero",
    ),
    _numba(
        "gelu_tanh_derivative_of_the_argument",
        "The derivative of the argument of the tanh in gelu has a cube of one third.",
        "gradient/gelu_tanh",
        "activation",
        "like(value, 3 * GELU_SCALE * GELU_CUBE)",
        "like(value, GELU_SCALE * GELU_CUBE)",
    ),
    _numba(
        "max_pool_ties_last",
        "The last of equal values in a window gets the gradient instead of the first.",
        "gradient/max_pool",
        "pooling",
        "larger = values[n] > best[n]",
        "larger = values[n] >= best[n]",
    ),
    _numba(
        "dropped_values_have_a_gradient",
        "In a native training, what dropout drops keeps its gradient.",
        "state/mask-of-the-gradient-dropout-of-sequences",
        "normalization",
        "zero, times = dy.dtype.type(0), dy.dtype.type(scale)",
        "zero, times = dy.dtype.type(1), dy.dtype.type(scale)",
    ),
)
