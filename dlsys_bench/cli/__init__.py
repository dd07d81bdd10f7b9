"""The command line and its exit codes: an error never has the code of a verdict."""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

from dlsys_bench.cli.group import EXIT_CODES, INTERNAL_ERROR, INTERRUPTED, RootGroup
from dlsys_bench.cli.terminal import complain
from dlsys_bench.entry_points import EntryPointWarning
from dlsys_bench.errors import StoreWarning, UserError
from dlsys_bench.extras import advice


@click.group(
    cls=RootGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="dlsys-bench", prog_name="dlsys-bench")
def cli() -> None:
    """Test deep-learning training: its correctness, its accuracy, and its speed."""


def print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line."""
    complain(f"dlsys-bench: warning: {message}")


def main() -> None:
    """Run the command line; an error that the user can correct is one line and exit code 2."""
    # package.module:attribute may name a module in the current folder, as with `python -m`.
    sys.path.insert(0, "")
    warnings.showwarning = print_warning
    warnings.simplefilter("always", EntryPointWarning)
    # Whatever filters the user has set, no run is set aside silently.
    warnings.simplefilter("default", StoreWarning)
    try:
        cli.main(standalone_mode=False)
    except UserError as error:
        complain(f"dlsys-bench: {error}")
        sys.exit(2)
    except click.ClickException as error:
        _show(error)
        sys.exit(2)
    except ImportError as error:
        if (needed := advice(error)) is None:
            _end_with_internal_error()
        complain(f"dlsys-bench: {needed}")
        sys.exit(2)
    except MemoryError as error:
        complain(f"dlsys-bench: out of memory: {str(error) or 'this process needs more'}")
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort) as error:
        # click raises Abort in place of the interrupt, which then is its cause.
        notes = getattr(error.__cause__ or error, "__notes__", [])
        complain("; ".join(["dlsys-bench: interrupted", *notes]))
        sys.exit(INTERRUPTED)
    except Exception:
        _end_with_internal_error()


def _show(error: click.ClickException) -> None:
    """Print an error of click, whose text may quote anything, as harmless text."""
    text = io.StringIO()
    error.show(text)
    if text.getvalue():
        complain(text.getvalue().rstrip("\n"))


def _end_with_internal_error() -> NoReturn:
    """Print the traceback of the current exception. Python would exit with 1, which means FAIL."""
    complain(traceback.format_exc())
    complain("dlsys-bench: internal error: no verdict was reached; see the traceback above")
    sys.exit(INTERNAL_ERROR)
