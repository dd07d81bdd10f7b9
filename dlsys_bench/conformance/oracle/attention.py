"""Multi-head attention by its definition, for complex numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlsys_bench.spec.layers import MultiHeadAttention

if TYPE_CHECKING:
    from dlsys_bench.conformance.oracle.forward import ForwardPass


def attention(
    layer: MultiHeadAttention, x: Any, own: Mapping[str, Any], place: int, here: ForwardPass
) -> Any:
    """Return the output (P, N, T, C) of multi-head attention of x, or of x[0] to the context
    x[1]."""
    attending, context = x if layer.context else (x, x)

    def project(name: str, x: Any) -> Any:
        y = x @ own[f"{name}_kernel"][:, None]
        y = y + own[f"{name}_bias"][:, None, None] if layer.use_bias else y
        return here.rounding.array(y, axes=1)

    # Heads, and the values of each, are the last two axes.
    query, key, value = (
        (y := project(name, given)).reshape(*y.shape[:3], layer.heads, -1)
        for name, given in (("query", attending), ("key", context), ("value", context))
    )
    scores = np.einsum("pnthk,pnshk->pnhts", query, key, optimize=True)
    scores = scores / math.sqrt(query.shape[-1])
    if layer.causal:
        position = np.arange(attending.shape[2])
        scores = np.where(position > position[:, None], -np.inf, scores)
    powers = np.exp(scores - scores.real.max(axis=-1, keepdims=True))
    total = here.rounding.spread(powers.sum(axis=-1, keepdims=True), powers)
    weights = here.rounding.array(powers / total, axes=1)
    if here.training and place in here.masks:
        weights = weights * here.masks[place] / (1 - layer.drop_rate)
    mixed = np.einsum("pnhts,pnshk->pnthk", weights, value, optimize=True)
    return project("output", here.rounding.array(mixed.reshape(*mixed.shape[:3], -1), axes=1))
