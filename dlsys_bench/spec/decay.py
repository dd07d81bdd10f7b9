"""Weight decay: how weights shrink, and which of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    Record,
    require_choice,
    require_number,
    require_switches,
)

COUPLINGS = ("decoupled", "coupled")

DECAYING: Mapping[str, Callable[[str, int], bool]] = {
    "kernels": lambda name, axes: axes > 1 and name.rpartition(".")[2] != "embeddings",
    "matrices": lambda name, axes: axes > 1,
    "all": lambda name, axes: True,
}
"""Whether a trainable tensor decays, by its name and its number of axes, for each choice of
`WeightDecay.tensors`."""


@dataclass(frozen=True)
class WeightDecay(Record):
    """Decay of the weights w of some tensors at each update.

    `coupling` selects the definition, with the learning rate of the step:

    - "decoupled" (AdamW): before the update, w <- w - learning_rate rate w. The update does not
      depend on it, because the gradient is that of the weights before. Loshchilov & Hutter 2019,
      arXiv:1711.05101; as in torch's `AdamW` and in the `weight_decay` of every Keras optimiser,
      the decay is multiplied by the learning rate, in the paper by the schedule alone.
    - "coupled" (an L2 penalty of rate / 2 times the sum of w^2): rate w is added to the gradient,
      and enters the momentum and the moments. As the `weight_decay` of torch's `SGD` and `Adam`.
      In Keras it is the regulariser `L2(rate / 2)`.

    Without momentum, SGD gives the same by both.

    `tensors` states which trainable tensors decay: "kernels" (two or more axes, without
    embeddings), "matrices" (two or more axes) or "all". Without groups of parameters, torch and
    Keras let all decay.

    `clipped` states whether `Recipe.clip` clips the gradient with the coupled term (Keras, where
    the penalty is part of the loss) or without it (torch, which adds it in the optimiser). The loss
    that a training reports never includes the penalty, as in torch; Keras adds it.
    """

    rate: float = 0.01
    coupling: Literal["decoupled", "coupled"] = "decoupled"
    tensors: Literal["kernels", "matrices", "all"] = "kernels"
    clipped: bool = True

    kind: ClassVar[str] = "weight_decay"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"rate": -0.1}, "rate is -0.1"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"coupling": "l2"}, "coupling is 'l2'"),
        ({"tensors": "biases"}, "tensors is 'biases'"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        f"{coupling}-{tensors}": {
            "rate": (0.3, 0.1),
            "coupling": (coupling,),
            "tensors": (tensors,),
        }
        for coupling in COUPLINGS
        for tensors in DECAYING
    }
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "keras": {"clipped": True},
        "torch": {"clipped": False},
    }

    def __post_init__(self) -> None:
        require_number(self.kind, "rate", self.rate, 0.0, math.inf, open_low=True, open_high=True)
        require_choice(self.kind, "coupling", self.coupling, COUPLINGS)
        require_choice(self.kind, "tensors", self.tensors, tuple(DECAYING))
        require_switches(self, "clipped")

    def convention_options(self, convention: str) -> Mapping[str, Any]:
        """Return the options that follow a convention: none of a decoupled decay."""
        return super().convention_options(convention) if self.coupling == "coupled" else {}

    def applies(self, name: str, axes: int) -> bool:
        """Return whether a trainable tensor of this name and number of axes decays."""
        return DECAYING[self.tensors](name, axes)
