"""The precision of float32 products on CUDA. In torch it is a setting of the process, which is
changed only while an engine computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import torch

Products = Literal["float32", "tf32", "float16", "bfloat16"]
"""What the factors of a product are rounded to: 24, 11, 11 or 8 bits. Sums are float32; the final
sums of float16 and bfloat16 products, including the bias, are rounded to these. In double precision
nothing is rounded."""

FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""The formats of autocast."""


class AutocastNetwork(Protocol):
    """A network whose products are computed in a format of autocast, if it has one."""

    format: torch.dtype | None


@contextmanager
def rounded_products(net: AutocastNetwork, products: str | None) -> Iterator[None]:
    """Compute the products of a network in this format inside; with None in that of the network."""
    before = net.format
    net.format = FORMATS.get(products or "", before)
    try:
        yield
    finally:
        net.format = before


def _switches() -> list[tuple[object, str, object, object]]:
    """Return the settings: object, attribute, value for float32, and value for TF32."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    found: list[tuple[object, str, object, object]]
    if hasattr(cudnn, "conv"):
        # Both settings of cuDNN: reading the older, single setting fails if they differ.
        found = [
            (place, "fp32_precision", "ieee", "tf32") for place in (cuda, cudnn.conv, cudnn.rnn)
        ]
    else:
        found = [(place, "allow_tf32", False, True) for place in (cuda, cudnn)]
    # Otherwise the parts of a long sum are added in bfloat16.
    return [*found, (cuda, "allow_bf16_reduced_precision_reduction", False, False)]


@contextmanager
def product_precision(products: Products) -> Iterator[None]:
    """Compute CUDA's products with this precision inside. torch's default is TF32 in convolutions
    and float32 elsewhere."""
    switches = _switches()
    before = [getattr(place, name) for place, name, _, _ in switches]
    for place, name, full, tf32 in switches:
        setattr(place, name, tf32 if products == "tf32" else full)
    try:
        yield
    finally:
        for (place, name, _, _), value in zip(switches, before, strict=True):
            setattr(place, name, value)
