"""The losses that checks iterate over: every variant, of single labels and of positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.requirements import loss_requirements
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Shape
from dlsys_bench.spec.losses import LOSSES, CrossEntropy, Loss
from dlsys_bench.spec.record import Choices

IGNORED = "ignored_label"

POSITIONS = 4
"""The number of positions of the sequences of a subject."""


class LossSubject(NamedTuple):
    """A kind of loss with values of its options, of one answer a sample or of several positions."""

    record: type[Loss]
    choices: Choices
    positions: int | None = None

    @property
    def loss(self) -> Loss:
        """The loss with the first value of each option."""
        return self.record.of(**{name: values[0] for name, values in self.choices.items()})

    @property
    def requires(self) -> list[str]:
        """The requirements of an engine that has this loss."""
        of_positions = ["layer:dense", "loss:positions"] if self.positions else []
        return [*loss_requirements(self.loss), *of_positions]

    @property
    def ignores(self) -> bool:
        """True if the loss ignores a label."""
        return IGNORED in self.choices

    def losses(self, trial: Trial) -> st.SearchStrategy[Loss]:
        """Return a strategy for the loss with its options, in the conventions of the engine."""
        drawn = strategies.options(self.choices).map(lambda chosen: self.record.of(**chosen))
        return drawn.flatmap(lambda loss: st.sampled_from(in_conventions(trial, loss)))

    def outputs(self, width: int = 3) -> Shape:
        """Return the shape of the outputs of a sample, as near to a width as the loss allows."""
        if self.record.targets == "signs":
            return (1,)
        weights = self.choices.get("class_weights")
        width = len(weights[0]) if weights else width
        return (self.positions, width) if self.positions else (width,)


def _subjects() -> Iterator[tuple[str, LossSubject]]:
    for kind, record in LOSSES.items():
        for name, choices in record.all_variants().items():
            yield name, LossSubject(record, choices)
        if record.targets != "signs":
            yield f"{kind}-positions", LossSubject(record, record.choices, POSITIONS)
        if issubclass(record, CrossEntropy):
            choices = record.variants[f"{kind}-{IGNORED}"]
            yield f"{kind}-{IGNORED}-positions", LossSubject(record, choices, POSITIONS)
            # With the options alone and all together, every pair of them.
            every = max(record.variants.values(), key=len)
            for option in every:
                others = {name: values for name, values in every.items() if name != option}
                yield f"{kind}-{'-'.join(others)}", LossSubject(record, others)


LOSS_SUBJECTS: Mapping[str, LossSubject] = dict(_subjects())
"""Every variant of every loss, by the name in its checks."""


TRAINED: Mapping[str, LossSubject] = {
    name: subject
    for name, subject in LOSS_SUBJECTS.items()
    if not issubclass(subject.record, CrossEntropy)
    or len(subject.choices) not in (1, 2)
    or subject.choices == subject.record.variants[f"{subject.record.kind}-{IGNORED}"]
}
"""Those of which trainings are compared: options together, and those that change the means."""

IGNORING: Mapping[str, LossSubject] = {
    name: subject
    for name, subject in LOSS_SUBJECTS.items()
    if subject.ignores and len(subject.choices) == 1
}
"""The losses that ignore a label and have no other option."""


def requires_loss(subject: LossSubject) -> list[str]:
    """Return what an engine must have for a loss."""
    return subject.requires


def requires_native_loss(subject: LossSubject) -> list[str]:
    """Return what an engine must have to train natively with a loss."""
    return [*subject.requires, "native"]


def in_conventions(trial: Trial, loss: Loss) -> list[Loss]:
    """Return a loss in every convention of the engine in which it differs."""
    ways = (to_convention(way, loss) for way in trial.engine.conventions)
    return list(dict.fromkeys(ways))
