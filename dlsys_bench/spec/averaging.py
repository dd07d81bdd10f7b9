"""The exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.record import Choices, Invalid, Record, require_number


@dataclass(frozen=True)
class WeightAverage(Record):
    """An exponential moving average of the weights, with which the network is evaluated.

    After the first update the average is the weights; after each later one,
    average <- decay average + (1 - decay) weights. Keras's `use_ema` and torch's `AveragedModel`
    with `get_ema_multi_avg_fn` agree in this. All trainable tensors are averaged; moving statistics
    are not, and keep their current values.

    The updates go on from the weights themselves. Whenever `fit` yields an epoch, and after the
    training, the network has the averages: evaluations and checkpoints are made with them, and a
    second training starts from them. Polyak & Juditsky 1992; Tarvainen & Valpola 2017.
    """

    decay: float = 0.999

    kind: ClassVar[str] = "weight_average"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"decay": 1.0}, "decay is 1.0"),
        ({"decay": -0.1}, "decay is -0.1"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {"average": {"decay": (0.999, 0.5)}}

    def __post_init__(self) -> None:
        require_number(self.kind, "decay", self.decay, 0.0, 1.0, open_high=True)
