"""The augmentations: random changes of the training inputs, drawn anew for each sample and epoch.

A plan draws them (`engines.plan.Plan.augmentations`), so that two engines see the same inputs. They
change what a network is trained on, and never what it is evaluated on.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    Record,
    require,
    require_choice,
    require_count,
    require_number,
)


@dataclass(frozen=True)
class Augmentation(Record):
    """The base of the augmentations, of scaled inputs."""

    def require(self, model: Model) -> None:
        """Raise SpecError unless the inputs of a model can be changed in this way."""


@dataclass(frozen=True)
class ImageAugmentation(Augmentation):
    """The base of those that take images."""

    def require(self, model: Model) -> None:
        """Raise SpecError unless the model takes images."""
        require(
            len(model.input_shape) == 3,
            f"{self.kind} takes images (height, width, channels), but model {model.name!r} takes "
            f"{model.input_shape}",
        )


@dataclass(frozen=True)
class Shift(ImageAugmentation):
    """Move an image down and to the right by whole numbers of pixels, each uniform from -pixels to
    pixels.

    `fill` states what comes in at the other side: "zeros" of the scaled image, or the nearest
    pixel of the "edge". Nothing wraps around. With the scaling "standard", zero is the mean of the
    training pixels, and not black.
    """

    pixels: int = 2
    fill: Literal["zeros", "edge"] = "zeros"

    kind: ClassVar[str] = "shift"
    variants: ClassVar[dict[str, Choices]] = {
        "shift": {"pixels": (1, 2), "fill": ("zeros",)},
        "shift-edge": {"pixels": (2, 1), "fill": ("edge",)},
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"pixels": 0}, "pixels is 0; it takes a whole number from 1"),
        ({"pixels": 1.5}, "pixels is 1.5; it takes a whole number from 1"),
        ({"fill": "wrap"}, "it takes zeros, edge"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "pixels", self.pixels)
        require_choice(self.kind, "fill", self.fill, ("zeros", "edge"))

    def require(self, model: Model) -> None:
        """Raise SpecError unless the model takes images of more pixels than they are moved by."""
        super().require(model)
        smallest = min(model.input_shape[:2])
        require(
            self.pixels < smallest,
            f"{self.kind}: pixels is {self.pixels}, but model {model.name!r} takes images of "
            f"{model.input_shape[0]} by {model.input_shape[1]} pixels, which it may move out",
        )


@dataclass(frozen=True)
class HorizontalFlip(ImageAugmentation):
    """Mirror an image, so that left and right are exchanged, with this probability."""

    probability: float = 0.5

    kind: ClassVar[str] = "horizontal_flip"
    choices: ClassVar[Choices] = {"probability": (0.5, 1.0, 0.2)}
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"probability": 1.1}, "probability is 1.1; it takes a number in (0, 1]"),
        ({"probability": 0.0}, "probability is 0.0; it takes a number in (0, 1]"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "probability", self.probability, 0.0, 1.0, open_low=True)


@dataclass(frozen=True)
class InputNoise(Augmentation):
    """Add noise from a normal distribution with this standard deviation to every value, in the
    units of the scaled inputs. Nothing is clipped."""

    stddev: float = 0.1

    kind: ClassVar[str] = "input_noise"
    choices: ClassVar[Choices] = {"stddev": (0.1, 1.0)}
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"stddev": 0.0}, "stddev is 0.0; it takes a number in (0, inf)"),
        ({"stddev": -1.0}, "stddev is -1.0; it takes a number in (0, inf)"),
        ({"stddev": inf}, "stddev is inf; it takes a number in (0, inf)"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "stddev", self.stddev, 0.0, inf, open_low=True, open_high=True)

    def require(self, model: Model) -> None:
        """Raise SpecError if the model takes token ids."""
        require(
            model.input_dtype == "float",
            f"{self.kind} is added to floats, but model {model.name!r} takes token ids",
        )


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    record.kind: record for record in (Shift, HorizontalFlip, InputNoise)
}
