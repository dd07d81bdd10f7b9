"""Frozen records that know their kind, check themselves and travel as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from dlsys_bench.errors import SpecError, nearest

RECORDS: dict[str, type[Record]] = {}


@dataclass(frozen=True)
class Record:
    """The base of every record of the spec: plain values, checked when made, `kind` its name in
    JSON."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if not cls.kind:
            return
        known = RECORDS.get(cls.kind)
        # The same name twice is the same class made again; another one would take its place in
        # every stored recipe.
        if "kind" not in cls.__dict__ or (
            known and (known.__module__, known.__qualname__) != _home(cls)
        ):
            raise SpecError(
                f"{cls.__name__} needs a kind of its own: {cls.kind!r} is {RECORDS[cls.kind].__name__}'s"
            )
        RECORDS[cls.kind] = cls

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The record with these options; an option that it does not have is a SpecError that names
        the nearest."""
        known = [field.name for field in fields(cls)]
        for option in options:
            if option not in known:
                raise SpecError(
                    f"{cls.kind} has no option {option!r}{nearest(option, known)}; "
                    f"it takes {', '.join(known) or 'none'}"
                )
        try:
            return cls(**options)
        except TypeError as error:
            raise SpecError(
                f"{cls.kind}: {str(error).removeprefix(cls.__name__ + '.__init__() ')}"
            ) from None

    def map(self, change: Callable[[Record], Record]) -> Self:
        """This record with `change` applied to it and to every record inside it, innermost
        first."""

        def inside(value: Any) -> Any:
            if isinstance(value, Record):
                return value.map(change)
            if isinstance(value, tuple):
                return tuple(inside(item) for item in value)
            return value

        inner = {f.name: inside(getattr(self, f.name)) for f in fields(self)}
        changed = {name: value for name, value in inner.items() if value != getattr(self, name)}
        return change(replace(self, **changed) if changed else self)  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values, `kind` first."""

        def plain(value: Any) -> Any:
            if isinstance(value, Record):
                return value.to_dict()
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            return value

        values = {
            f.name: (getattr(self, f.name), f.metadata.get("absent_when", plain))
            for f in fields(self)
        }
        return {
            "kind": self.kind,
            **{name: plain(value) for name, (value, absent) in values.items() if value != absent},
        }


def _home(cls: type[Record]) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def from_dict(values: Mapping[str, Any]) -> Record:
    """The record that `to_dict` wrote. A kind or an option that is not known is a SpecError."""

    def record(value: Any) -> Any:
        if isinstance(value, Mapping):
            return from_dict(value)
        if isinstance(value, list):
            return tuple(record(item) for item in value)
        return value

    if not isinstance(values, Mapping):
        raise SpecError(f"a record is an object with a kind, but this is {values!r}")
    options = dict(values)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in RECORDS:
        raise SpecError(
            f"unknown kind {kind!r}{nearest(str(kind), RECORDS)}; known: {', '.join(sorted(RECORDS))}"
        )
    return RECORDS[kind].of(**{name: record(value) for name, value in options.items()})


def require(condition: bool, message: str) -> None:
    """Raise a SpecError unless the condition holds."""
    if not condition:
        raise SpecError(message)


def require_kind(
    where: str, name: str, value: object, kind: type[Record], known: Mapping[str, Any]
) -> None:
    """A record of a kind, not its name."""
    offer = (
        f"it takes a record, such as {known[value].__name__}()"
        if isinstance(value, str) and value in known
        else (f"it takes one of {', '.join(record.__name__ for record in known.values())}")
    )
    require(isinstance(value, kind), f"{where}: {name} is {value!r}; {offer}")


def require_count(where: str, name: str, value: object) -> None:
    """A whole number from 1."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(whole, f"{where}: {name} is {value!r}; it takes a whole number from 1")


def require_choice(where: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """One of a few words."""
    require(
        value in choices,
        f"{where}: {name} is {value!r}{nearest(str(value), choices)}; it takes {', '.join(choices)}",
    )


def require_number(
    where: str, name: str, value: object, low: float, high: float, *, open_high: bool = False
) -> None:
    """A number in [low, high], or in [low, high) when `open_high`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    inside = number and low <= value and (value < high if open_high else value <= high)  # type: ignore[operator]
    require(
        inside,
        f"{where}: {name} is {value!r}; it takes a number in [{low:g}, {high:g}{')' if open_high else ']'}",
    )
