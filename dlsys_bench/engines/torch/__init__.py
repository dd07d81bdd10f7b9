"""The torch engine, written as torch's users write it: layers of torch.nn, torch.optim, and a loop
over tensors on the device."""

from dlsys_bench.engines.torch.engine import (
    TorchBfloat16Engine,
    TorchCompileEngine,
    TorchEngine,
    TorchTF32Engine,
)

__all__ = ["TorchBfloat16Engine", "TorchCompileEngine", "TorchEngine", "TorchTF32Engine"]
