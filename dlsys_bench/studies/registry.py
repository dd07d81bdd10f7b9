"""The studies and models that installed packages register, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from dlsys_bench.attributes import load_attribute
from dlsys_bench.entry_points import collect
from dlsys_bench.errors import UserError, nearest, type_of
from dlsys_bench.spec.model import Model
from dlsys_bench.studies.base import TIERS, Arm, Case, Study


@cache
def studies() -> dict[str, Study]:
    """The studies by name: the mappings that the entry points of `dlsys_bench.studies` refer to."""
    return collect("dlsys_bench.studies", {}, Study)


@cache
def models() -> dict[str, Model]:
    """The models by name: the mappings that the entry points of `dlsys_bench.models` refer to."""
    return collect("dlsys_bench.models", {}, Model)


def find(name: str, known: Mapping[str, Study] | None = None) -> list[Case]:
    """The cases of "all", a group of studies, a study, or one arm ("study/arm").

    A study that is not registered is named by "package.module:STUDY", and its arm by
    "package.module:STUDY/arm". `known` are the studies by name, by default the registered ones.
    Raises UserError, with the nearest name.
    """
    if ":" in name:
        home, _, arm_name = name.partition("/")
        study = load_attribute(home, "study")
        if not isinstance(study, Study):
            hint = "; to gate a training of your own, add --reference FILE" * callable(study)
            raise UserError(f"{home!r} is {type_of(study)}, not a Study{hint}")
        return [
            Case(study, arm, home) for arm in ([study.arm(arm_name)] if arm_name else study.arms)
        ]
    registered = (studies() if known is None else known).values()
    everything = [Case(study, arm) for study in registered for arm in study.arms]
    found = [case for case in everything if name in ("all", case.study.name, case.name)]
    found = found or [case for case in everything if case.study.group == name.rstrip("/")]
    if not found:
        names = dict.fromkeys(
            name for study in registered for name in (study.group or study.name, study.name)
        )
        choices = ["all", *names, *(case.name for case in everything)]
        raise UserError(
            f"unknown study {name!r}{nearest(name, choices)}; known: {', '.join(names) or 'none'}"
        )
    return found


__all__ = ["TIERS", "Arm", "Case", "Study", "find", "models", "studies"]
