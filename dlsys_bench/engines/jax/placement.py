"""The device and the dtype of an engine's arrays, and the settings of jax while it computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from dlsys_bench.engines.inputs import input_arrays
from dlsys_bench.engines.plan import Weights
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model

# jax's name of each device.
PLATFORMS = {"cpu": "cpu", "cuda": "gpu"}

# The uses of a seed; each draws from a separate stream.
USES = ("weights", "passes", "order", "dropout")


JaxInputs = tuple[Array, ...]
"""An array for each input of a model, in the order of the model."""


class JaxPlacement(NamedTuple):
    """A device and a dtype. All arrays are committed to the device: otherwise jax would compile a
    program once for committed and once for uncommitted arrays."""

    device: Any
    dtype: str

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Set the width of numbers and the default device for this thread; the flags of the process
        stay unchanged."""
        with enable_x64(self.dtype == "float64"), jax.default_device(self.device):
            yield

    def put(self, values: Any, dtype: Any = None) -> Array:
        """Copy values to the device, by default in the engine's dtype.

        jax may share the memory of a numpy array, so it is given a copy that nobody can change. A
        conversion by jax would be a program for every shape.
        """
        own = np.asarray(values).astype(dtype or self.dtype)
        return jax.device_put(own, self.device)

    def inputs(self, model: Model, x: NDArray[Any]) -> JaxInputs:
        """Copy every input to the device: token ids as int32, others in the engine's dtype."""
        return tuple(self.put(each, each.dtype) for each in input_arrays(model, x, self.dtype))

    def key(self, seed: int, use: str) -> Array:
        """Return a key for one use of a seed, which may have more than the 32 bits that jax
        takes."""
        words = np.random.SeedSequence((seed, USES.index(use))).generate_state(1)
        return jax.device_put(jax.random.key(int(words[0]) >> 1), self.device)

    def targets(self, loss: Loss, y: NDArray[Any]) -> Array:
        """Copy targets to the device: labels as integers, signs and values in the engine's
        dtype."""
        return self.put(y, np.int32 if loss.targets == "labels" else None)


def enable_x64(wide: bool) -> Any:
    """Enable or disable double precision in a block. Older versions of jax have this function in
    jax.experimental, newer ones do not."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(wide)
    from jax import experimental

    return experimental.enable_x64(wide)


def find_placement(engine: str, device: str, dtype: str) -> JaxPlacement:
    """Return the placement on a device. Raises EngineError if jax has no such device."""
    try:
        return JaxPlacement(jax.devices(PLATFORMS[device])[0], dtype)
    except RuntimeError:
        raise EngineError(
            f'engine "{engine}" finds no CUDA device: use --device cpu, or on a machine that has '
            "one pip install 'jax[cuda12]'"
        ) from None


def copy_out(tensors: Mapping[str, Array]) -> Weights:
    """Copy arrays from the device. A copy, since a donated buffer is overwritten."""
    return {name: np.array(tensor) for name, tensor in tensors.items()}
