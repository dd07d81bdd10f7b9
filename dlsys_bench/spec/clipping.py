"""Gradient clipping: the records that limit the gradient of an update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dlsys_bench.spec.record import Choices, Invalid, Record, require_number


@dataclass(frozen=True)
class Clip(Record):
    """The base of the clippings. The gradient of an update is clipped before the optimiser and a
    decoupled weight decay; see `WeightDecay.clipped` for a coupled one."""

    limit: float = 1.0

    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"limit": 0.0}, "limit is 0.0"),
        ({"limit": -1.0}, "limit is -1.0"),
        ({"limit": math.inf}, "limit is inf"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "limit", self.limit, 0.0, math.inf, open_low=True, open_high=True)


@dataclass(frozen=True)
class ClipNorm(Clip):
    """Scale the gradient of all tensors so that its norm is at most `limit`.

    The norm is that of all trainable tensors together: the gradient is multiplied by
    min(1, limit / (norm + epsilon)). torch's `clip_grad_norm_` has an epsilon of 1e-6, Keras's
    `global_clipnorm` none. Pascanu et al. 2013, arXiv:1211.5063.
    """

    epsilon: float = 0.0

    kind: ClassVar[str] = "clip_norm"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        *Clip.invalid,
        ({"epsilon": -1e-6}, "epsilon is -1e-06"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        "clip_norm-active": {"limit": (0.05, 0.2)},
        "clip_norm-inactive": {"limit": (1e3,)},
    }
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "keras": {"epsilon": 0.0},
        "torch": {"epsilon": 1e-6},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number(self.kind, "epsilon", self.epsilon, 0.0, math.inf, open_high=True)


@dataclass(frozen=True)
class ClipValue(Clip):
    """Limit every entry of the gradient to [-limit, limit].

    torch's `clip_grad_value_` and Keras's `clipvalue`.
    """

    kind: ClassVar[str] = "clip_value"
    variants: ClassVar[Mapping[str, Choices]] = {
        "clip_value-active": {"limit": (0.02, 0.1)},
        "clip_value-inactive": {"limit": (1e3,)},
    }


CLIPS: dict[str, type[Clip]] = {record.kind: record for record in (ClipNorm, ClipValue)}
