"""Safe reading and writing: files appear whole or not at all, journals survive a crash, JSON from outside is checked.

Every failure of the file system becomes one typed line that names the path.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Literal

from senna_prune.errors import FileError, SennaPruneError, one_line

MAX_JSON_BYTES = 64 << 20
"""Largest JSON file that is read, unless the caller allows more."""
_STREAMS = ("/dev/stdout", "/dev/null")
"""The only devices that may be written to."""


@contextmanager
def accessing(
    path: Path | str,
    what: Literal["read", "written"],
    hint: str | None = None,
    error: type[SennaPruneError] = FileError,
) -> Iterator[None]:
    """Turn a failure of the file system inside into one that names the path, a file or folder.

    Here and below `hint` is what the user can do, a general advice if absent, and `error` the type to raise.
    """
    advice = {"read": "check its path and permissions"}
    hint = hint or advice.get(what, "check permissions and free space, or choose another place")
    try:
        if "\0" in str(path):
            raise OSError("the name holds a NUL character")
        yield
    except (OSError, UnicodeEncodeError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise error(f"cannot be {what} ({reason})", where=path, hint=hint) from failure


def open_regular(path: Path | str, hint: str | None = None, error: type[SennaPruneError] = FileError) -> BufferedReader:
    """Open an ordinary file for reading; FileError over one that is absent, unreadable, or could block for ever."""
    with accessing(path, "read", hint, error):
        # O_NONBLOCK: opening a FIFO without a writer would wait.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(21, "a folder stands there")
            if not stat.S_ISREG(mode):
                raise OSError("it is no ordinary file")
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise


def read_bytes(
    path: Path | str, limit: int = MAX_JSON_BYTES, hint: str | None = None, error: type[SennaPruneError] = FileError
) -> bytes:
    """The content of an ordinary file of at most `limit` bytes; raises as `open_regular`, and for larger ones."""
    with open_regular(path, hint, error) as stream, accessing(path, "read", hint, error):
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise error(f"larger than {limit >> 20} MiB", where=path, hint="check that this is the right file")
    return content


def digest(path: Path | str) -> str:
    """SHA-256 of a file, first 16 hex digits."""
    with open_regular(path) as stream, accessing(path, "read"):
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def confined(root: Path | str, name: str, error: type[SennaPruneError] = FileError) -> Path:
    """`root / name` for a name that comes from a file: it may not be absolute or lead out of `root` by `..`.

    Symbolic links inside `root` are followed: whoever made the root put them there.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        hint = "use paths relative to the image root, without '..'"
        raise error("the path leads out of its root", where=name, hint=hint)
    return Path(root) / path


# Writing


def is_stream(path: Path | str) -> bool:
    """Whether a path is one of the devices that may be written to, beside which no file can stand."""
    return str(path) in _STREAMS


def check_output(path: Path | str) -> None:
    """Make sure that a file can be written at a path, and make its folder, before anything is computed for it."""
    if is_stream(path):
        return
    target = _ordinary_target(path)
    with accessing(path, "written"):
        target.parent.mkdir(parents=True, exist_ok=True)
        _open_draft(target).close()
        _draft(target).unlink()


def write_whole(path: Path | str, content: str | bytes | Iterable[str], hint: str | None = None) -> int:
    """Write a file atomically: it is complete and on disk before the old one is gone, and no draft of it stays.

    A symbolic link is written through: the file it points to is replaced. `/dev/stdout` and `/dev/null` take the
    content as it comes.

    Args:
        path: the file; its folder is made.
        content: all of it, or pieces of text that are written as they come. Returned is their number.

    Raises:
        FileError: the file cannot be written; what stood there before is untouched.
    """
    pieces: Iterable[str | bytes] = [content] if isinstance(content, str | bytes) else content
    count = 0
    if is_stream(path):
        for piece in pieces:
            count += 1
            if str(path) == "/dev/stdout":
                sys.stdout.write(piece if isinstance(piece, str) else piece.decode())
        return count
    check_output(path)
    target = _ordinary_target(path)
    draft = _draft(target)
    with accessing(path, "written", hint):
        out = _open_draft(target)
    try:
        for piece in pieces:  # not under `accessing`: what makes the pieces may fail for reasons of its own
            count += 1
            with accessing(path, "written", hint):
                out.write(piece.encode() if isinstance(piece, str) else piece)
        with accessing(path, "written", hint):
            out.flush()
            os.fsync(out.fileno())
            out.close()
            draft.replace(target)
            _sync_folder(target.parent)
    finally:
        with suppress(OSError):
            out.close()
        with suppress(OSError):
            draft.unlink()
    return count


