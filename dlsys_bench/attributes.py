"""Loading of objects that are named as "package.module:NAME"."""

from __future__ import annotations

import importlib
import traceback

from dlsys_bench.errors import UserError, nearest


def last_line(error: BaseException) -> str:
    """Return the last line of the traceback of an exception."""
    return " ".join(traceback.format_exception_only(error)[-1].split())


def load_attribute(target: str, what: str, error: type[UserError] = UserError) -> object:
    """Return the object that "package.module:NAME" names; NAME may contain dots.

    `what` says in one word what the object is, for error messages. Raises an error of the given
    type if the module cannot be imported or has no such attribute.
    """
    module_name, _, path = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as reason:
        raise error(f"{what} {target!r}: cannot import {module_name!r}: {reason}") from reason
    except UserError:
        raise
    except (Exception, SystemExit) as reason:
        # The code of a user may raise anything, and an exit would be mistaken for a verdict.
        last = last_line(reason)
        raise error(f"{what} {target!r}: cannot import {module_name!r}: {last}") from reason
    found: object = module
    for part in path.split("."):
        if not hasattr(found, part):
            article = "an" if what[0] in "aeiou" else "a"
            raise error(
                f"{what} {target!r}: {module_name} has no {path!r}{nearest(path, vars(module))}; "
                f"name {article} {what} as package.module:NAME"
            )
        found = getattr(found, part)
    return found
