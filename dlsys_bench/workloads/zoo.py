"""Every model of the workloads, by name."""

from __future__ import annotations

from dlsys_bench.spec.model import Model
from dlsys_bench.workloads.depthwise import KINDS, mobilenet, small_mobilenet
from dlsys_bench.workloads.residual import BLOCKS, resnet20, small_resnet
from dlsys_bench.workloads.transformer import CAUSAL, POOLED, causal, gpt2, pooled

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        *(small_resnet(kind) for kind in BLOCKS),
        resnet20((28, 28, 1)),
        resnet20(),
        resnet20(kind="pre"),
        *(small_mobilenet(kind) for kind in KINDS),
        *(mobilenet(kind) for kind in KINDS),
        *(causal(name) for name in CAUSAL),
        *(pooled(modulus) for modulus in POOLED),
        gpt2(),
    )
}
