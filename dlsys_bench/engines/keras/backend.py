"""The backends of keras: how each is started, and what differs between them."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.plan import Array
from dlsys_bench.errors import EngineError

TensorList = list[Any]
KerasInputs = tuple[Array, ...]
"""An array for each input of a model, in the order of the model."""

LossFunction = Callable[[TensorList], tuple[Any, Any]]


FEW_SAMPLES = 1000


class FitData(Protocol):
    """Creates the data arguments of keras's `fit` from inputs and targets: batches of one size, the
    last smaller, or of a list of sizes. The order of the shuffling follows from
    keras.utils.set_random_seed."""

    def __call__(
        self,
        x: KerasInputs,
        y: NDArray[Any],
        batch_size: int | list[int],
        *,
        shuffle: bool = False,
    ) -> dict[str, Any]: ...


class Backend(NamedTuple):
    """The functions that differ between backends. `differentiate` returns the value of a function
    of some tensors, its second result, and the gradient of the value in each tensor. `compile_fast`
    compiles a function of little work with the options of `jax.jit`, without optimisations; it is
    None on the backend that computes without compiling. `few_updates` is the number of updates up
    to which a training takes less time uncompiled."""

    has_gpu: Callable[[], bool]
    differentiate: Callable[[LossFunction, TensorList], tuple[Any, Any, TensorList]]
    feed: FitData
    compile_fast: Callable[..., Callable[..., Any]] | None = None
    few_updates: int = 0

    def compile_once(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of little work, compiled where each of its operations would be."""
        return function if self.compile_fast is None else self.compile_fast(function)


def _tensorflow_has_gpu() -> bool:
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def _tensorflow_differentiate(
    forward: LossFunction, tensors: TensorList
) -> tuple[Any, Any, TensorList]:
    import tensorflow

    with tensorflow.GradientTape() as tape:
        tape.watch(tensors)
        value, beside = forward(tensors)
    return value, beside, tape.gradient(value, tensors, unconnected_gradients="zero")


def _tensorflow_feed(
    x: KerasInputs, y: NDArray[Any], batch_size: int | list[int], *, shuffle: bool = False
) -> dict[str, Any]:
    """Create a tf.data.Dataset, which keeps its dtype: Keras casts arrays to its floatx.

    The autotuner is off. With it, deleting an iterator may have to wait for the tuner's next round,
    which comes later the longer the iterator has existed (TensorFlow 2.21), so that some epochs
    take twice as long.
    """
    import tensorflow

    options = tensorflow.data.Options()
    options.autotune.enabled = False
    with tensorflow.device("cpu:0"):
        held = tuple(map(tensorflow.constant, x)), tensorflow.constant(y)
        if len(y) <= FEW_SAMPLES and isinstance(batch_size, int) and not shuffle:
            # This takes longer for every sample, but no function has to be traced.
            slices = tensorflow.data.Dataset.from_tensor_slices(held).batch(batch_size)
            return {"x": slices.with_options(options), "shuffle": False}
        order = tensorflow.data.Dataset.range(len(y))
        if shuffle:
            order = order.shuffle(len(y))
        if isinstance(batch_size, int):
            places = order.batch(batch_size)
        else:
            index = tensorflow.TensorSpec([None], "int64")
            places = tensorflow.data.Dataset.from_generator(
                lambda: _places(batch_size), output_signature=index
            )
            places = places.apply(tensorflow.data.experimental.assert_cardinality(len(batch_size)))
        batches = places.map(
            lambda chosen: tensorflow.nest.map_structure(
                lambda part: tensorflow.gather(part, chosen), held
            )
        )
    # Keras does not shuffle a dataset, and warns if it is asked to.
    return {"x": batches.prefetch(2).with_options(options), "shuffle": False}


def _places(sizes: list[int]) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of the samples of each batch."""
    start = 0
    for size in sizes:
        yield np.arange(start, start + size)
        start += size


def _jax_has_gpu() -> bool:
    import jax

    return any(device.platform == "gpu" for device in jax.devices())


def _jax_differentiate(forward: LossFunction, tensors: TensorList) -> tuple[Any, Any, TensorList]:
    import jax

    (value, beside), gradients = jax.value_and_grad(forward, has_aux=True)(tensors)
    return value, beside, gradients


def _jax_feed(
    x: KerasInputs, y: NDArray[Any], batch_size: int | list[int], *, shuffle: bool = False
) -> dict[str, Any]:
    """Return the arrays, or a generator of batches of a list of sizes."""
    if not isinstance(batch_size, int):
        return {
            "x": ((tuple(each[at] for each in x), y[at]) for at in _places(batch_size)),
            "steps_per_epoch": len(batch_size),
        }
    return {"x": x, "y": y, "batch_size": batch_size, "shuffle": shuffle}


def _jax_compile_fast(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a function by jax. Each operation would be a program otherwise."""
    from dlsys_bench.engines.jax.compilation import compile_program

    compiled: Callable[..., Any] = compile_program(function, **options)
    return compiled


BACKENDS: dict[str, Backend] = {
    "tensorflow": Backend(
        _tensorflow_has_gpu,
        _tensorflow_differentiate,
        _tensorflow_feed,
        # To trace a step takes as long as 5 to 9 steps without a trace, whatever the network.
        few_updates=6,
    ),
    "jax": Backend(_jax_has_gpu, _jax_differentiate, _jax_feed, _jax_compile_fast),
}


def _is_not_about_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()


def start_backend(engine: str, backend: str, device: str) -> None:
    """Import keras on a backend, unless it is running there already.

    Raises EngineError if keras runs on another backend in this process, or if there is no GPU for
    the device "cuda".
    """
    running = importlib.import_module("keras").config.backend() if "keras" in sys.modules else None
    if running not in (None, backend):
        raise EngineError(
            f'engine "{engine}" needs keras on {backend}, but this process already runs it on '
            f"{running}: use a separate process"
        )
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Deprecation warnings of keras's dependencies.
        importlib.import_module("keras")
    # TensorFlow mistakes many networks, each compiled once, for one function that is compiled again
    # and again, and warns.
    logging.getLogger("tensorflow").addFilter(_is_not_about_retracing)
    if device == "cuda" and not BACKENDS[backend].has_gpu():
        raise EngineError(
            f'engine "{engine}" finds no CUDA device on this machine: use --device cpu'
        )
