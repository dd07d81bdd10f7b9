"""The keras engines, written as Keras's users write them: its layers, optimisers and losses,
`compile` and `fit`.

Importing this package does not import keras: its backend is chosen once per process, when the first
engine is created.
"""

from dlsys_bench.engines.keras.engine import KerasEngine, KerasJaxEngine, KerasJitEngine

__all__ = ["KerasEngine", "KerasJaxEngine", "KerasJitEngine"]
