"""Loading of objects that are named as "package.module:NAME" or "folder/file.py:NAME"."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from dlsys_bench.errors import UserError, nearest


def last_line(error: BaseException) -> str:
    """Return the last line of the traceback of an exception."""
    return " ".join(traceback.format_exception_only(error)[-1].split())


def split_target(target: str) -> tuple[str, str, str]:
    """Split "package.module:NAME/arm" or "folder/file.py:NAME/arm" into the module or file, the
    name and the arm. Parts that are missing are empty."""
    file, suffix, rest = target.partition(".py:")
    module, rest = (f"{file}.py", rest) if suffix else target.partition(":")[::2]
    name, _, arm = rest.partition("/")
    return module, name, arm


def module_of(target: str) -> str:
    """Return the name of the module of a target. The folder from which a file is imported, as its
    package or by its own name, is put on the path, as Python does for a script.

    Raises UserError if there is no such file, or if another file is imported under its name.
    """
    module = split_target(target)[0]
    if not module.endswith(".py"):
        return module
    file = Path(module).expanduser().resolve()
    if not file.is_file():
        raise UserError(f"no file {module!r}")
    folder, parts = file.parent, [file.stem]
    while (folder / "__init__.py").is_file():
        folder, parts = folder.parent, [folder.name, *parts]
    name = ".".join(parts)
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is not None and Path(loaded).resolve() != file:
        raise UserError(f"{module!r} cannot be imported as {name!r}: that is {loaded} here")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return name


def load_attribute(target: str, what: str, error: type[UserError] = UserError) -> object:
    """Return the object that "package.module:NAME" or "folder/file.py:NAME" names; NAME may
    contain dots.

    `what` says in one word what the object is, for error messages. Raises an error of the given
    type if the module cannot be imported or has no such attribute.
    """
    module_name, path = module_of(target), split_target(target)[1]
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
