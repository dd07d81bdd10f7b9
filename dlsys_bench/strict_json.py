"""JSON as RFC 8259 defines it: no NaN or Infinity, and every name at most once in an object."""

from __future__ import annotations

import json
import math
import sys
from typing import Any


def dumps(
    value: Any, *, indent: int | None = None, separators: tuple[str, str] | None = None
) -> str:
    """Return the JSON of a value; a number that is not finite is written as null.

    The second of two number signs is escaped: CI services obey "##[" in a log. Raises TypeError or
    ValueError if a value is not a plain one.
    """
    try:
        text = json.dumps(value, indent=indent, separators=separators, allow_nan=False)
    except ValueError:
        finite = _without_non_finite(value)
        text = json.dumps(finite, indent=indent, separators=separators, allow_nan=False)
    return text.replace("##", "#\\u0023")


def _without_non_finite(value: Any) -> Any:
    """Replace the numbers that are not finite by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _without_non_finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(item) for item in value]
    return value


def loads(text: str) -> Any:
    """Return the value of a JSON text.

    The literals NaN and Infinity, which Python writes by default, are read as numbers, so that the
    caller can name the field that has one. Raises ValueError for everything else that is not JSON,
    for an object that gives a name twice, and for a text that is nested too deeply.
    """
    try:
        try:
            return json.loads(text, object_pairs_hook=_unique)
        except json.JSONDecodeError:
            raise
        except ValueError:
            # Python refuses to convert a whole number of thousands of digits.
            return json.loads(text, object_pairs_hook=_unique, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} (character {error.pos + 1})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole(digits: str) -> float:
    """Return a whole number; infinity for one that is larger than any float."""
    return int(digits) if len(digits) <= sys.float_info.max_10_exp else math.inf


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these names and values. Raises ValueError if a name is repeated."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated!r:.60} is given twice")
    return found
