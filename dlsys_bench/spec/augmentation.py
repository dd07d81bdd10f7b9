"""The augmentations: random changes of the training inputs, drawn anew for each sample and epoch.

A plan draws them (`engines.plan.Plan.augmentations`), so that two engines see the same inputs. They
change what a network is trained on, and never what it is evaluated on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Literal

from dlsys_bench.errors import SpecError, nearest
from dlsys_bench.spec.inputs import Input
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
    """The base of the augmentations, of scaled inputs.

    `input` names the input that is changed, if the inputs of the model have names.
    """

    input: str = field(default="", kw_only=True, metadata={"omit_when": ""})

    def require(self, model: Model) -> Input:
        """Return the input of a model that is changed. Raises SpecError if it cannot be."""
        names = [each.name for each in model.inputs]
        if not names:
            require(self.input == "", f"{self.kind}: the input of model {model.name!r} has no name")
            return model.input_table[0]
        found = [each for each in model.inputs if each.name == self.input]
        if not found:
            raise SpecError(
                f"{self.kind}: input is {self.input!r}{nearest(self.input, names)}; "
                f"model {model.name!r} takes the inputs {', '.join(names)}"
            )
        return found[0]


@dataclass(frozen=True)
class ImageAugmentation(Augmentation):
    """The base of those that take images."""

    def require(self, model: Model) -> Input:
        """Raise SpecError unless the input consists of images."""
        found = super().require(model)
        require(
            len(found.shape) == 3,
            f"{self.kind} takes images (height, width, channels), but model {model.name!r} takes "
            f"{found.shape}",
        )
        return found


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
        ({"pixels": 0}, "pixels is 0; expected an integer of at least 1"),
        ({"pixels": 1.5}, "pixels is 1.5; expected an integer of at least 1"),
        ({"fill": "wrap"}, "expected one of zeros, edge"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "pixels", self.pixels)
        require_choice(self.kind, "fill", self.fill, ("zeros", "edge"))

    def require(self, model: Model) -> Input:
        """Raise SpecError unless the input has more pixels than it is moved by."""
        found = super().require(model)
        height, width, _ = found.shape
        require(
            self.pixels < min(height, width),
            f"{self.kind}: pixels is {self.pixels}, but model {model.name!r} takes images of "
            f"{height} by {width} pixels, which it may move out",
        )
        return found


@dataclass(frozen=True)
class HorizontalFlip(ImageAugmentation):
    """Mirror an image, so that left and right are exchanged, with this probability."""

    probability: float = 0.5

    kind: ClassVar[str] = "horizontal_flip"
    choices: ClassVar[Choices] = {"probability": (0.5, 1.0, 0.2)}
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"probability": 1.1}, "probability is 1.1; expected a number in (0, 1]"),
        ({"probability": 0.0}, "probability is 0.0; expected a number in (0, 1]"),
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
        ({"stddev": 0.0}, "stddev is 0.0; expected a number in (0, inf)"),
        ({"stddev": -1.0}, "stddev is -1.0; expected a number in (0, inf)"),
        ({"stddev": inf}, "stddev is inf; expected a number in (0, inf)"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "stddev", self.stddev, 0.0, inf, open_low=True, open_high=True)

    def require(self, model: Model) -> Input:
        """Raise SpecError if the input consists of token ids."""
        found = super().require(model)
        require(
            found.dtype == "float",
            f"{self.kind} is added to floats, but model {model.name!r} takes token ids",
        )
        return found


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    record.kind: record for record in (Shift, HorizontalFlip, InputNoise)
}
