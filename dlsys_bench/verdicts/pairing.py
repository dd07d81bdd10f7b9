"""Which runs of two sets can be compared: of one arm, on one dataset, at one tier, by one
protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dlsys_bench.runs.callables import ENGINE
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result


class Pair(NamedTuple):
    """The runs of one case in both sets, a run a seed (the last), each set's by one engine on one
    device."""

    key: Key
    engines: tuple[str, str]
    a: tuple[Result, ...]
    b: tuple[Result, ...]

    def __hash__(self) -> int:
        return hash((self.key, self.engines, self.a[0].key.protocol))


class Stray(NamedTuple):
    """A case that is left out, and why."""

    key: Key
    reason: str


def paired(a: Sequence[Result], b: Sequence[Result]) -> tuple[list[Pair], list[Stray]]:
    """What can be compared, and what cannot, in the order of A and then of B."""
    pairs: list[Pair] = []
    strays: list[Stray] = []
    keys = dict.fromkeys(run.key.task() for run in (*a, *b))
    for key in keys:
        sides = [[run for run in runs if run.key.task() == key] for runs in (a, b)]
        if not all(sides):
            strays.append(Stray(key, f"only {'A' if sides[0] else 'B'} has runs of it"))
            continue
        protocols = [list(dict.fromkeys(map(_protocol, runs))) for runs in sides]
        shared = [protocol for protocol in protocols[0] if protocol in protocols[1]]
        for name, of_side in zip("AB", protocols, strict=True):
            other = [protocol[:8] for protocol in of_side if protocol not in shared]
            if other:
                strays.append(
                    Stray(key, f"{name} has runs by another protocol ({', '.join(other)})")
                )
        for protocol in shared:
            _by_engine(
                key,
                [[run for run in runs if _protocol(run) == protocol] for runs in sides],
                pairs,
                strays,
            )
    return pairs, strays


def _by_engine(
    key: Key, sides: Sequence[Sequence[Result]], pairs: list[Pair], strays: list[Stray]
) -> None:
    """One engine against one, whichever they are; of several each against itself."""
    a, b = (_engines(runs) for runs in sides)
    if len(a) == len(b) == 1:
        (one,), (other,) = a, b
        pairs.append(Pair(key, (one, other), a[one], b[other]))
        return
    both = [name for name in a if name in b]
    pairs += [Pair(key, (name, name), a[name], b[name]) for name in both]
    if not both:
        reason = f"A has runs of {', '.join(a)}, B of {', '.join(b)}: select one of each after @, as in @engine=numpy"
        strays.append(Stray(key, reason))
        return
    for side, names in (("A", a), ("B", b)):
        strays += [
            Stray(key, f"only {side} has runs of {name}") for name in names if name not in both
        ]


def _engines(runs: Iterable[Result]) -> dict[str, tuple[Result, ...]]:
    """The runs by engine, device and width, the last of each seed."""
    found: dict[str, dict[int, Result]] = {}
    for run in runs:
        parts = [
            run.key.engine,
            "" if run.key.device in ("", "cpu") else f"({run.key.device})",
            "" if run.key.dtype in ("", "float32") else run.key.dtype,
        ]
        found.setdefault(" ".join(filter(None, parts)), {})[run.seed] = run
    return {name: tuple(by_seed.values()) for name, by_seed in found.items()}


def _protocol(run: Result) -> str:
    """What makes runs comparable. Of anyone's training, nothing is known to differ but what is to
    be compared."""
    return "" if run.key.engine == ENGINE else run.key.protocol
