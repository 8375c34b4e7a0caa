"""Entry point of the command `edgesem`, whose subcommands come from the installed packages.

Commands are the entry points of the group `edgesem.commands`, see `edgesem.cli.app`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from edgesem.cli.app import run_typer
from edgesem.cli.console import fail
from edgesem.errors import EdgesemError

GROUP = "edgesem.commands"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 check failed, 2 usage, 3 environment missing."""
    args = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in args
    try:
        code = run_typer(args, list(entry_points(group=GROUP)))
        sys.stdout.flush()
        return code
    except EdgesemError as error:
        return fail(error, error.exit_code, as_json)
    except BrokenPipeError:
        # The reader of a pipe has seen enough (`edgesem info ... | head`). Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, EOFError) as error:  # a full disk, no permission, a file cut short: no fault of ours
        return fail(error, 1, as_json)
    except KeyboardInterrupt:
        return 130
