"""The table of stored runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Columns, Table
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.store import StoredRun
from dlsys_bench.studies.registry import superseded


class _StoredGroup(NamedTuple):
    """The stored runs with one key, apart from the seed and the dtype."""

    key: Key
    records: Sequence[StoredRun]


RUNS_COLUMNS: Columns[_StoredGroup] = {
    "arm": lambda group: group.key.name,
    "dataset": lambda group: group.key.dataset or NONE,
    "tier": lambda group: group.key.tier or NONE,
    "engine": lambda group: group.key.engine,
    "device": lambda group: group.key.device or NONE,
    ">runs": lambda group: str(len(group.records)),
    ">seeds": lambda group: str(len({record.result.seed for record in group.records})),
    ">diverged": lambda group: str(
        sum(record.result.status != "finished" for record in group.records)
    ),
    "first": lambda group: min(record.time for record in group.records),
    "last": lambda group: max(record.time for record in group.records),
    "protocol": lambda group: _name_of_protocol(group.key),
}


def _name_of_protocol(key: Key) -> str:
    past = superseded(key.study, key.protocol)
    return f"{key.protocol} (superseded: {past.name})" if past else key.protocol or NONE


def runs_table(records: Sequence[StoredRun], title: str = "Stored runs") -> Table:
    """Return a table of the stored runs, with one row per arm, engine, device and protocol."""
    groups: dict[Key, list[StoredRun]] = {}
    for record in records:
        key = replace(record.result.key, seed=None, dtype="")
        groups.setdefault(key, []).append(record)
    return Table.of(title, RUNS_COLUMNS, [_StoredGroup(*group) for group in groups.items()])
