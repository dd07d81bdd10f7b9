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
        "count, own = i + 1 if causal else t_, (one * t_ + i) * row + n\n                at =",
        "count = min(i + 2, t_) if causal else t_\n"
        "                own = (one * t_ + i) * row + n\n                at =",
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
