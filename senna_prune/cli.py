"""What the command-line tools share: one line and an exit status for a user's mistakes, and how threads wait."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable

from senna_prune.errors import SennaPruneError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells report it."""
KEPT = "every finished decision is kept, run the same command again to go on"


WAITING = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
"""How long a thread of libgomp (turns of a loop) or of libiomp5 (milliseconds) spins before it sleeps. By default both
spin so long that where other processes want the cores they take them from the work that they wait for."""


def spin_briefly() -> None:
    """Set `WAITING` for the threads of this process, and of those it starts.

    Nothing is changed where the user has said how threads wait, or where torch is there already, whose threads have
    read the environment: a program that imports this library keeps its own settings.
    """
    if "torch" not in sys.modules and not os.environ.keys() & {*WAITING, "OMP_WAIT_POLICY"}:
        os.environ.update(WAITING)


def guarded(action: Callable[[], object], interrupted: str = KEPT) -> int:
    """Run a tool: 0 when it worked, 2 and one line on standard error for a mistake the user can correct.

    What the streams cannot encode, such as file names that are no text, is printed escaped.

    Args:
        action: the tool. It should also import what takes long: Ctrl-C during an import is then one line too.
        interrupted: what Ctrl-C left behind, said after it.
    """
    spin_briefly()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    interrupts: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if default and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    try:
        action()
        sys.stdout.flush()
    except SennaPruneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except (KeyboardInterrupt, ImportError) as error:
        # numpy makes an ImportError of Ctrl-C during its import.
        if isinstance(error, ImportError) and not interrupts:
            raise
        print(f"\ninterrupted; {interrupted}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone, as `head` does; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    return 0


def counted(number: int, noun: str) -> str:
    """`1 sample`, `2 samples`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
