"""Transformers on token ids: small ones for the tasks, and GPT-2.

Vaswani et al.: Attention is all you need, arXiv:1706.03762, 2017; Radford et al.: Language models
are unsupervised multitask learners, 2019 (GPT-2), whose norms precede attention and perceptron.
"""

from __future__ import annotations

from typing import NamedTuple

from dlsys_bench.spec.graph import residual, serial
from dlsys_bench.spec.initializers import Normal
from dlsys_bench.spec.layers import (
    Activation,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePool,
    Layer,
    LayerNorm,
    MultiHeadAttention,
    PositionEmbedding,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.workloads.tasks import BITS, LENGTH, MODULUS, SMALL_MODULUS, SYMBOLS

START = Normal(0.02)
"""The initial values of every kernel and embedding of GPT-2."""


class TransformerShape(NamedTuple):
    """The options of a transformer.

    `pooled` states that the outputs are one for each sequence, from the mean over the positions,
    and not one for each position. `drop_rate` is that of the attention weights, of the output of
    attention and perceptron, and of the embeddings.
    """

    vocabulary: int
    positions: int
    classes: int
    width: int
    heads: int
    depth: int
    causal: bool
    pooled: bool = False
    drop_rate: float = 0.0
    norm_epsilon: float = 1e-5


def transformer(name: str, options: TransformerShape) -> Model:
    """Return a transformer whose norms precede attention and perceptron, with a last norm."""
    drop: tuple[Layer, ...] = (Dropout(options.drop_rate),) if options.drop_rate else ()
    norm = LayerNorm(options.norm_epsilon)
    attention = MultiHeadAttention(
        options.heads, causal=options.causal, drop_rate=options.drop_rate, kernel_initializer=START
    )
    block = serial(
        residual(norm, attention, *drop),
        residual(
            norm,
            Dense(4 * options.width, kernel_initializer=START),
            Activation("gelu_tanh"),
            Dense(options.width, kernel_initializer=START),
            *drop,
        ),
    )
    layers = (
        Embedding(options.vocabulary, options.width, START),
        PositionEmbedding(options.positions, START),
        *drop,
        *(block for _ in range(options.depth)),
        norm,
        *((GlobalAveragePool(),) if options.pooled else ()),
        Dense(options.classes, use_bias=False, kernel_initializer=START),
    )
    return Model(name, (options.positions,), layers, input_dtype="int")


CAUSAL: dict[str, TransformerShape] = {
    name: TransformerShape(tokens, positions, tokens, 32, 4, depth, causal=True)
    for name, tokens, positions, depth in (
        ("copying", SYMBOLS + 1, 2 * LENGTH, 1),
        ("sorting", SYMBOLS + 1, 2 * LENGTH, 1),
        ("parity", 2, BITS, 2),
    )
}
"""The causal transformers by their tasks."""

POOLED: dict[int, TransformerShape] = {
    modulus: TransformerShape(modulus + 1, 3, modulus, width, 4, depth, causal=False, pooled=True)
    for modulus, width, depth in ((SMALL_MODULUS, 64, 1), (MODULUS, 128, 2))
}
"""The transformers that add, by their modulus."""


def causal(task: str) -> Model:
    """Return a small causal transformer for a task."""
    return transformer(f"transformer/{task}", CAUSAL[task])


def pooled(modulus: int) -> Model:
    """Return a transformer that adds modulo a prime, from the mean over its positions."""
    return transformer(f"transformer/addition-{modulus}", POOLED[modulus])


def gpt2(positions: int = 1024) -> Model:
    """Return GPT-2 small: 12 blocks of 12 heads and 768 channels, 50,257 tokens.

    Its 124,439,808 parameters count the embeddings once, which its last layer shares. Here the last
    layer has a separate kernel, of 38,597,376 values more.
    """
    options = TransformerShape(50_257, positions, 50_257, 768, 12, 12, causal=True, drop_rate=0.1)
    return transformer("gpt2", options)
