"""Between numpy's arrays, channel last, and torch's tensors, channel first, on their device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.torch.precision import Products
from dlsys_bench.spec.losses import Loss

KERNEL_OUT = {4: (2, 3, 1, 0), 2: (1, 0)}
KERNEL_IN = {4: (3, 2, 0, 1), 2: (1, 0)}


class TorchPlacement(NamedTuple):
    """Where an engine keeps its tensors, how wide they are, and what it rounds the factors of
    products to. Images come as (..., N, H, W, C)."""

    device: str
    dtype: torch.dtype
    products: Products = "float32"

    def x(self, x: Array) -> Tensor:
        there = torch.as_tensor(np.ascontiguousarray(x), dtype=self.dtype, device=self.device)
        # `contiguous` takes the strides of one channel as they are, and oneDNN may misread images
        # with those.
        return channel_first(there).clone(memory_format=torch.contiguous_format)

    def y(self, loss: Loss, y: NDArray[Any]) -> Tensor:
        dtype = torch.int64 if loss.targets == "labels" else self.dtype
        return torch.as_tensor(np.ascontiguousarray(y), dtype=dtype, device=self.device)

    def masks(self, masks: Mapping[int, NDArray[np.bool_]] | None) -> dict[int, Tensor]:
        """What each dropout layer keeps, by its place; where nothing is said, it draws."""
        return {
            place: channel_first(torch.from_numpy(mask)).to(self.device)
            for place, mask in (masks or {}).items()
        }


def channel_first(x: Tensor) -> Tensor:
    return x.movedim(-1, -3) if x.ndim >= 4 else x


def channel_last(y: Tensor) -> Array:
    return (y.movedim(-3, -1) if y.ndim >= 4 else y).detach().cpu().numpy()


def kernel_out(name: str, tensor: Tensor) -> Array:
    """Torch's (out, in, h, w) and (out, in) as (h, w, in, out) and (in, out), a copy."""
    order = KERNEL_OUT.get(tensor.ndim) if name.endswith(".kernel") else None
    return np.ascontiguousarray(
        (tensor.permute(order) if order else tensor).detach().cpu().numpy()
    ).copy()


def kernel_in(name: str, values: Array) -> Tensor:
    order = KERNEL_IN.get(values.ndim) if name.endswith(".kernel") else None
    return torch.from_numpy(np.ascontiguousarray(values.transpose(order) if order else values))
