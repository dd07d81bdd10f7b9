"""The optimisers: records that define how gradients change the weights.

Where Keras and torch differ, an option states which of the two definitions is meant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.record import (
    ADDED_LATER,
    Choices,
    Invalid,
    Record,
    require,
    require_choice,
    require_number,
    require_switches,
)


@dataclass(frozen=True)
class Optimizer(Record):
    """The base of the optimisers. Every one may have a weight decay."""

    learning_rate: float
    decay: WeightDecay | None = field(default=None, kw_only=True, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        require_number(
            self.kind, "learning_rate", self.learning_rate, 0.0, math.inf, open_high=True
        )
        require(
            self.decay is None or isinstance(self.decay, WeightDecay),
            f"{self.kind}: decay is {self.decay!r}; expected a record, such as WeightDecay(0.01)",
        )


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as an option. Polyak 1964, Nesterov 1983.

    g is the gradient, v the velocity, w the weights. `velocity` selects the definition:

    - "rate" (Keras): v <- momentum v - learning_rate g, w <- w + v.
    - "gradient" (torch): v <- momentum v + (1 - dampening) g, except that the first v is g;
      w <- w - learning_rate v.

    They agree while the learning rate is constant and the dampening is zero.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    velocity: Literal["rate", "gradient"] = "rate"

    kind: ClassVar[str] = "sgd"
    variants: ClassVar[Mapping[str, Choices]] = {
        "sgd": {"learning_rate": (0.05, 0.1, 0.01)},
        "momentum": {"learning_rate": (0.05, 0.1), "momentum": (0.9, 0.5)},
        "nesterov": {
            "learning_rate": (0.05, 0.1),
            "momentum": (0.9, 0.5),
            "nesterov": (True,),
        },
        "dampening": {
            "learning_rate": (0.05, 0.1),
            "momentum": (0.9,),
            "dampening": (0.5, 0.1),
            "velocity": ("gradient",),
        },
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"learning_rate": -0.1}, "learning_rate is -0.1"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"nesterov": True}, "nesterov needs a momentum"),
        (
            {"momentum": 0.9, "dampening": 0.1, "nesterov": True, "velocity": "gradient"},
            "nesterov needs a momentum",
        ),
        ({"momentum": 0.9, "dampening": 0.1}, 'dampening 0.1 needs velocity "gradient"'),
        ({"decay": 0.01}, "such as WeightDecay(0.01)"),
    )
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "keras": {"velocity": "rate"},
        "torch": {"velocity": "gradient"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number(self.kind, "momentum", self.momentum, 0.0, 1.0, open_high=True)
        require_number(self.kind, "dampening", self.dampening, 0.0, 1.0)
        require_choice(self.kind, "velocity", self.velocity, ("rate", "gradient"))
        require_switches(self, "nesterov")
        require(
            self.velocity == "gradient" or self.dampening == 0,
            f'{self.kind}: dampening {self.dampening:g} needs velocity "gradient", '
            "as in torch; Keras has no dampening",
        )
        if self.nesterov:
            require(
                self.momentum > 0 and self.dampening == 0,
                f"{self.kind}: nesterov needs a momentum above 0 and no dampening, "
                f"but momentum is {self.momentum:g} and dampening {self.dampening:g}",
            )


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moment estimation. Kingma & Ba 2015.

    `epsilon_added` states whether epsilon is added to the root of the second moment "before"
    (Keras) or "after" (torch) the bias correction.
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    epsilon_added: Literal["before", "after"] = "before"

    kind: ClassVar[str] = "adam"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"beta_1": 1.0}, "beta_1 is 1.0"),
        ({"beta_2": -0.1}, "beta_2 is -0.1"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"epsilon": math.inf}, "epsilon is inf"),
        ({"epsilon_added": "inside"}, "epsilon_added is 'inside'"),
    )
    choices: ClassVar[Choices] = {
        "learning_rate": (0.01, 0.001),
        "beta_1": (0.8, 0.9, 0.5, 0.0),
        "beta_2": (0.99, 0.999, 0.9),
        "epsilon": (1e-7, 1e-3, 0.1),
    }
    variants: ClassVar[Mapping[str, Choices]] = {
        "adam": choices,
        "adamw": {**choices, "decay": (WeightDecay(0.1), WeightDecay(0.01))},
    }
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "keras": {"epsilon_added": "before"},
        "torch": {"epsilon_added": "after"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number(self.kind, "beta_1", self.beta_1, 0.0, 1.0, open_high=True)
        require_number(self.kind, "beta_2", self.beta_2, 0.0, 1.0, open_high=True)
        _require_epsilon(self.kind, self.epsilon)
        require_choice(self.kind, "epsilon_added", self.epsilon_added, ("before", "after"))


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """The gradient divided by the root of the moving average of its square. Hinton 2012.

    `epsilon_added` states whether epsilon is added "inside" (Keras) or "outside" (torch) the root.
    """

    learning_rate: float = 0.001
    rho: float = 0.9
    epsilon: float = 1e-7
    epsilon_added: Literal["inside", "outside"] = "inside"

    kind: ClassVar[str] = "rmsprop"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"rho": 1.0}, "rho is 1.0"),
        ({"epsilon": -1e-7}, "epsilon is -1e-07"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"epsilon": math.inf}, "epsilon is inf"),
        ({"epsilon_added": "after"}, "epsilon_added is 'after'"),
    )
    choices: ClassVar[Choices] = {
        "learning_rate": (0.01, 0.001),
        "rho": (0.8, 0.9, 0.5),
        "epsilon": (1e-7, 1e-3, 0.1),
    }
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "keras": {"epsilon_added": "inside"},
        "torch": {"epsilon_added": "outside"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number(self.kind, "rho", self.rho, 0.0, 1.0, open_high=True)
        _require_epsilon(self.kind, self.epsilon)
        require_choice(self.kind, "epsilon_added", self.epsilon_added, ("inside", "outside"))


def _require_epsilon(where: str, epsilon: float) -> None:
    """Raise SpecError unless an epsilon is above 0. With an infinite one, no weight would move."""
    require_number(where, "epsilon", epsilon, 0.0, math.inf, open_low=True, open_high=True)


def AdamW(  # noqa: N802
    learning_rate: float = 0.001,
    decay: float = 0.01,
    *,
    tensors: Literal["kernels", "matrices", "all"] = "kernels",
    **options: Any,
) -> Adam:
    """Return Adam with a decoupled weight decay. Loshchilov & Hutter 2019, arXiv:1711.05101.

    AdamW is Adam with `decay=WeightDecay(...)`, and not another record: one training has one
    JSON, and so one protocol, however it was written.
    """
    return Adam(learning_rate, decay=WeightDecay(decay, tensors=tensors), **options)


OPTIMIZERS: dict[str, type[Optimizer]] = {record.kind: record for record in (SGD, Adam, RMSprop)}
