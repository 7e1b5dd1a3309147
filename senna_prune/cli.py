"""What the command-line tools share: one line and an exit status for everything a user can cause."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from senna_prune.errors import SennaPruneError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells report it."""


KEPT = "every finished decision is kept, run the same command again to go on"


def guarded(action: Callable[[], object], interrupted: str = KEPT) -> int:
    """Run a tool: 0 when it worked, 2 and one line on standard error for a mistake the user can correct.

    Args:
        interrupted: what Ctrl-C left behind, said after it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold bytes that are no text
    try:
        action()
        sys.stdout.flush()
    except SennaPruneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {interrupted}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone, as `head` does; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
