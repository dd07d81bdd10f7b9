"""The torch engine, as its users would write it: nn layers, torch.optim, eager loops over tensors on the device."""

from dlsys_bench.engines.torch.engine import TorchEngine

__all__ = ["TorchEngine"]
