"""The torch engine, as its users would write it: nn layers, torch.optim, loops over tensors on the
device."""

from dlsys_bench.engines.torch.engine import TorchBfloat16Engine, TorchEngine, TorchTF32Engine

__all__ = ["TorchBfloat16Engine", "TorchEngine", "TorchTF32Engine"]
