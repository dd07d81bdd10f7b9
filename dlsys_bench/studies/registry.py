"""The studies and models that installed packages register, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from dlsys_bench.attributes import load_attribute, split_target
from dlsys_bench.entry_points import collect
from dlsys_bench.errors import UserError, nearest, type_of
from dlsys_bench.spec.model import Model
from dlsys_bench.studies.base import TIERS, Arm, Case, Study, Superseded

NO_STUDY = (
    "no study is registered; the installed metadata may be older than the code: "
    "reinstall it with pip install -e ."
)


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
        module, study_name, arm_name = split_target(name)
        home = f"{module}:{study_name}"
        study = load_attribute(home, "study")
        if not isinstance(study, Study):
            hint = "; `calibrate` and `gate` take a training of your own" * callable(study)
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
        if not names:
            raise UserError(f"unknown study {name!r}: {NO_STUDY}")
        raise UserError(
            f"unknown study {name!r}{nearest(name, choices)}; "
            "`dlsys-bench list studies` shows the known ones"
        )
    return found


def superseded(study: str, protocol: str) -> Superseded | None:
    """The correction that replaced the arm of a run, by the run's study and protocol; None for a
    run of today's arms."""
    found = studies().get(study)
    return found.superseded_by(protocol) if found is not None else None


def default_study() -> Study | None:
    """The study that commands take unless one is named, None if no study is registered as such."""
    return next((study for study in studies().values() if study.default), None)


def default_target(*, group: bool = False) -> str:
    """The name of the default study, or of its `group`, as `find` takes it.

    Raises UserError if no study is the default.
    """
    study = default_study()
    if study is None:
        reason = "no registered study is the default" if studies() else NO_STUDY
        raise UserError(f"STUDY is missing, and {reason}")
    return (study.group or study.name) if group else study.name


__all__ = [
    "NO_STUDY",
    "TIERS",
    "Arm",
    "Case",
    "Study",
    "Superseded",
    "default_study",
    "default_target",
    "find",
    "models",
    "studies",
    "superseded",
]
