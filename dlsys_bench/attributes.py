"""What "package.module:attribute" names."""

from __future__ import annotations

import importlib

from dlsys_bench.errors import UserError, nearest


def load_attribute(target: str, what: str, error: type[UserError] = UserError) -> object:
    """The object that "package.module:attribute" names; `what` it should be goes into the error, of
    the given type."""
    module_name, _, path = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as reason:
        raise error(f"{what} {target!r}: cannot import {module_name!r}: {reason}") from reason
    found: object = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise error(
                f"{what} {target!r}: {module_name} has no {path!r}{nearest(path, vars(module))}; "
                f"{'an' if what[0] in 'aeiou' else 'a'} {what} of one's own is package.module:NAME"
            )
        found = getattr(found, part)
    return found
