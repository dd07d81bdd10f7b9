"""How exact the products of float32 are. In torch these are switches of the whole process: they are
set for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Products = Literal["float32", "tf32", "bfloat16"]
"""What the factors of a product are rounded to: 24, 11 or 8 bits. Its sums are float32; those of
bfloat16 are rounded when they are whole, with what a bias adds. In double precision nothing is
rounded."""


def _switches() -> list[tuple[object, str, object, object]]:
    """Each with its name, what it is for float32, and what for TF32."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    found: list[tuple[object, str, object, object]]
    if hasattr(cudnn, "conv"):
        # Both of cuDNN's, or whoever asks by the older names gets an error.
        found = [
            (place, "fp32_precision", "ieee", "tf32") for place in (cuda, cudnn.conv, cudnn.rnn)
        ]
    else:
        found = [(place, "allow_tf32", False, True) for place in (cuda, cudnn)]
    # Or the parts of a long sum are added as bfloat16.
    return [*found, (cuda, "allow_bf16_reduced_precision_reduction", False, False)]


@contextmanager
def product_precision(products: Products) -> Iterator[None]:
    """While in here, CUDA's products are so exact. torch's own default is TF32 in convolutions,
    float32 elsewhere."""
    switches = _switches()
    before = [getattr(place, name) for place, name, _, _ in switches]
    for place, name, full, tf32 in switches:
        setattr(place, name, tf32 if products == "tf32" else full)
    try:
        yield
    finally:
        for (place, name, _, _), value in zip(switches, before, strict=True):
            setattr(place, name, value)
