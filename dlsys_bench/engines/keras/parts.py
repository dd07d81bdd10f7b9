# mypy: disallow-subclassing-any=False
"""A keras.Model that computes a batch in parts. This module imports keras, so it is imported only
after an engine has started its backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras


class PartedModel(keras.Model):
    """A functional model that computes a batch in `parts` in training, unless they are None.

    Every part is a pass of its own through all layers. The outputs of all are those of the batch,
    so that its loss counts each part by its samples, or by the weights of its labels, and one
    backward pass adds up the gradients. Keras's `gradient_accumulation_steps` counts batches of any
    size alike, and goes on across the end of an epoch. A small batch has fewer parts: the first
    `certain` have samples in every batch. `select` chooses the samples whose masks dropout uses.
    """

    parts: int | None = None
    certain: int
    select: Callable[[slice], None]
    jit_compile: bool
    compile_fast: Callable[..., Callable[..., Any]] | None = None
    fast_step: Callable[..., Any] | None = None

    def make_train_function(self, force: bool = False) -> None:
        """Create the function of a step, compiled by `compile_fast` if that is not None."""
        if self.train_function is not None:
            super().make_train_function(force)
            return
        compile_fast = None if self.run_eagerly else self.compile_fast
        self.fast_step = compile_fast and compile_fast(super().train_step, donate_argnums=0)
        compiled, self.jit_compile = self.jit_compile, self.jit_compile and not self.fast_step
        super().make_train_function(force)
        self.jit_compile = compiled

    def train_step(self, *given: Any) -> Any:
        """Make a step by the compiled function, if there is one."""
        step = super().train_step if self.fast_step is None else self.fast_step
        return step(*given)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Compute the outputs."""
        if not training or self.parts is None:
            return super().call(inputs, training=training, mask=mask)

        def compute(here: slice) -> Any:
            self.select(here)
            given = tuple(each[here] for each in inputs)
            return super(PartedModel, self).call(given, training=True)

        # A tensor in a graph of TensorFlow, whose batches are of any size.
        samples = keras.ops.shape(inputs[0])[0]
        size = -(-samples // self.parts)
        outputs = [compute(slice(0, size))]
        for part in range(1, self.parts):
            start = part * size
            exists = part < self.certain or start < samples
            computed = partial(compute, slice(start, start + size))
            outputs.append(_if(exists, computed, lambda: outputs[0][:0]))
        self.select(slice(None))
        return keras.ops.concatenate(outputs)


def _if(condition: Any, compute: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """Return the result of one of two functions, by a condition that may be a tensor."""
    if isinstance(condition, bool):
        return compute() if condition else otherwise()
    return keras.ops.cond(condition, compute, otherwise)
