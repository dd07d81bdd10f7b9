"""What tells one run from another."""

from __future__ import annotations

from typing import NamedTuple

from dlsys_bench.runs.result import Result


class Key(NamedTuple):
    """The same training on the same stack: one of these is run once, unless it is asked for
    again."""

    study: str
    arm: str
    dataset: str
    tier: str
    engine: str
    device: str
    dtype: str
    seed: int
    protocol: str


def key_of(result: Result) -> Key:
    return Key(*(getattr(result, name) for name in Key._fields))
