"""The forward pass of a training, which torch differentiates: eagerly, or compiled."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor

from dlsys_bench.engines.compiler import find_compiler
from dlsys_bench.engines.torch.layout import TorchInputs
from dlsys_bench.engines.torch.losses import count_correct, loss_function
from dlsys_bench.engines.torch.modules import TorchNetwork
from dlsys_bench.engines.torch.steps import TorchMasks
from dlsys_bench.spec.losses import Loss

X86 = ("x86_64", "AMD64")
"""The names of the processors of x86, on Linux and macOS, and on Windows."""

BatchPass = Callable[[TorchInputs, Tensor, TorchMasks], tuple[Tensor, Tensor]]
"""A function of a batch (x, y) and its masks: the loss and the number of correct answers."""


def pass_of(net: TorchNetwork, loss: Loss) -> BatchPass:
    """Return the pass of a network with a loss, one operation at a time."""
    loss_of = loss_function(loss)

    def run(x: TorchInputs, y: Tensor, masks: TorchMasks) -> tuple[Tensor, Tensor]:
        outputs = net(x, masks)
        return loss_of(outputs, y), count_correct(loss, outputs.detach(), y)

    return run


def compile_pass(run: BatchPass, size: int | None) -> BatchPass:
    """Compile a pass, and with it its gradient, for batches of this size, or if it is None once for
    all sizes. Batches of other sizes are computed eagerly: compiling for the last batch of an epoch
    would take longer than it saves."""
    options: dict[str, Any] = {"cpp.cxx": (None, find_compiler())}
    if platform.machine() in X86:
        # By default each process compiles and runs a small program first, to find out whether the
        # compiler has the vector instructions of the processor, for 9 seconds of CPU time. Every
        # compiler of torch's headers has those of x86. On ARM, where not all have SVE, torch tries.
        options["cpp.vec_isa_ok"] = True
    own = _own_code(cast(FunctionType, run))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Deprecation warnings of torch's own parts.
        compiled: BatchPass = torch.compile(own, dynamic=size is None, options=options)

    def choose(x: TorchInputs, y: Tensor, masks: TorchMasks) -> tuple[Tensor, Tensor]:
        return (compiled if len(y) == size else run)(x, y, masks)

    return compiled if size is None else choose


def _own_code(function: FunctionType) -> FunctionType:
    """Return a copy of a function with a code object of its own.

    torch.compile keeps the programs of a code object together, and from the ninth on it gives up
    and computes eagerly.
    """
    code, names = function.__code__.replace(), function.__globals__
    return FunctionType(code, names, function.__name__, None, function.__closure__)
