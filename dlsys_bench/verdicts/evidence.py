"""The evidence of many sessions: an e-process for each arm, in a file that CI carries along.

A gate judges one session. If it is repeated at each of 500 commits, its false alarms add up, and a
change that each session sees only in part is never found. The evidence of an arm is the capital of
`betting` over the runs of all sessions, divided by the number of arms in the file. If nothing
changed, the evidence of any arm ever reaches ALARM with probability at most 1 / ALARM, for each set
of reference runs. An arm that joins the file later adds at most 1 / ALARM by the number of arms.

Each seed counts once per arm. A training with a fixed seed on deterministic hardware repeats one
draw, however many sessions repeat it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Any

from dlsys_bench.errors import count_of
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.store.lock import folder_lock
from dlsys_bench.verdicts.evidence_file import (
    KEY,
    ArmEvidence,
    Session,
    read_evidence,
    write_evidence,
)
from dlsys_bench.verdicts.judged_runs import JudgedRuns

ALARM = 1000.0
"""The evidence that fails an arm."""


JudgedArm = tuple[Key, str, Sequence[int], JudgedRuns]
"""An arm that was judged: its key, its metric, its seeds, and its runs."""


@dataclass(frozen=True)
class EvidenceVerdict:
    """The evidence on an arm after a session, and what about it needs a remark.

    `evidence` is the present one and `highest` the highest so far, both as natural logarithms: one
    that was ever above ALARM remains a failure.
    """

    name: str
    commits: int
    runs: int
    evidence: float
    highest: float
    change: str = ""
    remark: str = ""

    @property
    def alarm(self) -> bool:
        """Return True if the evidence has reached ALARM."""
        return self.highest >= log(ALARM)

    def message(self) -> str:
        """Return the evidence in one sentence."""
        found = (
            f"{self.name}: evidence {_number(self.evidence)} of {ALARM:g}, "
            f"{count_of(self.runs, 'run')} of {count_of(self.commits, 'commit')}"
        )
        if self.alarm:
            found += f", at most {_number(self.highest)}: {self.change}"
        return "; ".join(filter(None, (found, self.remark)))

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {**vars(self), "alarm": self.alarm, "message": self.message()}


def _number(logarithm: float) -> str:
    return f"{exp(logarithm):.3g}" if logarithm < 600 else f"e^{logarithm:.0f}"


def accumulate(path: Path, commit: str, judged: Sequence[JudgedArm]) -> list[EvidenceVerdict]:
    """Add the runs of a session to a file of evidence, and return the verdict on each arm.

    Raises UserError if the file is damaged or cannot be written; it is then unchanged.
    """
    with folder_lock(path):
        arms = {arm.identity: arm for arm in read_evidence(path)}
        joined = [
            ArmEvidence(key, metric, 1, runs.one_sided, runs.reference)
            for key, metric, _, runs in judged
        ]
        number, verdicts = len({*arms, *(arm.identity for arm in joined)}), []
        for fresh, (_, _, seeds, runs) in zip(joined, judged, strict=True):
            arm, remarks = arms.get(fresh.identity, replace(fresh, arms=number)), list[str]()
            if (arm.reference, arm.one_sided) != (fresh.reference, fresh.one_sided):
                remarks = ["its reference runs or its side have changed, so it begins again"]
                arm = replace(fresh, arms=number)
            arm, remark = _with_session(arm, commit, seeds, runs.new)
            arms[arm.identity] = arm
            verdicts.append(_verdict(arm, "; ".join(filter(None, (*remarks, remark)))))
        write_evidence(path, arms.values())
    return verdicts


def _with_session(
    arm: ArmEvidence, commit: str, seeds: Sequence[int], values: Sequence[float]
) -> tuple[ArmEvidence, str]:
    """Return the arm with the runs that count, and a remark about those that do not."""
    if any(session.commit == commit for session in arm.sessions):
        return arm, f"commit {commit} was counted before, and does not count again"
    counted = arm.counted
    new = [n for n, seed in enumerate(seeds) if seed not in counted]
    again = [n for n, seed in enumerate(seeds) if seed in counted]
    remark = ""
    if again:
        equal = all(counted[seeds[n]][1] == values[n] for n in again)
        remark = (
            f"{count_of(len(again), 'run')} not counted, because the seeds were counted at "
            f"commit {counted[seeds[again[0]]][0]}"
            + (", with the same figures: fixed seeds repeat one draw" if equal else "")
            + "; rotate them with --run-number"
        )
    if not new:
        return arm, remark
    session = Session(
        commit,
        provenance()["time"],
        tuple(seeds[n] for n in new),
        tuple(values[n] for n in new),
        tuple(_draw(*arm.identity, commit, str(seeds[n])) for n in new),
    )
    return replace(arm, sessions=(*arm.sessions, session)), remark


def _draw(*names: str) -> float:
    """Return a number of [0, 1) that a run cannot choose and a repetition does not change."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _verdict(arm: ArmEvidence, remark: str) -> EvidenceVerdict:
    """Return the verdict on an arm."""
    runs = sum(len(session.seeds) for session in arm.sessions)
    name = f"{arm.key.label}, {arm.metric}"
    if not runs:
        return EvidenceVerdict(name, 0, 0, -log(arm.arms), -log(arm.arms), remark=remark)
    found = arm.capital
    change = f"{found.name} since about commit {arm.commit_of(found.start)}"
    logs = found.logs - log(arm.arms)
    return EvidenceVerdict(
        name, len(arm.sessions), runs, float(logs[-1]), float(logs.max()), change, remark
    )


def judged_from(verdict: Mapping[str, Any]) -> JudgedArm | None:
    """Return the runs of a verdict in JSON, None if it is none by statistics."""
    if verdict["runs"] is None:
        return None
    key = Key(**{name: verdict[name] for name in KEY})
    return key, verdict["metric"], verdict["seeds"], JudgedRuns.from_dict(verdict["runs"])
