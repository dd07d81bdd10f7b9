"""The learning-rate schedules: the learning rate as a function of the step."""

from __future__ import annotations

from dlsys_bench.spec.schedules.annealing import CosineDecay, OneCycle, StepDecay
from dlsys_bench.spec.schedules.base import Schedule
from dlsys_bench.spec.schedules.cyclical import CyclicalLearningRate, LearningRateRamp
from dlsys_bench.spec.schedules.warm_up import ConstantRate, WarmUp

SCHEDULES: dict[str, type[Schedule]] = {
    record.kind: record
    for record in (
        *(CyclicalLearningRate, LearningRateRamp, ConstantRate, WarmUp),
        *(CosineDecay, StepDecay, OneCycle),
    )
}

__all__ = [
    "SCHEDULES",
    "ConstantRate",
    "CosineDecay",
    "CyclicalLearningRate",
    "LearningRateRamp",
    "OneCycle",
    "Schedule",
    "StepDecay",
    "WarmUp",
]