def write_json(path: Path | str, record: Any, hint: str | None = None) -> None:
    """Write a record as indented JSON with sorted keys, atomically; raises as `write_whole` does."""
    write_whole(path, json.dumps(record, indent=1, sort_keys=True) + "\n", hint)


def _ordinary_target(path: Path | str) -> Path:
    """The ordinary file behind a path, which need not exist yet."""
    with accessing(path, "written"):
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise FileError("cannot be written (a folder stands there)", where=path, hint="name a file")
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise FileError("cannot be written (it is no ordinary file)", where=path, hint="name an ordinary file")
    return target


def _draft(path: Path) -> Path:
    # Names have at most 255 bytes.
    return path.with_name(os.fsdecode(os.fsencode(path.name)[:250]) + ".part")


def _open_draft(path: Path) -> IO[bytes]:
    """A new draft. What a killed run left is removed, not written into: it might be a link to somewhere else."""
    draft = _draft(path)
    draft.unlink(missing_ok=True)
    return draft.open("xb")


def _sync_folder(folder: Path) -> None:
    # A new name itself must reach the disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# JSON from outside


def decode_json(
    text: bytes | str,
    where: object,
    kind: type | tuple[type, ...] = dict,
    hint: str | None = None,
    error: type[SennaPruneError] = FileError,
) -> Any:
    """Decode JSON that somebody else may have written.

    Args:
        text: the document.
        where: file or line, for messages.
        kind: Python type the document must have: `dict` for an object, `list` for an array.

    Raises:
        FileError: not UTF-8, not JSON, nested too deeply, an integer of thousands of digits, or of another type.
    """
    try:
        record = json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except RecursionError as failure:
        raise error("not JSON (nested too deeply)", where=where, hint=hint) from failure
    except ValueError as failure:
        reason = failure.msg if isinstance(failure, json.JSONDecodeError) else one_line(failure)
        raise error(f"not JSON ({reason})", where=where, hint=hint) from failure
    if not isinstance(record, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join("object" if one is dict else "array" if one is list else one.__name__ for one in kinds)
        raise error(f"not a JSON {wanted}", where=where, hint=hint)
    return record


def read_json(
    path: Path | str,
    kind: type | tuple[type, ...] = dict,
    limit: int = MAX_JSON_BYTES,
    hint: str | None = None,
    error: type[SennaPruneError] = FileError,
) -> Any:
    """Read a JSON file that somebody else may have written; raises as `read_bytes` and `decode_json` do."""
    return decode_json(read_bytes(path, limit, hint, error), path, kind, hint, error)


# Journals: append-only JSON Lines files whose every line is on disk


def to_line(record: Any) -> str:
    """One JSON line. The same record gives the same bytes; they are ASCII, so any text can be written."""
    return json.dumps(record, separators=(",", ":"), sort_keys=True, allow_nan=False) + "\n"


class Journal(AbstractContextManager["Journal"]):
    """Append-only JSON Lines file; `append` returns once the line is on disk.

    A line that a crash has cut short is removed when the file is opened again.

    Raises:
        FileError: the file cannot be written, or its first or last line is no beginning of a JSON object: then it is
            some other file, and nothing of it is changed.
    """

    def __init__(self, path: Path, hint: str | None = None) -> None:
        self.path, self.hint = path, hint
        _ordinary_target(path)
        with accessing(path, "written", hint):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[bytes] = path.open("ab")
            content = path.read_bytes()
            length = content.rfind(b"\n") + 1
            if any(part.strip(b"\0") and not part.startswith(b"{") for part in (content[:length], content[length:])):
                self._stream.close()
                raise FileError("it is no file of JSON lines", where=path, hint="name a file that this program wrote")
            if length < len(content):
                os.truncate(path, length)
            _sync_folder(path.parent)

    def append(self, record: Any) -> None:
        """Raises FileError when the disk is full or gone."""
        with accessing(self.path, "written", self.hint):
            self._stream.write(to_line(record).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def __exit__(self, *error: object) -> None:
        with accessing(self.path, "written", self.hint):
            self._stream.close()


def raw_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """(place, content) of every whole line of a journal, as they are read; a torn last line is left out."""
    with open_regular(path) as stream, accessing(path, "read"):
        for number, line in enumerate(stream, start=1):
            if line.endswith(b"\n"):
                yield f"{path}:{number}", line[:-1]


def read_lines(path: Path, hint: str | None = "delete that line and run again") -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, record) of every whole line of a journal; raises FileError over one that is not a JSON object."""
    for where, line in raw_lines(path):
        yield where, decode_json(line, where, hint=hint)
