"""Where an engine keeps its arrays, how wide they are, and how a process is told so for a while and
no longer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from dlsys_bench.engines.plan import Weights
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.losses import Loss

# What the project calls a device, and jax a platform.
PLATFORMS = {"cpu": "cpu", "cuda": "gpu"}

# What is drawn from a seed, each from a stream of its own.
USES = ("weights", "passes", "order", "dropout")


class JaxPlacement(NamedTuple):
    """A device and a dtype. Whatever is put here is committed: one signature, so nothing is
    compiled twice."""

    device: Any
    dtype: str

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Width and device for this thread, while inside: the process's own flags stay as whoever
        set them wants."""
        with enable_x64(self.dtype == "float64"), jax.default_device(self.device):
            yield

    def put(self, values: Any, dtype: Any = None) -> Array:
        """A copy on the device, of the engine's dtype unless told. A copy, because jax may keep
        numpy's own memory, which its owner may change and which cannot be donated."""
        return jax.device_put(jnp.array(values, dtype or self.dtype), self.device)

    def key(self, seed: int, use: str) -> Array:
        """A key for one use of a seed of any size, of which jax itself takes 32 bits."""
        words = np.random.SeedSequence((seed, USES.index(use))).generate_state(1)
        return jax.device_put(jax.random.key(int(words[0]) >> 1), self.device)

    def targets(self, loss: Loss, y: NDArray[Any]) -> Array:
        """Labels as whole numbers, signs and values as numbers of the engine's dtype."""
        return self.put(y, np.int32 if loss.targets == "labels" else None)


def enable_x64(wide: bool) -> Any:
    """Double precision for a while, or none. Older versions have it in jax.experimental, newer ones
    no more."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(wide)
    from jax import experimental

    return experimental.enable_x64(wide)


def find_placement(engine: str, device: str, dtype: str) -> JaxPlacement:
    """The home on a device. Errors: EngineError where jax has none of the kind."""
    try:
        return JaxPlacement(jax.devices(PLATFORMS[device])[0], dtype)
    except RuntimeError:
        raise EngineError(
            f'engine "{engine}" finds no CUDA device: use --device cpu, or on a machine that has one '
            "pip install 'jax[cuda12]'"
        ) from None


def copy_out(tensors: Mapping[str, Array]) -> Weights:
    """Arrays off the device, of their own memory: a donated buffer is written over."""
    return {name: np.array(tensor) for name, tensor in tensors.items()}
