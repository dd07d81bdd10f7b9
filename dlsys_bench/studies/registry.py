"""The studies, by name. A prefix names a group: `regularization` is all of `regularization/...`."""

from __future__ import annotations

from dlsys_bench.attributes import load_attribute
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.notebooks.studies import (
    dying_relu,
    eggholder,
    initialization,
    parameters,
    perceptron,
    phase_diagram,
    policies,
    regularization,
)
from dlsys_bench.studies.base import TIERS, Arm, Case, Study

MODULES = (
    regularization,
    parameters,
    perceptron,
    initialization,
    dying_relu,
    phase_diagram,
    policies,
    eggholder,
)

STUDIES: dict[str, Study] = {study.name: study for module in MODULES for study in module.STUDIES}


def find(name: str) -> list[Case]:
    """The cases of a study, a group, one arm ("study/arm"), or "package.module:STUDY", or an arm of
    that.

    Errors: UserError, with the nearest name.
    """
    if ":" in name:
        home, _, arm_name = name.partition("/")
        study = load_attribute(home, "study")
        if not isinstance(study, Study):
            raise UserError(f"{home!r} is {type(study).__name__}, not a dlsys_bench.studies.Study")
        return [
            Case(study, arm, home) for arm in ([study.arm(arm_name)] if arm_name else study.arms)
        ]
    everything = [Case(study, arm) for study in STUDIES.values() for arm in study.arms]
    found = [case for case in everything if name in ("all", case.study.name, case.name)]
    found = found or [
        case for case in everything if case.study.name.startswith(name.rstrip("/") + "/")
    ]
    if not found:
        groups = dict.fromkeys(key.split("/")[0] for key in STUDIES)
        choices = ["all", *groups, *STUDIES, *(case.name for case in everything)]
        known = ", ".join(dict.fromkeys([*groups, *STUDIES]))
        raise UserError(f"unknown study {name!r}{nearest(name, choices)}; known: {known}")
    return found


__all__ = ["STUDIES", "TIERS", "Arm", "Case", "Study", "find"]
