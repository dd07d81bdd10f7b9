"""The explanation of a check: what is checked, why, an engine that breaks it, and the usual fix.

The texts are the docstring of the function of the check, which ends in the sections "Why:", "Broken
by:" and "Fix:". `{subject}` in them is the subject of a check that is made for each row of a table.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import Record

SECTIONS = ("Why", "Broken by", "Fix")
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)}): ", re.MULTILINE)


@dataclass(frozen=True)
class Explanation:
    """The texts on a check, one paragraph each.

    `definition` is the summary of the record of the specification that the check is about, with its
    formula; empty if it is about more than one.
    """

    what: str
    why: str
    broken_by: str
    fix: str
    definition: str = ""

    def sections(self) -> dict[str, str]:
        """Return the texts by their titles, for a terminal or a page of documentation."""
        titles = {
            "What": self.what,
            "Definition": self.definition,
            "Why": self.why,
            "Broken by": self.broken_by,
            "Usual fix": self.fix,
        }
        return {title: text for title, text in titles.items() if text}


def explain(docstring: str | None, name: str, subject: object = None) -> Explanation:
    """Return the explanation in the docstring of a check's function.

    `name` is that of the subject, and `subject` a record or a row that holds one. Raises ValueError
    if a section is missing.
    """
    what, *parts = _SECTION.split(inspect.cleandoc(docstring or ""))
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    if missing := [section for section in SECTIONS if section not in found]:
        raise ValueError(
            f"the docstring of the check of {name!r} has no section {missing[0]!r}; "
            "see dlsys_bench.conformance.explanation"
        )
    texts = (what, *(found[section] for section in SECTIONS))
    what, why, broken_by, fix = (" ".join(t.split()).replace("{subject}", name) for t in texts)
    return Explanation(what, why, broken_by, fix, _definition(subject))


def _definition(subject: object) -> str:
    """Return the first paragraph of the docstring of the record that a subject is or holds."""
    for found in (getattr(subject, "layer", None), getattr(subject, "record", None), subject):
        record = found if isinstance(found, type) else type(found)
        if issubclass(record, Record) and record.kind and record is not Model:
            summary = inspect.cleandoc(record.__doc__ or "").split("\n\n")[0]
            return f"{record.__name__}: {' '.join(summary.split())}"
    return ""
