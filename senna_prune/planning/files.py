"""Files of planning data: written whole or not at all, and failing in a line that names them. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from senna_prune.errors import SampleError


@contextmanager
def accessing(path: Path | str, what: Literal["read", "written"]) -> Iterator[None]:
    """Turn a failure of the file system inside into one that names the path.

    Raises:
        SampleError: the path cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        mend = (
            "check its permissions" if what == "read" else "check permissions and free space, or choose another place"
        )
        raise SampleError(f"cannot be {what} ({error.strerror or error})", where=path, mend=mend) from error


def check_output(path: Path | str) -> None:
    """Make sure that a file can be written at a path, and make its folder, before anything is computed for it.

    Raises:
        SampleError: it cannot.
    """
    path = Path(path)
    with accessing(path, "written"):
        if path.is_dir():
            raise SampleError("cannot be written (a folder stands there)", where=path, mend="name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft(path)
        draft.open("a").close()
        draft.unlink()


def write_text(path: Path | str, pieces: Iterable[str]) -> int:
    """Write text as it comes, atomically: the file appears complete or not at all, and no draft of it stays.

    Returns:
        The number of pieces.

    Raises:
        SampleError: the file cannot be written.
    """
    path = Path(path)
    check_output(path)
    draft = _draft(path)
    with accessing(path, "written"):
        out = draft.open("w", encoding="utf-8")
    count = 0
    try:
        for piece in pieces:  # not under `accessing`: what makes the pieces may fail for reasons of its own
            with accessing(path, "written"):
                out.write(piece)
            count += 1
        with accessing(path, "written"):
            out.close()
            draft.replace(path)
    finally:
        with suppress(OSError):
            out.close()
        with suppress(OSError):
            draft.unlink()
    return count


def _draft(path: Path) -> Path:
    return path.with_name(path.name + ".part")
