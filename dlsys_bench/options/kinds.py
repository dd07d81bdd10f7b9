"""The types of values that options take: each states what it accepts, and reads a value.

A value comes from a command line as text or from a TOML file as a number, a text, or a truth value.
`read` returns it converted, and raises ValueError for anything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class Kind(Protocol):
    """A type of values: `takes` describes them in words."""

    @property
    def takes(self) -> str:
        """The accepted values, as a phrase after "expected"."""

    def read(self, value: Any) -> Any:
        """Convert a value. Raises ValueError if it is not accepted."""


@dataclass(frozen=True)
class Text:
    """Any text; help calls it `metavar`."""

    metavar: str = "TEXT"
    takes: str = "text"

    def read(self, value: Any) -> str:
        """Return the text."""
        if not isinstance(value, str):
            raise ValueError(value)
        return value


@dataclass(frozen=True)
class FolderName(Text):
    """The path of a folder, as text."""

    metavar: str = "DIRECTORY"
    takes: str = "a folder"


@dataclass(frozen=True)
class PerMetric(Text):
    """A value, or METRIC=VALUE for one of several metrics. It is read as its text, once checked."""

    metavar: str = "[METRIC=]VALUE"
    kind: Kind = field(default_factory=Text)

    def read(self, value: Any) -> str:
        """Return the text, if its value is accepted."""
        text = str(value)
        self.kind.read(text.rpartition("=")[2])
        return text


@dataclass(frozen=True)
class Flag:
    """True or false. With `negative`, the command line has --no-NAME too."""

    negative: bool = False
    takes: str = "true or false"

    def read(self, value: Any) -> bool:
        """Return the truth value."""
        if not isinstance(value, bool):
            raise ValueError(value)
        return value


@dataclass(frozen=True)
class Integer:
    """A whole number that is at least `minimum`."""

    minimum: int = 0

    @property
    def takes(self) -> str:
        """The accepted values."""
        return f"an integer of at least {self.minimum}"

    def read(self, value: Any) -> int:
        """Convert a whole number, or its text."""
        if isinstance(value, bool | float) or int(value) < self.minimum:
            raise ValueError(value)
        return int(value)


@dataclass(frozen=True)
class Number:
    """A number that is at least `minimum`, greater than `above`, and less than `below`."""

    minimum: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def takes(self) -> str:
        """The accepted values."""
        if self.below is not None:
            return f"a number between {self.above:g} and {self.below:g}"
        if self.minimum is None:
            return f"a number above {self.above:g}"
        return f"a number of at least {self.minimum:g}"

    def read(self, value: Any) -> float:
        """Convert a number, or its text."""
        number = float(value)
        inside = (
            (self.minimum is None or number >= self.minimum)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )
        if isinstance(value, bool) or not inside:
            raise ValueError(value)
        return number


@dataclass(frozen=True)
class Choice:
    """One of several texts."""

    names: tuple[str, ...]

    @property
    def takes(self) -> str:
        """The accepted values."""
        return f"{', '.join(self.names[:-1])} or {self.names[-1]}"

    def read(self, value: Any) -> str:
        """Return the text."""
        if value not in self.names:
            raise ValueError(value)
        return str(value)


@dataclass(frozen=True)
class File:
    """The path of a file, which has to be there already if `exists`; with `folder`, or of a folder
    of such files."""

    exists: bool = False
    folder: bool = False

    @property
    def takes(self) -> str:
        """The accepted values."""
        found = "an existing file" if self.exists else "a file"
        return f"{found} or folder" if self.folder else found

    def read(self, value: Any) -> Path:
        """Convert a path."""
        path = Path(Text().read(value))
        if (path.is_dir() and not self.folder) or (self.exists and not path.exists()):
            raise ValueError(value)
        return path


@dataclass(frozen=True)
class Folder:
    """The path of a folder, which is created when it is needed."""

    takes: str = "a folder"

    def read(self, value: Any) -> Path:
        """Convert a path."""
        path = Path(Text().read(value))
        if path.is_file():
            raise ValueError(value)
        return path


@dataclass(frozen=True)
class Many:
    """Any number of values of one kind; `field` is the name of the tuple that holds them."""

    kind: Kind
    field: str

    @property
    def takes(self) -> str:
        """The accepted values."""
        return self.kind.takes

    def read(self, value: Any) -> tuple[Any, ...]:
        """Convert a list of values, or one value."""
        return tuple(map(self.kind.read, value if isinstance(value, list | tuple) else [value]))
