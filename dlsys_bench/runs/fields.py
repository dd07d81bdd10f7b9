"""The types of the fields of a stored record, which check a value when it is read.

Files of runs may be damaged, edited by hand or written by others. A table of these types beside a
record states what each of its fields may hold, so that no other code has to expect anything else.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

LARGEST = 2**63 - 1
"""The largest whole number that a store (SQLite) holds."""

DEEPEST = 16
"""The deepest nesting of a value whose structure is free."""

LONGEST = 100_000
"""The greatest length of a text whose content is free."""

BREAKING = {"Cc", "Cs", "Zl", "Zp"}
"""The Unicode categories of characters that a name must not contain: control characters, halves of
surrogate pairs, and separators of lines and paragraphs."""


class FieldError(ValueError):
    """A field with a value that its type does not allow. The message names both."""

    def __init__(self, field: str, value: object, takes: str) -> None:
        super().__init__(f"{field} is {_shown(value)}; expected {takes}")


class MissingFieldError(ValueError):
    """A record without one of its fields."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is missing")


class Field(Protocol):
    """The type of a field."""

    def read(self, value: Any, name: str) -> Any:
        """Return the value of the field of this name. Raises FieldError."""


@dataclass(frozen=True)
class FreeText:
    """A text of at most `limit` characters, of any kind."""

    limit: int = LONGEST

    def read(self, value: Any, name: str) -> str:
        """Return the text. Raises FieldError."""
        if not isinstance(value, str):
            raise FieldError(name, value, "a string")
        if len(value) > self.limit:
            raise FieldError(name, value, f"at most {self.limit} characters")
        return value


@dataclass(frozen=True)
class Name(FreeText):
    """A text that names something, on one line."""

    limit: int = 1000

    def read(self, value: Any, name: str) -> str:
        """Return the text. Raises FieldError."""
        text = super().read(value, name)
        if not text.isprintable() and set(map(unicodedata.category, text)) & BREAKING:
            raise FieldError(name, value, "a string without control characters")
        return text


KEY, FREE_TEXT = FreeText(1000), FreeText()


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    least: int = 0
    most: int = LARGEST

    def read(self, value: Any, name: str) -> int:
        """Return the number. Raises FieldError."""
        # A bool is an int in Python.
        if type(value) is not int or not self.least <= value <= self.most:
            raise FieldError(name, value, f"an integer from {self.least} to {self.most}")
        return value


@dataclass(frozen=True)
class Real:
    """A finite number between two bounds."""

    least: float = -math.inf
    most: float = math.inf

    def read(self, value: Any, name: str) -> float:
        """Return the number. Raises FieldError."""
        if not is_finite(value) or not self.least <= value <= self.most:
            raise FieldError(name, value, f"a finite number{self._range()}")
        number: float = value
        return number

    def _range(self) -> str:
        least = "" if self.least == -math.inf else f" from {self.least:g}"
        return least + ("" if self.most == math.inf else f" to {self.most:g}")


@dataclass(frozen=True)
class Truth:
    """True or false."""

    def read(self, value: Any, name: str) -> bool:
        """Return the value. Raises FieldError."""
        if not isinstance(value, bool):
            raise FieldError(name, value, "true or false")
        return value


@dataclass(frozen=True)
class OneOf:
    """One of several texts."""

    values: tuple[str, ...]

    def read(self, value: Any, name: str) -> str:
        """Return the text. Raises FieldError."""
        if not isinstance(value, str) or value not in self.values:
            raise FieldError(name, value, " or ".join(map(repr, self.values)))
        return value


@dataclass(frozen=True)
class Optional:
    """A value of another type, or null."""

    kind: Field

    def read(self, value: Any, name: str) -> Any:
        """Return the value. Raises FieldError."""
        return None if value is None else self.kind.read(value, name)


@dataclass(frozen=True)
class IfObject:
    """A value of another type if it is an object, otherwise any value."""

    kind: Field

    def read(self, value: Any, name: str) -> Any:
        """Return the value. Raises FieldError."""
        return self.kind.read(value, name) if isinstance(value, dict) else value


@dataclass(frozen=True)
class ListOf:
    """A list of values of one type, at most `limit`."""

    kind: Field
    limit: int = 10_000_000

    def read(self, value: Any, name: str) -> list[Any]:
        """Return the values. Raises FieldError."""
        if not isinstance(value, list):
            raise FieldError(name, value, "a list")
        if len(value) > self.limit:
            raise FieldError(name, value, f"at most {self.limit} items")
        if self.kind == Real() and _are_finite(value):
            return value
        return [self.kind.read(item, f"{name}[{place}]") for place, item in enumerate(value)]


@dataclass(frozen=True)
class Object:
    """An object with names of any text and values of one type."""

    kind: Field

    def read(self, value: Any, name: str) -> dict[str, Any]:
        """Return the object. Raises FieldError."""
        if not isinstance(value, dict):
            raise FieldError(name, value, "an object")
        for key in value:
            KEY.read(key, f"a name in {name}")
        return {key: self.kind.read(item, f"{name}.{key}") for key, item in value.items()}


@dataclass(frozen=True)
class Plain:
    """Any JSON value of finite numbers, of limited depth."""

    depth: int = DEEPEST

    def read(self, value: Any, name: str) -> Any:
        """Return the value. Raises FieldError."""
        if isinstance(value, str):
            return FREE_TEXT.read(value, name)
        if isinstance(value, dict | list):
            if not self.depth:
                raise FieldError(name, value, f"at most {DEEPEST} levels")
            inner = Plain(self.depth - 1)
            if isinstance(value, dict):
                return Object(inner).read(value, name)
            return value if _are_finite(value) else ListOf(inner).read(value, name)
        if value is not None and not isinstance(value, bool) and not is_finite(value):
            raise FieldError(name, value, f"a finite number of at most {LARGEST}")
        return value


@dataclass(frozen=True)
class Struct:
    """An object with the names of a table, of which those in `optional` may be missing.

    Other names are ignored, as a later version may have written them; with `others` they are kept,
    and that is their type.
    """

    table: Mapping[str, Field]
    optional: frozenset[str] = frozenset()
    others: Field | None = None

    def read(self, value: Any, name: str) -> dict[str, Any]:
        """Return the values by name; an empty `name` stands for the whole line.

        Raises FieldError or MissingFieldError.
        """
        if not isinstance(value, dict):
            raise FieldError(name or "the line", value, "an object")
        within, found = f"{name}." if name else "", {}
        for key, kind in self.table.items():
            if key in value:
                found[key] = kind.read(value[key], within + key)
            elif key not in self.optional:
                raise MissingFieldError(within + key)
        rest = {key: item for key, item in value.items() if key not in self.table}
        if self.others:
            found |= Object(self.others).read(rest, name)
        # The order of the file, in which a result is written again.
        return {key: found[key] for key in value if key in found}


def is_finite(value: object) -> bool:
    """Return True if a value is a finite number that a store can hold."""
    if type(value) is int:
        return abs(value) <= LARGEST
    return type(value) is float and math.isfinite(value)


def _are_finite(values: list[Any]) -> bool:
    """Return True if all values are finite floats. It is fast, as histories have long lists."""
    return set(map(type, values)) == {float} and math.isfinite(math.fsum(map(abs, values)))


def _shown(value: object) -> str:
    """Describe a value of a file in a few characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a whole number of too many digits"
    names = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return names[value]
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
