"""Conversion between the arrays of the `Engine` interface and torch's tensors.

The interface has the channel last: images (N, H, W, C), kernels (h, w, in, out), (w, in, out) and
(in, out).
torch has it first: images (N, C, H, W), kernels (out, in, h, w), (out, in, w) and (out, in).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlsys_bench.engines.inputs import input_arrays
from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.torch.precision import Products
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import Shape
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model

KERNEL_OUT = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0)}
KERNEL_IN = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0)}


TorchInputs = tuple[Tensor, ...]
"""A tensor for each input of a model, in the order of the model."""


class TorchPlacement(NamedTuple):
    """The device, the dtype and the precision of products of an engine. The methods convert arrays
    of the interface, images (..., N, H, W, C), to tensors on the device."""

    device: str
    dtype: torch.dtype
    products: Products = "float32"

    def x(self, model: Model, x: Array, leading: int = 1) -> TorchInputs:
        """Convert each input (..., *shape), with the channel first for images. The `leading` axes
        are those of `input_arrays`."""
        arrays = input_arrays(model, x, None, leading)
        return tuple(map(self._input, model.input_table, arrays))

    def _input(self, record: Input, x: Array) -> Tensor:
        dtype = torch.int64 if record.dtype == "int" else self.dtype
        there = torch.as_tensor(shareable(x), dtype=dtype, device=self.device)
        # Not `contiguous`, which keeps the unusual strides of images with one channel, since these
        # are contiguous in every order. oneDNN may misread such images.
        first = channel_first(there, record.shape)
        return first.clone(memory_format=torch.contiguous_format)

    def y(self, loss: Loss, y: NDArray[Any]) -> Tensor:
        """Convert targets: labels to int64, signs and values to the dtype of the engine."""
        dtype = torch.int64 if loss.targets == "labels" else self.dtype
        return torch.as_tensor(shareable(y), dtype=dtype, device=self.device)

    def masks(
        self, model: Model, masks: Mapping[int, NDArray[np.bool_]] | None
    ) -> dict[int, Tensor]:
        """Convert what dropout layers keep, by their place; a layer without a mask draws one."""
        found = {}
        for place, mask in (masks or {}).items():
            there = torch.from_numpy(shareable(mask))
            found[place] = channel_first(there, model.table[place].shape).to(self.device)
        return found


def copy_inputs(values: TorchInputs, inputs: TorchInputs) -> None:
    """Copy each input into the memory of another."""
    for own, there in zip(values, inputs, strict=True):
        there.copy_(own)


def shareable(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values in an array whose memory torch can share: contiguous, aligned, writable and
    in the byte order of the machine. It is a copy only if the array is another."""
    values = np.asarray(values)
    return np.require(values, values.dtype.newbyteorder("="), ["C", "A", "W", "E"])


def channel_first(x: Tensor, shape: Shape) -> Tensor:
    """Return a view of values (..., *shape): images as (..., C, H, W), others as they are."""
    return x.movedim(-1, -3) if len(shape) == 3 else x


def channel_last(y: Tensor, shape: Shape) -> Array:
    """Return values as an array (..., *shape): images from (..., C, H, W), others as they are."""
    return (y.movedim(-3, -1) if len(shape) == 3 else y).detach().cpu().numpy()


def kernel_out(name: str, tensor: Tensor) -> Array:
    """Copy a tensor to an array; a kernel in the order of the interface."""
    order = KERNEL_OUT.get(tensor.ndim) if name.endswith("kernel") else None
    return np.ascontiguousarray(
        (tensor.permute(order) if order else tensor).detach().cpu().numpy()
    ).copy()


def kernel_in(name: str, values: Array) -> Tensor:
    """Convert an array to a tensor; a kernel in torch's order."""
    order = KERNEL_IN.get(values.ndim) if name.endswith("kernel") else None
    values = np.asarray(values)
    return torch.from_numpy(shareable(values.transpose(order) if order else values))
