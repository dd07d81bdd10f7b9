"""The choices in which correct frameworks differ, such as where Adam adds its epsilon.

A record always states its choice. `to_convention` rewrites a record to the choices of one
framework, so that an engine receives only what it can do, and a result can state its convention.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from dlsys_bench.errors import SpecError, nearest
from dlsys_bench.spec.record import Record

R = TypeVar("R", bound=Record)

CONVENTIONS = ("keras", "torch")
"""The frameworks whose definitions the records know; see `Record.conventions`."""


def to_convention(convention: str, record: R) -> R:
    """Return the record, and every record in it, rewritten to the named convention.

    Raises SpecError if the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise SpecError(
            f"unknown convention {convention!r}{nearest(convention, CONVENTIONS)}; "
            f"known: {', '.join(CONVENTIONS)}"
        )
    return record.map(lambda inner: replace(inner, **inner.convention_options(convention)))


def protocol(*records: Record, beside: Mapping[str, Any] | None = None) -> str:
    """Return a digest of the records that is the same in every convention and for every engine.

    `beside` holds JSON values that are not in the records but also define the protocol.
    """
    whole: list[Any] = [to_convention("keras", record).to_dict() for record in records]
    text = json.dumps(whole + ([beside] if beside else []), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def deviations(convention: str, record: Record) -> list[str]:
    """Return where the record, or a record in it, deviates from the convention, one line each.

    For example: "adam: epsilon_added is 'before', in the torch convention 'after'".
    """
    found: list[str] = []

    def compare(inner: Record) -> Record:
        for option, expected in inner.convention_options(convention).items():
            actual = getattr(inner, option)
            if actual != expected:
                found.append(
                    f"{inner.kind}: {option} is {actual!r}, "
                    f"in the {convention} convention {expected!r}"
                )
        return inner

    record.map(compare)
    return found
