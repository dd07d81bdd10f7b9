"""The base class of the layer records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from dlsys_bench.spec.initializers import INITIALIZERS, Fans, Initializer
from dlsys_bench.spec.record import Record, require, require_kind

Shape = tuple[int, ...]

ValueKind = Literal["float", "int"]
"""What a value consists of: floats, or token ids."""

InvalidInput = tuple[Mapping[str, Any], Shape, str]
"""Options, an input shape that a layer with these options rejects, and a part of the message."""


class Mask(NamedTuple):
    """What a layer with dropout keeps in training: the shape for each sample, which broadcasts
    against what is dropped, and the probability with which each value is dropped."""

    shape: Shape
    drop_rate: float


@dataclass(frozen=True)
class Layer(Record):
    """The base of the layers. Shapes leave out the batch.

    `invalid_inputs` are examples of inputs that raise SpecError. `normalizes` states that values
    are divided by their own standard deviation, of the batch or of the sample. `takes` states what
    the inputs consist of; every output consists of floats. Methods that are given `others` receive
    the shapes of the inputs after the first.
    """

    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = ()
    normalizes: ClassVar[bool] = False
    takes: ClassVar[ValueKind] = "float"

    @property
    def needs(self) -> tuple[str, ...]:
        """The names under which an engine may declare that it lacks the layer: the kind, and those
        of the variants whose options the layer uses."""
        return (self.kind,)

    @property
    def merges(self) -> bool:
        """True if the layer takes a list of two inputs or more; any other takes one input."""
        return False

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output shape for an input shape. Raises SpecError if that is unsuitable."""
        return shape

    def combined_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the output shape for the shapes of all inputs. Raises SpecError if there are too
        many or too few, or if they are unsuitable."""
        require(len(shapes) == 1, f"{self.kind} takes one input, not {len(shapes)}")
        return self.output_shape(shapes[0])

    def parameters(self, shape: Shape, *others: Shape) -> dict[str, Shape]:
        """Return the shape of each trainable tensor by name, for the shapes of the inputs."""
        return {}

    def state(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each tensor that training updates without a gradient, by name."""
        return {}

    def initializers(self) -> dict[str, Initializer]:
        """Return the initialiser of each tensor of `parameters` and `state`, by name."""
        return {}

    def fans(self, shape: Shape) -> Fans:
        """Return the fans of the kernel, for an input shape; (1, 1) if there is no kernel."""
        return Fans(1, 1)

    def fans_of(self, tensor: str, shape: Shape, *others: Shape) -> Fans:
        """Return the fans of a tensor by name, for the shapes of the inputs.

        All tensors have those of the only kernel.
        """
        return self.fans(shape)

    def mask(self, shape: Shape, *others: Shape) -> Mask | None:
        """Return the mask that each training step draws, for the shapes of the inputs.

        It is None if there is none.
        """
        return None

    def least_samples(self, shape: Shape) -> int:
        """Return the fewest samples of a batch on which the layer can train, for an input shape."""
        return 1

    def title(self) -> str:
        """Return the main options in a few characters, for summaries and messages."""
        return ""


def require_initializers(layer: Layer) -> None:
    """Raise a SpecError unless every initialiser of the layer is an Initializer."""
    for tensor, initializer in layer.initializers().items():
        name = f"{tensor}_initializer"
        require_kind(layer.kind, name, initializer, Initializer, INITIALIZERS)
