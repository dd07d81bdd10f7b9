"""The keras engines, as a Keras user would write them: native layers, optimisers and losses,
`compile` and `fit`.

Importing this package imports no keras: the backend is a choice per process, made when an engine is
created.
"""

from dlsys_bench.engines.keras.engine import KerasEngine, KerasJaxEngine

__all__ = ["KerasEngine", "KerasJaxEngine"]
