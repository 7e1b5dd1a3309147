"""Files that survive: an append-only journal whose every line is on disk, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from senna_prune.errors import RunError

CONTINUE = "mend it and run the same command again: every finished decision is kept"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating-system error (disk full, read-only, no such folder) into one clear line."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot be written ({error.strerror or error})", where=path, mend=CONTINUE) from error


def to_line(record: Any) -> str:
    """One JSON line; the same record gives the same bytes, and ASCII holds whatever a model may write."""
    return json.dumps(record, separators=(",", ":"), sort_keys=True, allow_nan=False) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by a file with this text, which is on disk before the old one is gone.

    Raises:
        RunError: it cannot be written.
    """
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """As `write_atomically`, for bytes."""
    draft = path.with_name(path.name + ".part")
    with writing(path):
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        _sync_folder(path.parent)


class Journal:
    """Append-only JSON Lines file; `append` returns once the line is on disk.

    A line torn by a crash is cut off when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[bytes] = path.open("ab")
            os.truncate(path, len(_whole_lines(path.read_bytes())))
            _sync_folder(path.parent)

    def append(self, record: Any) -> None:
        """Raises RunError when the disk is full or gone."""
        with writing(self.path):
            self._stream.write(to_line(record).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        with writing(self.path):
            self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, record) of every whole line; a torn last line is left out.

    Raises:
        RunError: a line before the last is not a JSON object, or the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror or error})", where=path) from error
    for number, line in enumerate(_whole_lines(content).splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RunError("not JSON", where=f"{path}:{number}", mend="delete that line and run again") from error
        if not isinstance(record, dict):
            raise RunError("not a JSON object", where=f"{path}:{number}", mend="delete that line and run again")
        yield f"{path}:{number}", record


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _sync_folder(folder: Path) -> None:
    # The rename itself must reach the disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
