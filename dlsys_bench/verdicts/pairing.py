"""Runs of two sets that can be compared: of one arm, dataset and tier, by one protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.result import Result


class Pair(NamedTuple):
    """The runs of one arm in both sets: the last of each seed, on each side by one engine.

    `key` holds study, arm, dataset and tier.
    """

    key: Key
    engines: tuple[str, str]
    a: tuple[Result, ...]
    b: tuple[Result, ...]

    def __hash__(self) -> int:
        return hash((self.key, self.engines, self.a[0].key.protocol))


class Unpaired(NamedTuple):
    """Runs that cannot be compared, and the reason."""

    key: Key
    reason: str


def pair(a: Sequence[Result], b: Sequence[Result]) -> tuple[list[Pair], list[Unpaired]]:
    """Return the runs that can be compared and those that cannot, in the order of A, then of B."""
    pairs: list[Pair] = []
    unpaired: list[Unpaired] = []
    for key in dict.fromkeys(run.key.task() for run in (*a, *b)):
        sides = [[run for run in runs if run.key.task() == key] for runs in (a, b)]
        if not all(sides):
            unpaired.append(Unpaired(key, f"only {'A' if sides[0] else 'B'} has runs of it"))
            continue
        protocols = [list(dict.fromkeys(map(_protocol, runs))) for runs in sides]
        shared = [protocol for protocol in protocols[0] if protocol in protocols[1]]
        for name, of_side in zip("AB", protocols, strict=True):
            other = [protocol[:8] for protocol in of_side if protocol not in shared]
            if other:
                reason = f"{name} has runs by another protocol ({', '.join(other)})"
                unpaired.append(Unpaired(key, reason))
        for protocol in shared:
            same = [[run for run in runs if _protocol(run) == protocol] for runs in sides]
            paired, rest = _pair_engines(key, *same)
            pairs += paired
            unpaired += rest
    return pairs, unpaired


def _pair_engines(
    key: Key, a: Sequence[Result], b: Sequence[Result]
) -> tuple[list[Pair], list[Unpaired]]:
    """Pair the only engine of A with the only one of B; of several, each with itself."""
    in_a, in_b = _by_engine(a), _by_engine(b)
    if len(in_a) == len(in_b) == 1:
        (one,), (other,) = in_a, in_b
        return [Pair(key, (one, other), in_a[one], in_b[other])], []
    common = [name for name in in_a if name in in_b]
    if not common:
        reason = (
            f"A has runs of {', '.join(in_a)}, B of {', '.join(in_b)}: "
            "select one of each after @, as in @engine=numpy"
        )
        return [], [Unpaired(key, reason)]
    return [Pair(key, (name, name), in_a[name], in_b[name]) for name in common], [
        Unpaired(key, f"only {side} has runs of {name}")
        for side, names in (("A", in_a), ("B", in_b))
        for name in names
        if name not in common
    ]


def _by_engine(runs: Iterable[Result]) -> dict[str, tuple[Result, ...]]:
    """Return the last run of each seed, by engine, device and dtype."""
    found: dict[str, dict[int, Result]] = {}
    for run in runs:
        key = run.key
        parts = [
            key.engine,
            "" if key.device in ("", "cpu") else f"({key.device})",
            "" if key.dtype in ("", "float32") else key.dtype,
        ]
        found.setdefault(" ".join(filter(None, parts)), {})[run.seed] = run
    return {name: tuple(by_seed.values()) for name, by_seed in found.items()}


def _protocol(run: Result) -> str:
    """Return the protocol that compared runs must share.

    That of a user's own training is ignored: it changes with what is to be compared.
    """
    return "" if run.key.engine == CALLABLE else run.key.protocol
