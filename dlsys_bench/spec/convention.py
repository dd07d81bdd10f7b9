"""The choices in which correct engines differ, by the name of who makes them.

A record always says which way is meant; `follow` rewrites it to one framework's ways, so that an
engine is only ever asked for what it can do, and a result can say which convention it was run in.
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

CONVENTIONS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "keras": {
        "batch_norm": {"moving_variance": "biased"},
        "sgd": {"velocity": "rate"},
        "adam": {"epsilon_added": "before"},
        "rmsprop": {"epsilon_added": "inside"},
        "glorot_normal": {"truncated": True},
        "he_normal": {"truncated": True},
    },
    "torch": {
        "batch_norm": {"moving_variance": "unbiased"},
        "sgd": {"velocity": "gradient"},
        "adam": {"epsilon_added": "after"},
        "rmsprop": {"epsilon_added": "outside"},
        "glorot_normal": {"truncated": False},
        "he_normal": {"truncated": False},
    },
}


def to_convention(convention: str, record: R) -> R:
    """The record, and every record inside it, in the named convention. An unknown name is a
    SpecError."""
    if convention not in CONVENTIONS:
        raise SpecError(
            f"unknown convention {convention!r}{nearest(convention, CONVENTIONS)}; known: {', '.join(CONVENTIONS)}"
        )
    choices = CONVENTIONS[convention]
    return record.map(lambda inner: replace(inner, **choices.get(inner.kind, {})))


def protocol(*records: Record, beside: Mapping[str, Any] | None = None) -> str:
    """A digest of records that is the same in every convention: what was done, whoever did it.
    `beside` is what else was decided."""
    whole: list[Any] = [to_convention("keras", record).to_dict() for record in records]
    text = json.dumps(whole + ([beside] if beside else []), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def deviations(convention: str, record: Record) -> list[str]:
    """What in the record is not this convention's way: 'adam: epsilon_added is "before", keras
    "after"', ..."""
    found: list[str] = []

    def look(inner: Record) -> Record:
        for option, way in CONVENTIONS[convention].get(inner.kind, {}).items():
            if getattr(inner, option) != way:
                found.append(
                    f"{inner.kind}: {option} is {getattr(inner, option)!r}, {convention}'s is {way!r}"
                )
        return inner

    record.map(look)
    return found
