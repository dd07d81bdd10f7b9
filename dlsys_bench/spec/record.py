"""The base class of the specification's records: frozen, validated and stored as JSON.

Every concrete record has a `kind`, which names it in JSON and in error messages. The functions
`require*` raise the SpecErrors with which records reject invalid options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from dlsys_bench.errors import SpecError, nearest

Choices = Mapping[str, tuple[Any, ...]]
Invalid = tuple[Mapping[str, Any], str]
"""Options that a record rejects, and a part of the message."""

RECORDS: dict[str, type[Record]] = {}

# Metadata of the options that were added after the first runs were stored. They are left out of the
# JSON while they are None, because a stored run's protocol is a digest of that JSON.
ADDED_LATER: dict[str, Any] = {"omit_when": None}


@dataclass(frozen=True)
class Record:
    """A frozen dataclass of plain values and other records.

    A subclass with a `kind` is registered in RECORDS under that kind. Raises SpecError if another
    class has that kind already, or if the subclass only inherits it.

    The other class variables are for the conformance checks and the property tests, so that a new
    record is tested because it is in its table. `choices` holds valid values of each option, and
    `invalid` examples of options that raise SpecError.
    `variants` holds, by name, the ways to use the record that the checks run separately, each with
    the values of its options (default: one variant, named after the kind, with all choices).
    `conventions` holds the options that follow the definition of each framework, where they differ.
    """

    kind: ClassVar[str] = ""
    choices: ClassVar[Choices] = {}
    invalid: ClassVar[tuple[Invalid, ...]] = ()
    variants: ClassVar[Mapping[str, Choices]] = {}
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init_subclass__(cls) -> None:
        if not cls.kind:
            return
        known = RECORDS.get(cls.kind)
        # A class with the same qualified name is the same class, defined again (dataclass slots, a
        # reloaded module). Any other class would replace the registered one in stored recipes.
        if "kind" not in cls.__dict__ or (
            known and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__)
        ):
            raise SpecError(
                f"{cls.__name__} needs its own kind: "
                f"{cls.kind!r} is the kind of {RECORDS[cls.kind].__name__}"
            )
        RECORDS[cls.kind] = cls

    @classmethod
    def all_variants(cls) -> Mapping[str, Choices]:
        """Return the variants by name; a record that defines none has one, named after its kind."""
        return cls.variants or {cls.kind: cls.choices}

    @classmethod
    def examples(cls) -> dict[str, Self]:
        """Return one record for each variant, with the first value of each of its options."""
        return {
            name: cls.of(**{option: values[0] for option, values in choices.items()})
            for name, choices in cls.all_variants().items()
        }

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Return the record with these options.

        Raises SpecError if an option is missing, invalid or unknown; the message names the nearest
        known option.
        """
        known = [field.name for field in fields(cls)]
        for option in options:
            if option not in known:
                raise SpecError(
                    f"{cls.kind} has no option {option!r}{nearest(option, known)}; "
                    f"expected {', '.join(known) or 'none'}"
                )
        try:
            return cls(**options)
        except TypeError as error:
            message = str(error).removeprefix(cls.__name__ + ".__init__() ")
            raise SpecError(f"{cls.kind}: {message}") from None

    def convention_options(self, convention: str) -> Mapping[str, Any]:
        """Return the options of this record that follow a convention, by name."""
        return self.conventions.get(convention, {})

    def map(self, change: Callable[[Record], Record]) -> Self:
        """Return the record with `change` applied to it and to those in it, innermost first."""

        def mapped(value: Any) -> Any:
            if isinstance(value, Record):
                return value.map(change)
            if isinstance(value, tuple):
                return tuple(mapped(item) for item in value)
            return value

        values = {f.name: mapped(getattr(self, f.name)) for f in fields(self)}
        changed = {name: value for name, value in values.items() if value != getattr(self, name)}
        return change(replace(self, **changed) if changed else self)  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values, `kind` first.

        A field whose metadata contains `omit_when` is left out while it has that value.
        """

        def plain(value: Any) -> Any:
            if isinstance(value, Record):
                return value.to_dict()
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            return value

        values: dict[str, Any] = {"kind": self.kind}
        for field in fields(self):
            value = getattr(self, field.name)
            if "omit_when" not in field.metadata or value != field.metadata["omit_when"]:
                values[field.name] = plain(value)
        return values


def from_dict(values: Mapping[str, Any]) -> Record:
    """Return the record that `to_dict` wrote. Raises SpecError on unknown kinds and options."""

    def parsed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return from_dict(value)
        if isinstance(value, list):
            return tuple(parsed(item) for item in value)
        return value

    if not isinstance(values, Mapping):
        raise SpecError(f"a record is an object with a kind, but this is {values!r}")
    options = dict(values)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in RECORDS:
        known = ", ".join(sorted(RECORDS))
        raise SpecError(f"unknown kind {kind!r}{nearest(str(kind), RECORDS)}; known: {known}")
    return RECORDS[kind].of(**{name: parsed(value) for name, value in options.items()})


def require(condition: bool, message: str) -> None:
    """Raise a SpecError with the message unless the condition holds."""
    if not condition:
        raise SpecError(message)


def require_kind(
    where: str, name: str, value: object, base: type[Record], known: Mapping[str, type[Record]]
) -> None:
    """Raise a SpecError unless the value is an instance of `base`, one of the `known` by kind.

    The commonest mistake is the kind of a record in place of the record ("adam" for Adam()), so the
    message shows the record.
    """
    if isinstance(value, str) and value in known:
        advice = f"expected a record, such as {known[value].__name__}()"
    else:
        advice = f"expected one of {', '.join(record.__name__ for record in known.values())}"
    require(isinstance(value, base), f"{where}: {name} is {value!r}; {advice}")


LARGEST_COUNT = 2**63 - 1
"""The limit of what numpy and `itertools` count."""


def require_count(where: str, name: str, value: object) -> None:
    """Raise a SpecError unless the value is an int of at least 1, and at most LARGEST_COUNT."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(is_count, f"{where}: {name} is {value!r}; expected an integer of at least 1")
    assert isinstance(value, int)
    require(value <= LARGEST_COUNT, f"{where}: {name} is {value!r}; expected at most 2**63 - 1")


def require_switches(record: Record, *names: str) -> None:
    """Raise a SpecError unless these options of a record are True or False.

    Any other value would count as one of the two: "no" as True, and None as False.
    """
    for name in names:
        value = getattr(record, name)
        message = f"{record.kind}: {name} is {value!r}; expected True or False"
        require(isinstance(value, bool), message)


def require_choice(where: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise a SpecError unless the value is one of the choices; the message names the nearest."""
    if not isinstance(value, str) or value not in choices:
        advice = f"{nearest(str(value), choices)}; expected one of {', '.join(choices)}"
        raise SpecError(f"{where}: {name} is {value!r}{advice}")


def require_number(
    where: str,
    name: str,
    value: object,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise a SpecError unless the value is a number in [low, high], without the ends that are
    open."""
    inside = False
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = _as_float(value)
        inside = (low < number if open_low else low <= number) and (
            number < high if open_high else number <= high
        )
    interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    require(inside, f"{where}: {name} is {value!r}; expected a number in {interval}")


def _as_float(value: float) -> float:
    """Return a number as engines compute with it: infinite if it is an int too large for floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
