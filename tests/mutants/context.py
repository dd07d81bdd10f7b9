"""Attention to a context: the mistakes of two inputs of different lengths and widths."""

from __future__ import annotations

from mutants.mutant import Mutant

_PROJECTED = "self._project(name, self.context)"
_KEPT = "self.kept = None if kept is None else kept.transpose(0, 2, 4, 3, 1)"


def _of_x(name: str) -> str:
    """The projection in which keys or values are those of x, where the shapes allow it."""
    return (
        f'self._project(name, self.x if name == "{name}" and '
        "self.x.shape == self.context.shape else self.context)"
    )


MUTANTS = (
    Mutant(
        "context_keys_of_the_queries",
        "The keys are those of the sequence that attends, where the shapes allow it.",
        "forward/cross_attention",
        "attention",
        _PROJECTED,
        _of_x("key"),
    ),
    Mutant(
        "context_values_of_the_queries",
        "The values are those of the sequence that attends, where the shapes allow it.",
        "forward/cross_attention",
        "attention",
        _PROJECTED,
        _of_x("value"),
    ),
    Mutant(
        "context_scale_by_its_width",
        "The scores are divided by the root of the key size that the context would have.",
        "forward/cross_attention",
        "attention",
        "math.sqrt(layer.size(self.shape))",
        "math.sqrt(max(1, layer.size(self.shapes[-1])))",
    ),
    Mutant(
        "context_without_gradient",
        "The gradient in the context is zero.",
        "gradient/cross_attention",
        "attention",
        "return dx if self.layer.context else dx[0]",
        "return [dx[0], 0 * dx[1]] if self.layer.context else dx[0]",
    ),
    Mutant(
        "context_gradient_of_the_values",
        "The gradient in the context is that by way of the values alone.",
        "gradient/cross_attention",
        "attention",
        "(found[:1], found[1:])",
        "(found[:1], found[2:])",
    ),
    Mutant(
        "context_dropout_transposed",
        "Beside a context of as many positions, the masks of queries and keys are swapped.",
        "forward/cross_attention",
        "attention",
        _KEPT,
        "if kept is not None and layer.context and kept.shape[1] == kept.shape[3]:\n"
        f"            kept = kept.swapaxes(1, 3)\n        {_KEPT}",
    ),
    Mutant(
        "context_softmax_over_the_queries",
        "With a context, the softmax is over the queries instead of the keys.",
        "forward/cross_attention",
        "attention",
        "scores /= scores.sum(axis=-1, keepdims=True)",
        "scores /= scores.sum(axis=-2 if layer.context else -1, keepdims=True)",
    ),
    Mutant(
        "torch_keys_of_a_context_detached",
        "The gradient in a context is that by way of the values alone.",
        "gradient/cross_attention",
        "attention",
        "(self.key, context)",
        "(self.key, context if context is x else context.detach())",
        package="torch",
    ),
)
