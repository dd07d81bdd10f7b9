"""Multi-head attention with torch's scaled_dot_product_attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlsys_bench.spec.layers import MultiHeadAttention, Shape


class TorchAttention(nn.Module):
    """Attention with a linear layer for each projection; nn.MultiheadAttention has a key size of
    C / heads only, and no mask of dropout."""

    def __init__(self, layer: MultiHeadAttention, shape: Shape, *others: Shape) -> None:
        super().__init__()
        self.layer, channels, inner = layer, shape[-1], layer.heads * layer.size(shape)
        context = (shape, *others)[-1][-1]
        self.query, self.key, self.value = (
            nn.Linear(width, inner, bias=layer.use_bias) for width in (channels, context, context)
        )
        self.output = nn.Linear(inner, channels, bias=layer.use_bias)

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Compute y from x and the context, which is x if there is none. With a mask
        (N, heads, T, S), it is what dropout keeps."""
        context = x if context is None else context
        query, key, value = (
            project(given).unflatten(-1, (self.layer.heads, -1)).transpose(1, 2)
            for project, given in (
                (self.query, x),
                (self.key, context),
                (self.value, context),
            )
        )
        rate, causal = self.layer.drop_rate if self.training else 0.0, self.layer.causal
        if mask is None or not self.training:
            mixed = nn.functional.scaled_dot_product_attention(
                query, key, value, dropout_p=rate, is_causal=causal
            )
        else:
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            if causal:
                later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(later, -math.inf)
            mixed = (scores.softmax(-1) * mask / (1.0 - rate)) @ value
        y: Tensor = self.output(mixed.transpose(1, 2).flatten(-2))
        return y
