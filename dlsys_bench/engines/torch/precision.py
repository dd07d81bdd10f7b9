"""How exact the products of float32 are. In torch these are switches of the whole process: they are set for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Products = Literal["float32", "tf32", "bfloat16"]
"""What factors of a product are rounded to: 24, 11 or 8 bits. The sums, and all else that is kept, are float32. In
double precision nothing is rounded."""


def _switches() -> list[tuple[object, str, object, object]]:
    """Each with its name, what it is for float32, and what for TF32."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        # Both of cuDNN's, or whoever asks by the older names gets an error.
        return [(place, "fp32_precision", "ieee", "tf32") for place in (cuda, cudnn.conv, cudnn.rnn)]
    return [(place, "allow_tf32", False, True) for place in (cuda, cudnn)]


@contextmanager
def computing(products: Products) -> Iterator[None]:
    """While in here, CUDA's products are so exact. torch's own default is TF32 in convolutions, float32 elsewhere."""
    switches = _switches()
    before = [getattr(place, name) for place, name, _, _ in switches]
    for place, name, full, tf32 in switches:
        setattr(place, name, tf32 if products == "tf32" else full)
    try:
        yield
    finally:
        for (place, name, _, _), value in zip(switches, before, strict=True):
            setattr(place, name, value)
