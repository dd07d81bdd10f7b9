"""Entry points: the records that installed packages add to the library's tables."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from dlsys_bench.errors import UserError
from dlsys_bench.text import describe, one_line

T = TypeVar("T")

OWN = "dlsys_bench itself"
DISTRIBUTION = "dlsys-bench"
LEFT_OUT: dict[str, None] = {}
"""The messages about the entry points that this process has left out, in order."""


class EntryPointWarning(UserWarning):
    """An entry point of an installed package that cannot be used and is left out."""


def origin(point: EntryPoint) -> str:
    """The package that declares an entry point, and the declaration."""
    package = point.dist.name if point.dist else "an unknown package"
    return f"{package} ({point.name} = {point.value})"


def declared_names(group: str) -> set[str]:
    """The names of the entry points of a group, whether they can be used or not."""
    return {point.name for point in entry_points(group=group)}


def declared(
    group: str, built_in: Iterable[str], *, lenient: bool = False
) -> dict[str, EntryPoint]:
    """The entry points of a group by name, none of them loaded.

    If two packages, or a package and `built_in`, use one name, raises UserError. With `lenient`, an
    entry point whose name is used already is left out with an EntryPointWarning; those of this
    distribution come first.
    """
    found: dict[str, EntryPoint] = {}
    owners = dict.fromkeys(built_in, OWN)
    for point in sorted(entry_points(group=group), key=_is_foreign):
        try:
            _claim(owners, point.name, point)
        except UserError as error:
            if not lenient:
                raise
            leave_out(point, str(error))
        else:
            found[point.name] = point
    return found


def _is_foreign(point: EntryPoint) -> bool:
    return point.dist is None or point.dist.name != DISTRIBUTION


def collect(group: str, built_in: Mapping[str, T], kind: Any) -> dict[str, T]:
    """The built-in records of a table, and those of the entry points of `group`.

    Each entry point refers to a mapping from names to records of type `kind`. One that cannot be
    loaded or refers to something else is left out with an EntryPointWarning.

    Raises UserError if two packages, or a package and `built_in`, use one name.
    """
    found = dict(built_in)
    owners = dict.fromkeys(built_in, OWN)
    for point in entry_points(group=group):
        for name, record in _load(point, kind).items():
            _claim(owners, name, point)
            found[name] = record
    return found


def _claim(owners: dict[str, str], name: str, point: EntryPoint) -> None:
    """Note that a name belongs to an entry point."""
    if name in owners:
        raise UserError(
            f"the name {name!r} in {point.group} is used by both {owners[name]} and "
            f"{origin(point)}: uninstall or rename one of them"
        )
    owners[name] = origin(point)


def _load(point: EntryPoint, kind: Any) -> Mapping[str, Any]:
    """The records that an entry point refers to; none if it is broken."""
    try:
        records = point.load()
    except Exception as error:  # A foreign package may raise anything while it is imported.
        return leave_out(point, describe(error))
    if not isinstance(records, Mapping) or not all(isinstance(r, kind) for r in records.values()):
        return leave_out(point, f"it is not a mapping from names to {kind.__name__}")
    return records


def leave_out(point: EntryPoint, reason: str) -> Mapping[str, Any]:
    """Warn that an entry point cannot be used. Returns no records.

    The warning is not raised where warnings are errors: a package that another project installed
    must not stop the tests of this one. The message is kept in LEFT_OUT as well.
    """
    message = one_line(f"the entry point {origin(point)} in {point.group} is left out: {reason}")
    LEFT_OUT[message] = None
    with suppress(EntryPointWarning):
        warnings.warn(message, EntryPointWarning, stacklevel=4)
    return {}
