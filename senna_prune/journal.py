"""Journals: append-only JSON Lines files whose every line is on disk, and that survive a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from senna_prune.errors import FileError
from senna_prune.files import accessing, decode_json, open_regular, ordinary_target, sync_folder


def to_line(record: Any) -> str:
    """One JSON line. The same record gives the same bytes; they are ASCII, so any text can be written."""
    return json.dumps(record, separators=(",", ":"), sort_keys=True, allow_nan=False) + "\n"


class Journal:
    """Append-only JSON Lines file; `append` returns once the line is on disk.

    A line that a crash has cut short is removed when the file is opened again.

    Raises:
        FileError: the file cannot be written, or its first or last line is no beginning of a JSON object: then it is
            some other file, and nothing of it is changed.
    """

    def __init__(self, path: Path, hint: str | None = None) -> None:
        self.path, self.hint = path, hint
        ordinary_target(path)
        with accessing(path, "written", hint):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[bytes] = path.open("ab")
            content = path.read_bytes()
            whole = _whole_lines(content)
            torn = content[len(whole) :]
            if any(part.strip(b"\0") and not part.startswith(b"{") for part in (whole, torn)):
                self._stream.close()
                raise FileError("it is no file of JSON lines", where=path, hint="name a file that this program wrote")
            if torn:
                os.truncate(path, len(whole))
            sync_folder(path.parent)

    def append(self, record: Any) -> None:
        """Raises FileError when the disk is full or gone."""
        with accessing(self.path, "written", self.hint):
            self._stream.write(to_line(record).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        with accessing(self.path, "written", self.hint):
            self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def raw_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """(place, content) of every whole line of a journal, as they are read; a torn last line is left out.

    Raises:
        FileError: the file cannot be read.
    """
    with open_regular(path) as stream, accessing(path, "read"):
        for number, line in enumerate(stream, start=1):
            if line.endswith(b"\n"):
                yield f"{path}:{number}", line[:-1]


def read_lines(path: Path, hint: str | None = "delete that line and run again") -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, record) of every whole line of a journal.

    Raises:
        FileError: a line before the last is not a JSON object, or the file cannot be read.
    """
    for where, line in raw_lines(path):
        yield where, decode_json(line, where, hint=hint)


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]
