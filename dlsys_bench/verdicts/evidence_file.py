"""The file of evidence: the sessions of each arm, one arm per line, which CI carries along."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.fields import ListOf, Name, Optional, Plain, Real, Struct, Truth, Whole
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.store.text import write_lines
from dlsys_bench.strict_json import dumps, loads
from dlsys_bench.verdicts.betting import EITHER, WORSE, Capital, capital, ranks_of

SCHEMA = 1
KEY = ("study", "arm", "dataset", "tier", "engine", "device")
FIGURES = ListOf(Optional(Real()))
HEAD = Struct({"schema": Whole(SCHEMA, SCHEMA), "provenance": Plain()})
SESSION = Struct(
    {
        "commit": Name(),
        "time": Name(),
        "seeds": ListOf(Whole()),
        "values": FIGURES,
        "draws": ListOf(Real(0.0, 1.0)),
    }
)
ARM = Struct(
    {
        **dict.fromkeys((*KEY, "metric"), Name()),
        "arms": Whole(1),
        "one_sided": Truth(),
        "reference": FIGURES,
        "sessions": ListOf(SESSION),
    }
)


@dataclass(frozen=True)
class Session:
    """The runs of one commit: their seeds, their figures, and the random numbers that break ties.

    In a file, the figure of a run that diverged is null.
    """

    commit: str
    time: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    draws: tuple[float, ...]


@dataclass(frozen=True)
class ArmEvidence:
    """The evidence on an arm: its reference runs, and its sessions in order.

    `arms` is the number of arms that the file had when this one joined it.
    """

    key: Key
    metric: str
    arms: int
    one_sided: bool
    reference: tuple[float, ...]
    sessions: tuple[Session, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """What the file knows the arm by."""
        return (*(getattr(self.key, name) for name in KEY), self.metric)

    @cached_property
    def capital(self) -> Capital:
        """The capital after each run. There has to be a run."""
        values = [value for session in self.sessions for value in session.values]
        draws = [draw for session in self.sessions for draw in session.draws]
        ranks = ranks_of(self.reference, values, draws)
        return capital(ranks, len(self.reference), WORSE if self.one_sided else EITHER)

    @property
    def counted(self) -> dict[int, tuple[str, float]]:
        """The commit and the figure of each seed that counts."""
        return {
            seed: (session.commit, value)
            for session in self.sessions
            for seed, value in zip(session.seeds, session.values, strict=True)
        }

    def commit_of(self, run: int) -> str:
        """The commit of a run, by its number."""
        commits = [session.commit for session in self.sessions for _ in session.seeds]
        return commits[run]

    def line(self) -> str:
        """Return the line of a file."""
        sessions = [
            {**vars(session), "values": [v if isfinite(v) else None for v in session.values]}
            for session in self.sessions
        ]
        values = {
            **self.key.to_dict(*KEY),
            "metric": self.metric,
            "arms": self.arms,
            "one_sided": self.one_sided,
            "reference": [value if isfinite(value) else None for value in self.reference],
            "sessions": sessions,
        }
        return dumps(values, separators=(",", ":")) + "\n"


def next_run_number(path: Path) -> int:
    """Return the number of commits that a file of evidence holds."""
    return len({session.commit for arm in read_evidence(path) for session in arm.sessions})


def read_evidence(path: Path) -> list[ArmEvidence]:
    """Return the arms of a file of evidence, none if it is missing. Raises UserError."""
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().decode().splitlines()
        HEAD.read(loads(lines[0] if lines else ""), "the first line")
        arms = [_arm(loads(line)) for line in lines[1:]]
        if len({arm.identity for arm in arms}) < len(arms):
            raise ValueError("an arm is there twice")
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} is not a valid file of evidence: {error}; restore that of the last session, "
            "or delete it to begin again"
        ) from None
    return arms


def _arm(value: Any) -> ArmEvidence:
    """Return the arm of a line. Raises ValueError."""
    found = ARM.read(value, "arm")
    sessions = []
    for each in found["sessions"]:
        if not len(each["seeds"]) == len(each["values"]) == len(each["draws"]):
            raise ValueError(f"commit {each['commit']} has lists of different lengths")
        if 1.0 in each["draws"]:
            raise ValueError(f"commit {each['commit']} has a draw of 1; expected numbers below 1")
        values = tuple(map(_figure, each["values"]))
        draws = tuple(each["draws"])
        sessions.append(Session(each["commit"], each["time"], tuple(each["seeds"]), values, draws))
    arm = ArmEvidence(
        Key(**{name: found[name] for name in KEY}),
        found["metric"],
        found["arms"],
        found["one_sided"],
        tuple(map(_figure, found["reference"])),
        tuple(sessions),
    )
    if len(arm.counted) < sum(len(session.seeds) for session in sessions):
        raise ValueError(f"{arm.key.label} has a seed twice")
    return arm


def _figure(value: float | None) -> float:
    return -inf if value is None else float(value)


def write_evidence(path: Path, arms: Iterable[ArmEvidence]) -> None:
    """Replace a file of evidence. Raises UserError if it could not be written, or not be read."""
    head = dumps({"schema": SCHEMA, "provenance": provenance()}, separators=(",", ":"))
    lines = [arm.line() for arm in arms]
    try:
        for line in lines:
            _arm(loads(line))
    except ValueError as error:
        raise UserError(f"{path} is unchanged: {error}") from None
    write_lines(path, [f"{head}\n", *lines])
