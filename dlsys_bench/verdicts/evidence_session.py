"""One session that adds to a file of evidence: its seeds, its commit, and its lines of output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlsys_bench.errors import UserError
from dlsys_bench.provenance import commit_of
from dlsys_bench.runs.fields import FieldError, Name
from dlsys_bench.runs.store.text import check_text_writable
from dlsys_bench.verdicts.evidence import EvidenceVerdict, JudgedArm, accumulate
from dlsys_bench.verdicts.evidence_file import next_run_number, read_evidence

ROTATED = 1_000_000
"""The first of the seeds that rotate with the number of a session, if it has seeds from 0 on."""


@dataclass(frozen=True)
class EvidenceSession:
    """A session with a file of evidence, a number, and a commit; each of them may be None.

    Without a number, it is that of the commits in the file. Without a commit, it is that of the
    repository of the working directory.
    """

    path: Path | None
    run_number: int | None = None
    commit: str | None = None

    def check(self) -> None:
        """Raise UserError, before anything is trained, if evidence could not be added."""
        if self.path is not None:
            read_evidence(self.path)
            check_text_writable(self.path)
            self._commit()

    def first_seed(self, seed: int, max_seeds: int) -> int:
        """Return the first seed of the session: each session has seeds of its own.

        It is `seed` itself if there is neither a number nor a file.
        """
        number = self.run_number
        if number is None and self.path is not None:
            number = next_run_number(self.path)
        return seed if number is None else seed + ROTATED + number * max_seeds

    def add(self, judged: Sequence[JudgedArm]) -> list[EvidenceVerdict]:
        """Add the runs of the session, and return the evidence; none without a file."""
        return [] if self.path is None else accumulate(self.path, self._commit(), judged)

    def _commit(self) -> str:
        found = self.commit or commit_of(Path.cwd())
        if not found:
            raise UserError(
                "evidence counts commits, and the working directory is not in a git repository "
                "with a commit: name one with --commit (in pytest, --dlsys-commit)"
            )
        try:
            return Name().read(found, "--commit")
        except FieldError as error:
            raise UserError(str(error)) from None


def lines_of(evidence: Sequence[EvidenceVerdict]) -> list[str]:
    """Return a line on each arm that has an alarm or a remark, and on the highest of the others."""
    named = [one for one in evidence if one.alarm or one.remark]
    others = [one for one in evidence if one not in named]
    lines = [f"{'FAIL' if one.alarm else 'evidence'}: {one.message()}" for one in named]
    if others:
        highest = max(others, key=lambda one: one.evidence)
        several = f" (the highest of {len(others)})" if len(others) > 1 else ""
        lines.append(f"evidence: {highest.message()}{several}")
    return lines
