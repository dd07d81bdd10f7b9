"""Engines that are healthy in float64 and have one fault in float32, where people train."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Gradients
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.activation import ActivationRule
from dlsys_bench.engines.numpy.dense import DenseRule
from dlsys_bench.engines.numpy.dropout import DropoutRule
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.numpy.optimizers import AdamStepper, SGDStepper
from dlsys_bench.engines.numpy.ruleset import NUMPY_RULES, RuleSet
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.spec.layers import Activation, Dense, Dropout
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam
from dlsys_bench.spec.recipe import Recipe


def rules(**changed: Any) -> RuleSet:
    """Return the rules of the numpy engine with those of some layers changed."""
    kinds = {"activation": Activation, "dense": Dense, "dropout": Dropout}
    by_layer = {kinds[name]: rule for name, rule in changed.items()}
    return NUMPY_RULES._replace(rules={**NUMPY_RULES.rules, **by_layer})


class _MaskedOnce(DropoutRule[Dropout]):
    def forward(self, x: Array, training: bool) -> Array:
        if x.dtype == np.float32:
            states = [generator.bit_generator.state for generator in self.generators]
            y = super().forward(x, training)
            for generator, state in zip(self.generators, states, strict=True):
                generator.bit_generator.state = state
            return y
        return super().forward(x, training)


class ReusedMasks(NumpyEngine):
    """Every step of a native training drops the same units."""

    rule_set = rules(dropout=_MaskedOnce)


class _Drawing(NumpyEngine):
    """Changes the weights that the engine draws."""

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> Network:
        if weights is None and self.dtype == "float32":
            weights = {
                name: self.drawn(name, values) for name, values in Plan(seed).weights(model).items()
            }
        return super().build(model, weights, seed=seed)

    def drawn(self, name: str, values: Array) -> Array:
        raise NotImplementedError


class NonzeroBiases(_Drawing):
    """Biases start at 0.01."""

    def drawn(self, name: str, values: Array) -> Array:
        return values + 0.01 if name.endswith("bias") else values


class WideKernels(_Drawing):
    """Kernels start a tenth too wide."""

    def drawn(self, name: str, values: Array) -> Array:
        return 1.1 * values if name.endswith("kernel") else values


class _RationalTanh(ActivationRule):
    def forward(self, x: Array, training: bool) -> Array:
        y = super().forward(x, training)
        if self.layer.function == "tanh" and x.dtype == np.float32:
            np.clip(x * (27 + x * x) / (27 + 9 * x * x), -1, 1, out=y)
        return y


class RationalTanh(NumpyEngine):
    """A tanh is a Padé approximation that is right to two digits."""

    rule_set = rules(activation=_RationalTanh)


@dataclass(frozen=True)
class _ReplacingPlan(Plan):
    def order(self, epoch: int, samples: int, shuffle: bool = True) -> NDArray[np.intp]:
        generator = np.random.default_rng((self.seed, epoch))
        return generator.integers(0, samples, samples)


@dataclass(frozen=True)
class _FixedPlan(Plan):
    def order(self, epoch: int, samples: int, shuffle: bool = True) -> NDArray[np.intp]:
        return super().order(1, samples, shuffle)


class _Planning(NumpyEngine):
    """Changes the plan of native trainings."""

    def fit(self, net: Network, samples: Samples, recipe: Recipe, plan: Plan) -> Generator[Epoch]:
        changed = not plan.parity and self.dtype == "float32"
        return super().fit(net, samples, recipe, self.planned(plan) if changed else plan)

    def planned(self, plan: Plan) -> Plan:
        raise NotImplementedError


class WithReplacement(_Planning):
    """An epoch draws its samples with replacement."""

    def planned(self, plan: Plan) -> Plan:
        return _ReplacingPlan(plan.seed, plan.steps)


class IgnoredSeed(_Planning):
    """Native trainings do not depend on their seed."""

    def planned(self, plan: Plan) -> Plan:
        return replace(plan, seed=0)


class FixedOrder(_Planning):
    """Every epoch has the order of the first."""

    def planned(self, plan: Plan) -> Plan:
        return _FixedPlan(plan.seed, plan.steps)


def _in_half(values: Array) -> Array:
    half: Array = values.astype(np.float16).astype(values.dtype)
    return half


class HalfGradients(NumpyEngine):
    """Gradients are rounded to float16."""

    def gradients(self, net: Network, batch: Batch, loss: Loss) -> Gradients:
        found = super().gradients(net, batch, loss)
        if self.dtype == "float64":
            return found
        weights = {name: _in_half(values) for name, values in found.weights.items()}
        return Gradients(found.loss, weights, found.x if found.x is None else _in_half(found.x))


class _HalfSGD(SGDStepper):
    def step(self, parameters: Array, gradient: Array, learning_rate: Any) -> None:
        if parameters.dtype == np.float32:
            gradient[...] = _in_half(gradient)
        super().step(parameters, gradient, learning_rate)


class HalfGradientsInFit(NumpyEngine):
    """Gradients are rounded to float16 in `fit` alone."""

    rule_set = NUMPY_RULES._replace(steppers={**NUMPY_RULES.steppers, SGD: _HalfSGD})


class _KeptMomentum(AdamStepper):
    kept: ClassVar[dict[int, tuple[Array, Array, Array]]] = {}

    def start(self, parameters: Array) -> None:
        super().start(parameters)
        known = self.kept.get(id(parameters))
        if known is not None and known[0] is parameters and parameters.dtype == np.float32:
            _, self.mean, self.square = known
        self.kept[id(parameters)] = parameters, self.mean, self.square


class KeptMomentum(NumpyEngine):
    """A second training of a network goes on with the moments of the first."""

    rule_set = NUMPY_RULES._replace(steppers={**NUMPY_RULES.steppers, Adam: _KeptMomentum})


class _ElevenBits(DenseRule):
    def forward(self, x: Array, training: bool) -> Array:
        if x.dtype == np.float32:
            x = (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
        return super().forward(x, training)


class ElevenBits(NumpyEngine):
    """A dense layer multiplies numbers with a mantissa of eleven bits, as TF32 does."""

    rule_set = rules(dense=_ElevenBits)


FAULTS = {
    ReusedMasks: "state/dropout-in-fit",
    NonzeroBiases: "initializer/glorot_uniform",
    WideKernels: "initializer/glorot_uniform",
    RationalTanh: "forward/tanh",
    WithReplacement: "trajectory/order",
    IgnoredSeed: "trajectory/order",
    FixedOrder: "trajectory/order",
    HalfGradients: "gradient/dense",
    HalfGradientsInFit: "step/sgd",
    KeptMomentum: "state/optimizer",
    ElevenBits: "forward/dense",
}
"""The check that detects each of them, in float32."""
